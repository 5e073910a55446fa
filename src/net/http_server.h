/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server side of one HTTP/1.1 connection (llhttp). It owns its io until
 * an upgrade hands it out. One request at a time: bytes that arrive while a
 * request is being answered are held back (bounded) and, if the request did
 * not end with an upgrade, are the next request; a second request sent before
 * the answer to the first ("pipelining") is answered 400 and closed cleanly
 * unless conf.tolerate_early is set.
 */
#ifndef NET_HTTP_SERVER_H
#define NET_HTTP_SERVER_H

#include <jansson.h>

#include "net/http.h"
#include "net/io.h"

struct http_server_conf {
	size_t head_max;           /* request line and headers; 16384 */
	size_t body_max;           /* 0: no body allowed */
	int64_t header_timeout_ms; /* from first byte to end of head; 10 s */
	int64_t body_timeout_ms;
	int64_t idle_timeout_ms; /* between requests; 60 s */
	bool lenient; /* the client port: bare LF, no Host, spaces in the URL,
		       * 'Connection: Upgrade' by exact words; any version
		       * but HTTP/1.1 is answered 505; errors are text */
	bool tolerate_early; /* see above */
};
extern const struct http_server_conf http_server_defaults;

struct http_conn;

struct http_request {
	const char *method; /* "GET" */
	const char *path;   /* decoded, without query; starts with '/' */
	struct http_params query;
	struct http_params headers;
	const char *body; /* NULL if none */
	size_t body_len;
	struct arena *arena; /* freed when the answer is complete */
};

struct http_handlers {
	/* A whole request is there. Answer now or later, exactly once. */
	void (*on_request)(
	    struct http_conn *conn, struct http_request *req, void *arg);
	/* The peer went away while its request was open (may be NULL): stop
	 * the work. No answer is possible any more. */
	void (*on_abort)(struct http_conn *conn, void *arg);
	/* The connection ends; conn is freed after this (may be NULL). */
	void (*on_close)(struct http_conn *conn, void *arg);
};

/* Takes io, which may still be in its TLS handshake. */
struct http_conn *http_conn_new(struct io *io,
    const struct http_server_conf *conf, const struct http_handlers *handlers,
    void *arg);
/* Closes at once; on_close is not called. */
void http_conn_free(struct http_conn *conn);
struct io *http_conn_io(struct http_conn *conn);
void *http_conn_arg(struct http_conn *conn);

/* Answers; the request is gone after the turn that completes one. headers:
 * "Name: value\r\n" lines or NULL; the rest (length, content type) is added.
 * body is copied. close: no further request. */
void http_respond(struct http_conn *conn, int status, const char *headers,
    const char *content_type, const void *body, size_t len);
void http_respond_text(struct http_conn *conn, int status, const char *text);
/* Takes the reference to value. */
void http_respond_json(struct http_conn *conn, int status, json_t *value);
/* {"error": {"id", "message"}} with the err's status. */
void http_respond_err(struct http_conn *conn, const struct err *err);
/* An interim answer (102) with header lines. */
void http_respond_interim(
    struct http_conn *conn, int status, const char *headers);
/* A chunked answer of unknown length (event streams). send false: the peer
 * reads too slowly and more than 1 MiB is queued; close it. */
void http_respond_begin(struct http_conn *conn, int status, const char *headers,
    const char *content_type);
bool http_respond_chunk(struct http_conn *conn, const void *data, size_t len);
void http_respond_end(struct http_conn *conn);
/* After the current answer, close instead of waiting for a request. */
void http_conn_close_after(struct http_conn *conn);

/* Sends "101 Switching Protocols" with exactly these header lines and hands
 * out the io, with bytes that came after the head still in its input. The
 * conn is gone (on_close is not called). */
struct io *http_upgrade(struct http_conn *conn, const char *headers);

#endif
