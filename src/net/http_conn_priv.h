/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The inside of a server connection, for http_server.c (requests in) and
 * http_respond.c (answers out). Not for other folders.
 */
#ifndef NET_HTTP_CONN_PRIV_H
#define NET_HTTP_CONN_PRIV_H

#include "json/json.h"
#include "net/http_priv.h"
#include "net/http_server.h"

enum http_conn_state {
	HTTP_CONN_IDLE,      /* between requests */
	HTTP_CONN_HEAD,      /* a request has begun */
	HTTP_CONN_BODY,      /* its head is there */
	HTTP_CONN_ANSWERING, /* the handler's turn */
	HTTP_CONN_STREAMING, /* between http_respond_begin() and _end() */
	HTTP_CONN_CLOSING,   /* answered; closes at the end of the turn */
	HTTP_CONN_GONE
};

struct http_conn {
	struct loop *loop;
	struct io *io;
	struct http_server_conf conf;
	struct http_handlers handlers;
	void *arg;
	enum http_conn_state state;
	bool handshaking;
	bool finishing;   /* answered; goes on at the end of the turn */
	bool early;       /* bytes came before the answer */
	bool close_after; /* the answer that comes */
	bool http10;
	bool head_only;
	bool chunked; /* the streaming answer is */
	size_t scanned;
	struct http_msg msg;
	struct arena *arena;
	struct buf body;
	struct http_request req;
};

/* The answer is complete: the next request, or the end. */
void http_conn_answered(struct http_conn *conn);
/* Forgets the io; the memory goes at the end of the turn. */
void http_conn_gone(struct http_conn *conn);

#endif
