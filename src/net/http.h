/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What HTTP/1.1 servers and clients share: heads, queries, headers. Header
 * names are compared without case. All text of a request lives in its arena.
 */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"

struct http_param { /* a header, or a query parameter (decoded) */
	const char *name;
	const char *value;
};

struct http_params {
	struct http_param *v;
	size_t n;
};

#define HTTP_PARAMS_MAX 100

/* The value, or NULL. Headers: no case; the first one. */
const char *http_header(const struct http_params *headers, const char *name);
/* Query parameters: exact; the first one. */
const char *http_query(const struct http_params *query, const char *name);

/* Splits "a=1&b=x%20y+z"; %XX and + decoded, NUL and malformed %XX refused. */
int http_query_parse(const char *text, size_t len, struct arena *arena,
    struct http_params *ret, struct err *err);

/* "Processing" for 102 and so on; "Unknown" for what we don't send. */
const char *http_reason(int status);

/* Percent-encodes everything but unreserved characters; heap. */
char *http_encode(const char *s);

#endif
