/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The role worker: accepts clients, TLS, HTTP, and relays desktops. Private
 * to its files: worker.c (the process and its links), client.c (a connection
 * and its requests), connect.c (connect_to_vm and stop_vm), relay.c (what
 * connect becomes). It has no files and no database; all that it wants to
 * know or may do is an answer of the broker.
 *
 * The worker owns its clients and relays, each on exactly one list. A client
 * ends in client_closed(); connect_to_vm turns it into a relay.
 */
#ifndef L7R_WORKER_H
#define L7R_WORKER_H

#include "base/list.h"
#include "l7r/failure.h"
#include "net/http_server.h"
#include "net/listen.h"
#include "net/rpc.h"
#include "net/tls.h"

#define LOGIN_DEADLINE_MS (120 * 1000) /* with the wait of a guesser */
#define ASK_DEADLINE_MS   (30 * 1000)
/* The broker's own is shorter: at most the hour of l7r.timeout.*. */
#define START_DEADLINE_MS (3660 * 1000)
#define NOTES_MAX         4096 /* kept for a broker that is restarting */

struct worker {
	struct loop *loop;
	int index;
	struct rpc *parent;
	struct rpc *broker; /* NULL while there is none */
	struct tls_ctx *tls;
	struct listener *listener; /* NULL once it drains */
	bool draining;
	uint64_t last_conn;
	struct list clients;
	struct list sessions; /* struct session: held, or being connected */
	json_t *notes;        /* array of [op, args] for the next broker */
};

/* A session in a VM that a client of ours has acquired: from the broker's
 * answer to its end. */
struct session {
	struct list link;
	struct worker *worker;
	int vm_id;
	int64_t generation;
	struct connect *connect; /* who is being connected, or */
	struct relay *relay;     /* the bytes */
};

struct client {
	struct list link;
	struct worker *worker;
	uint64_t id;
	struct io *io;            /* until TLS is up */
	struct http_conn *conn;   /* from then on */
	struct http_request *req; /* being answered */
	const struct endpoint *endpoint;
	struct rpc_request *ask; /* at the broker */
	struct connect *connect;
	struct timer patience; /* waiting for a broker */
	bool waiting;
	bool retried; /* the login, after its broker died */
	bool known;   /* the broker remembers who it is */
	char address[64];
};

struct endpoint {
	const char *path;
	const char *purpose; /* what the broker checks the host for */
	bool login;
	void (*run)(struct client *c);
};

/* worker.c */
/* To the broker, or to the next one. Takes args. */
void worker_note(struct worker *w, const char *op, json_t *args);
/* A connection has ended. */
void worker_closed_one(struct worker *w);
struct session *session_new(struct worker *w, int vm_id, int64_t generation);
void session_free(struct session *s);

/* client.c */
void client_new(struct worker *w, int fd);
void client_free(struct client *c);
/* There is a broker again. */
void client_retry(struct client *c);
void client_fail(struct client *c, const struct failure *f);
/* "The requested virtual machine is not available: ..." */
void client_fail_vm(struct client *c, const struct failure *f);
void client_text(struct client *c, int status, const char *text);
/* A 102 with X-QVD-VM-Info. */
void client_progress(struct client *c, const char *text);
/* Asks about this connection: adds its number to args. At most one question
 * at a time. */
void client_ask(struct client *c, const char *op, json_t *args,
    int64_t deadline_ms, rpc_result_cb cb, rpc_progress_cb progress);
/* True if the answer is a failure, which is then in *ret. */
bool answer_failed(
    const json_t *answer, const struct err *err, struct failure *ret);
/* The request has been answered, or its client has gone. */
void client_done(struct client *c);
/* The connection has become io: forgets the client. */
struct io *client_upgrade(struct client *c, const char *headers);

/* connect.c */
void connect_run(struct client *c);
void stop_run(struct client *c);
void connect_free(struct connect *cn);
/* Somebody else has the session now. */
void connect_evict(struct connect *cn);

/* relay.c */
/* Takes both ios and the session. */
void relay_new(
    struct session *s, struct io *client, struct io *vm, const char *address);
/* Closes both sides at once. reason: for the timeline. */
void relay_end(struct relay *relay, const char *reason);

#endif
