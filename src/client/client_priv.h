/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The inside of libqvdclient: the client object, and the steps that api.c
 * offers to the outside: requests (farm.c), the session (session.c). One
 * thread at a time uses an object; only cancel_fd is written by others.
 */
#ifndef CLIENT_CLIENT_PRIV_H
#define CLIENT_CLIENT_PRIV_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "client/answer.h"
#include "client/conn.h"
#include "client/trust.h"
#include "qvd/client.h"

#define CLIENT_EARLY_MAX (64 * 1024) /* bytes read together with the 101 */

struct qvd_client {
	char *host;
	int port;
	char *user;
	char *password; /* secret */
	char *token;    /* secret: given, or made for reconnections */
	char *program_dir;
	int timeout_ms;
	qvd_event_cb on_event;
	void *arg;
	struct trust trust;
	struct conn conn;
	int cancel_fd; /* eventfd: readable once cancel was called */
	char ref[16];  /* of the last refusal by the server, or "" */
};

/* Tells the caller; text may be NULL. */
void client_event(
    struct qvd_client *c, int type, const char *text, int pause_ms);

/* farm.c: requests */

struct farm_request {
	const char *path;    /* "/qvd/list_of_vm" */
	const char *query;   /* encoded, without '?'; NULL: none */
	const char *resume;  /* slave key of the lost connection, or NULL */
	int64_t deadline_ms; /* time_now_ms() */
	bool upgrade;        /* ends with 101 */
};

/* Opens the connection if there is none, so that its round trip is known. */
int farm_open(struct qvd_client *c, int64_t deadline_ms, struct err *err);
/* One request. On success *answer (inited by this function, answer_done()
 * by the caller in any case) has a status of 2xx or 101; *early the bytes
 * after the 101. Refusals become errors. */
int farm_request(struct qvd_client *c, const struct farm_request *req,
    struct answer *answer, struct buf *early, struct err *err);
/* Asks for a token with user and password; heap, secret. */
int farm_token(struct qvd_client *c, char **ret_token, struct err *err);
int farm_list(
    struct qvd_client *c, int kind, struct qvd_list **ret, struct err *err);

/* session.c */
int session_run(struct qvd_client *c, const struct qvd_session_options *options,
    struct err *err);

#endif
