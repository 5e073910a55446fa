/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The image store of a node: an OSTree repository in `bare` mode under
 * <data>/images/repo, and hard-linked checkouts under
 * <data>/images/trees/<commit>, made complete or not at all and never
 * modified. Files that two images share are one inode, and so one page cache
 * for all desktops. Synchronous, root, in a process of its own
 * (qvd-hkd-image): GLib and libarchive stay out of the daemons. A process
 * that is killed leaves only files under <data>/images/tmp, which the next
 * one removes.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdint.h>

#include "base/err.h"

#define IMAGE_CHECKSUM_LEN 64
#define IMAGE_ENTRIES_MAX  5000000 /* files of one image */
#define IMAGE_DEPTH_MAX    128     /* directories below each other */

struct image_import {
	const char *data_dir;
	int64_t image_id;
	const char *source; /* a directory, or a tar, .gz .xz .zst */
	const char *author; /* these may be "" */
	const char *message;
	const char *version;
	/* percent never falls; text is a short sentence. May be NULL. */
	void (*progress)(int percent, const char *text, void *arg);
	void *arg;
};

/* Commits the source's files: regular files, directories and links with
 * owner, mode and xattrs; device nodes, pipes and sockets are left out. The
 * commit is kept by the ref image/<image_id>. */
int image_import(const struct image_import *import,
    char ret_checksum[static IMAGE_CHECKSUM_LEN + 1], uint64_t *ret_bytes,
    struct err *err);
/* trees/<checksum> exists afterwards, complete. ERR_IMAGE if the repository
 * doesn't have the commit. */
int image_checkout(const char *data_dir, const char *checksum, struct err *err);
/* Reads every object of the commit, and the checkout if there is one, and
 * compares with the checksums. */
int image_verify(const char *data_dir, const char *checksum, struct err *err);
/* Removes what killed imports and checkouts left; does nothing while one is
 * running. */
int image_tidy(const char *data_dir, struct err *err);

#endif
