/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * WebSocket (RFC 6455, wslay) over an io, server side: binary messages in and
 * out as a stream of bytes, pings answered, close handshake. Used for the
 * browser's display and channels.
 */
#ifndef NET_WS_H
#define NET_WS_H

#include "net/http_server.h"

struct ws;

enum ws_event {
	WS_DATA, /* ws_input() */
	WS_LOWAT,
	WS_CLOSED /* cleanly or by error; only ws_free() is left */
};
typedef void (*ws_cb)(struct ws *ws, enum ws_event event, void *arg);

/* Checks the request's headers (version 13, key, and that `protocol`, if not
 * NULL, is offered), answers 101 and takes the io. On failure the request is
 * still to be answered. */
struct ws *ws_accept(struct http_conn *conn, const struct http_request *req,
    const char *protocol, ws_cb cb, void *arg, struct err *err);
const char *ws_input(struct ws *ws, size_t *ret_len);
void ws_consume(struct ws *ws, size_t n);
void ws_write(struct ws *ws, const void *data, size_t n);
size_t ws_queued(const struct ws *ws);
void ws_pause(struct ws *ws);
void ws_resume(struct ws *ws);
void ws_free(struct ws *ws);

#endif
