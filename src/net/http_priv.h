/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One HTTP/1.1 message coming in, for server and client: the head is parsed
 * as a whole (llhttp) after its end was found, then held against rules of our
 * own, so that two readers can't understand it differently; the body follows
 * piece by piece. Not for other folders.
 */
#ifndef NET_HTTP_PRIV_H
#define NET_HTTP_PRIV_H

#include <llhttp.h>

#include "base/buf.h"
#include "net/http.h"

enum http_body {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,
	HTTP_BODY_CHUNKED,
	HTTP_BODY_TO_END /* of the connection; answers only */
};

struct http_msg {
	llhttp_t parser;
	struct arena *arena; /* the owner's */
	struct http_params headers;
	const char *method; /* requests */
	const char *target;
	int status;   /* answers */
	bool minor0;  /* HTTP/1.0 */
	bool close;   /* the peer wants to close after this message */
	bool upgrade; /* Connection has the word "upgrade" */
	enum http_body body;
	uint64_t body_left; /* HTTP_BODY_LENGTH */
	bool complete;
	/* Gets the body; false: too much. */
	bool (*on_body)(const void *data, size_t len, void *arg);
	void *arg;
	bool refused;       /* on_body said no */
	size_t chunk_bytes; /* since the last content, limited */
	const char *name;   /* the header whose value is coming */
};

/* Length of the head with its blank line, 0 if its end isn't there yet.
 * *scanned remembers where to go on. */
size_t http_head_end(const char *text, size_t len, size_t *scanned);

/* Parses a whole head. arena is for the strings. Returns 0, or the HTTP
 * status that says what is wrong (400, 431, 501, 505), err filled. */
int http_msg_head(struct http_msg *m, llhttp_type_t type, struct arena *arena,
    const char *text, size_t len, struct err *err);
/* Feeds body bytes; *ret_used: how many were the body's. m->complete at the
 * end. Same returns as http_msg_head(), 413 if on_body() refused. */
int http_msg_body(struct http_msg *m, const char *data, size_t len,
    size_t *ret_used, struct err *err);

/* Rewrites a head as old QVD clients send it to one that strict rules can
 * be applied to. Returns 0 or the HTTP status, err filled. */
int http_lenient_head(
    const char *text, size_t len, struct buf *ret, struct err *err);

/* Decodes %XX into the arena; plus: '+' is a space. NULL: malformed, NUL, or
 * no room. */
char *http_decode(struct arena *arena, const char *text, size_t len, bool plus);
/* True if a comma-separated header value has the word, without case. */
bool http_has_word(const char *value, const char *word);

#endif
