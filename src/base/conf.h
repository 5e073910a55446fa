/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ini files by table (inih): /etc/qvd/node.conf and the client's files. An
 * unknown section or key is an error that names file and line, so that a
 * typo is never silent. Values are copied; conf_done() frees them.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stddef.h>

#include "base/err.h"

enum conf_type {
	CONF_STR,      /* char *: heap */
	CONF_INT,      /* int within [min, max] */
	CONF_BOOL,     /* bool */
	CONF_DURATION, /* int64_t, milliseconds */
	CONF_SIZE,     /* uint64_t, bytes */
};

struct conf_key {
	const char *section; /* "" for keys before the first section */
	const char *key;     /* NULL ends the table */
	enum conf_type type;
	size_t offset;
	const char *def; /* default as text; NULL: stays zero */
	int min, max;
	const char *doc; /* a sentence for the manual */
};

/* Fills *out, which is zeroed or was filled before, with the defaults, then
 * with the file. path NULL: defaults only. A missing file is ERR_CONFIG.
 * Limits: 1 MiB, 198 bytes a line. " ;" begins a comment. */
int conf_load(
    const char *path, const struct conf_key *table, void *out, struct err *err);
/* The same from memory; name is for error sentences. */
int conf_parse(const char *name, const char *text, const struct conf_key *table,
    void *out, struct err *err);
void conf_done(const struct conf_key *table, void *out);

#endif
