/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The Debian packages of an image, from dpkg's status file. Pure: text in, a
 * sorted list out; the text is a stranger's, and what in it is no package is
 * passed over. One list is one heap block each for entries and text.
 */
#ifndef IMAGE_PACKAGES_H
#define IMAGE_PACKAGES_H

#include <stddef.h>
#include <stdint.h>

#define PACKAGES_TEXT_MAX ((size_t)64 * 1024 * 1024)
#define PACKAGES_MAX      200000

struct package {
	char *name; /* "libc6:amd64" */
	char *version;
	uint64_t bytes; /* as dpkg says: Installed-Size */
};

struct packages {
	struct package *list; /* by name, each once */
	size_t n;
};

/* text need not end with a NUL. Those that are installed. */
void packages_parse(const char *text, size_t len, struct packages *ret);
void packages_done(struct packages *packages);

#endif
