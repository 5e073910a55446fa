/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client side of one HTTP/1.1 connection: L7R and HKD to a VMA. It owns
 * its io until an upgrade hands it out. One request at a time. Treats every
 * byte of the answer as hostile: limits on head, body and interim answers.
 */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include <jansson.h>

#include "net/http.h"
#include "net/io.h"

struct http_client;

struct http_response {
	int status;
	struct http_params headers;
	const char *body; /* NUL added */
	size_t body_len;
	json_t *json; /* parsed if the type is application/json; borrowed */
};

/* Exactly one of the last three calls ends a request:
 * on_response, on_upgrade or on_error. */
struct http_client_handlers {
	void (*on_interim)(int status, const struct http_params *headers,
	    void *arg); /* may be NULL */
	/* A chunk of a streamed answer (request with stream = true). */
	void (*on_chunk)(const void *data, size_t len, void *arg);
	void (*on_response)(const struct http_response *res, void *arg);
	/* 101: the stream is the callee's, early bytes are its input; the
	 * client is gone. */
	void (*on_upgrade)(
	    struct io *io, const struct http_params *headers, void *arg);
	void (*on_error)(const struct err *err, void *arg);
};

struct http_client *http_client_new(struct io *io);
void http_client_free(struct http_client *c);

struct http_client_request {
	const char *method;
	const char *target;  /* encoded path and query */
	const char *upgrade; /* protocol name, NULL: none */
	const char *headers; /* further lines, or NULL */
	const json_t *json;  /* body, or NULL */
	bool stream;         /* body by on_chunk, on_response at its end */
	int64_t timeout_ms;  /* for the final answer's head; 0: none */
	size_t body_max;     /* 0: 1 MiB */
};
void http_client_send(struct http_client *c,
    const struct http_client_request *req,
    const struct http_client_handlers *handlers, void *arg);

#endif
