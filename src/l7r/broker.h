/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The role broker: the only one with the database, and the client of
 * hkd.sock. It decides by model/acquire.h and answers what the workers ask:
 *
 *   login {conn, for, address, login, password | token, headers | refuse}
 *         host in service, and for whom the connection speaks
 *   list {conn, applications}           {list}
 *   connect {conn, vm_id, address, client, resume?}
 *         progress {text}; {generation, key, user, properties} + descriptor
 *   connected {conn, vm_id, generation}
 *   stop {conn, vm_id}                  progress {text}; {}
 *   store_auth, create_token {conn}     {object}
 * told: sessions {list}, disconnected {…}, failed {…}, closed {conn}
 * tells: evict {vm_id, generation, reason}
 *
 * Failures are {"failed": …} (l7r/failure.h). Nobody can name a user: who
 * speaks is what the broker remembers of (worker, conn).
 *
 * Files: broker.c (process, links), broker_login.c, broker_vm.c (the rows of
 * a VM, locked), broker_wait.c (until a VM's state is right),
 * broker_connect.c, broker_stop.c, broker_session.c (who holds what),
 * broker_hkd.c, broker_event.c, broker_token.c, broker_settings.c,
 * broker_sql.c. All private to the role.
 */
#ifndef L7R_BROKER_H
#define L7R_BROKER_H

#include "auth/limit.h"
#include "auth/name.h"
#include "base/list.h"
#include "base/map.h"
#include "db/db.h"
#include "l7r/failure.h"
#include "loop/loop.h"
#include "model/acquire.h"
#include "net/rpc.h"

#define AGENT_BYTES_MAX 128 /* of a client's User-Agent */
#define DIGEST_BYTES    32  /* SHA-256 */

/* The rows l7r.* of configs, or their defaults. */
struct broker_settings {
	char tenant[AUTH_NAME_MAX + 1]; /* of logins without one */
	char separators[9];             /* between login and tenant */
	int64_t start_ms, stop_ms;      /* for a VM */
	int64_t session_ms;             /* for its X session */
	int64_t token_ms;               /* a token's life */
};

struct broker {
	struct loop *loop;
	struct rpc *parent;
	struct db *db;
	struct err schema_err; /* why this program can't use the database */
	char *host_name;
	int64_t host_id; /* 0: not known yet */
	struct broker_settings settings;
	int n_workers;
	struct list workers; /* struct worker_link */
	struct list auths;   /* struct auth_link */
	struct list logins;  /* struct login_op: under way */
	int n_logins;
	struct map addresses; /* address -> int *: logins under way from it */
	struct list attempts; /* struct attempt: acquiring a session */
	struct list stops;    /* struct stop_op */
	struct list waits;    /* struct wait */
	struct map holds;     /* vm_id -> struct hold, chained */
	struct auth_limit *limit;
	unsigned char seed[16]; /* of the digests of credentials */
	struct hkd *hkd;
	struct timer grace;  /* workers have this long to report */
	struct timer resync; /* what could not be written down */
	bool graced;
	struct timer down;  /* the database may be away so long */
	struct list events; /* struct event: not yet in the database */
	size_t n_events;
	bool stopping, finishing;
	struct timer stop;
};

/* Who speaks on a connection. */
struct login {
	int64_t user_id;
	int64_t tenant_id;
	int64_t token_vm_id; /* a token for this VM only; 0: any */
	char login[AUTH_NAME_MAX + 1];
	char tenant[AUTH_NAME_MAX + 1];
	unsigned char digest[DIGEST_BYTES]; /* of what proved it */
};

struct worker_link {
	struct list link;
	struct broker *broker;
	struct rpc *rpc;
	int index;
	bool reported;
	struct map logins; /* conn -> struct login */
};

struct auth_link {
	struct list link;
	struct broker *broker;
	struct rpc *rpc;
	int pending;
};

/* A session that a client of a worker holds, or is being given. */
struct hold {
	struct hold *next; /* of the same VM: an older one, being evicted */
	int64_t vm_id;
	int64_t generation;
	struct worker_link *worker;
	uint64_t conn;
	int64_t user_id;
	bool connected;
	bool writing;  /* its transaction is being committed; meanwhile */
	bool outdated; /* somebody has acquired a newer generation */
	struct attempt *attempt; /* NULL: the worker knows of it */
};

/* broker.c */
void reply_failure(struct rpc_call *call, const struct failure *f);
/* Who speaks; NULL (and the call has been answered) if nobody. */
struct login *login_of(
    struct worker_link *w, struct rpc_call *call, const json_t *args);
/* {"text": ...} on the way to an answer. */
__attribute__((format(printf, 2, 3))) void progress(
    struct rpc_call *call, const char *fmt, ...);
/* SHA-256 of text as a bytea parameter: "\x" and hex. */
#define HASH_TEXT (2 + 2 * DIGEST_BYTES + 1)
void hash_text(char dst[static HASH_TEXT], const char *text);

/* broker_settings.c */
void settings_defaults(struct broker_settings *s);
void settings_read(struct broker *b);

/* broker_login.c */
void op_login(struct rpc_call *call, const json_t *args, int fd, void *arg);
void login_worker_gone(struct worker_link *w);
void auth_link_gone(struct auth_link *a);
void logins_free(struct broker *b);

/* broker_token.c */
void op_list(struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_create_token(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_store_auth(
    struct rpc_call *call, const json_t *args, int fd, void *arg);

/* broker_connect.c */
void op_connect(struct rpc_call *call, const json_t *args, int fd, void *arg);
/* Somebody else has the session now. */
void attempt_evict(struct attempt *a);

/* broker_stop.c */
void op_stop(struct rpc_call *call, const json_t *args, int fd, void *arg);

/* broker_session.c */
void op_connected(struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_disconnected(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_failed(struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_closed(struct rpc_call *call, const json_t *args, int fd, void *arg);
void op_sessions(struct rpc_call *call, const json_t *args, int fd, void *arg);
struct hold *hold_new(struct worker_link *w, uint64_t conn, int64_t vm_id,
    int64_t generation, int64_t user_id);
struct hold *hold_find(struct broker *b, int64_t vm_id, int64_t generation);
/* Forgets it and writes the row. */
void hold_release(struct broker *b, struct hold *h);
/* Somebody acquired a generation: whoever has an older one here goes. */
void sessions_evict(struct broker *b, int64_t vm_id, int64_t generation);
void sessions_worker_gone(struct worker_link *w);
/* Compares our rows with what the workers hold; mends both. */
void sessions_sync(struct broker *b);
/* All rows of this host, at an orderly end. */
void sessions_end(struct broker *b, db_cb cb);

/* broker_vm.c: locks the row of a VM and reads all that a decision needs. */
struct vm_read {
	struct broker *broker;
	struct arena *arena;
	struct db_txn *txn; /* NULL before and after */
	bool committing;
	int pending; /* answers still to come */
	struct err err;
	struct acquire_in in;
	struct vm_row vm;
	struct vm_runtime_row runtime;
	struct session_row session;
	struct user_row user;
	struct tenant_row tenant;
	void (*cb)(struct vm_read *vr, const struct err *err);
	void (*done)(struct vm_read *vr, const struct err *err);
};
/* Begins the transaction; cb with err, or with vr->in filled. */
void vm_read_start(struct vm_read *vr, struct broker *b, int64_t vm_id,
    const struct login *login,
    void (*cb)(struct vm_read *vr, const struct err *err));
/* A statement of the same transaction; when the last of those given has
 * been answered, done is called. */
void vm_read_exec(struct vm_read *vr, const struct db_stmt *stmt,
    const struct db_params *params,
    void (*done)(struct vm_read *vr, const struct err *err));
void vm_read_commit(struct vm_read *vr,
    void (*done)(struct vm_read *vr, const struct err *err));
/* Rolls back if it is not being committed; nothing is called any more. */
void vm_read_end(struct vm_read *vr);

/* broker_wait.c: a VM's state, at once and whenever it changes. */
struct wait {
	struct list link;
	struct broker *broker;
	int64_t vm_id;
	bool reading, again;
	/* row NULL: it never ran. err: the database has been away too long;
	 * the wait is over. wait_done() inside is allowed. */
	void (*cb)(
	    const struct vm_runtime_row *row, const struct err *err, void *arg);
	void *arg;
};
void wait_start(struct wait *w, struct broker *b, int64_t vm_id,
    void (*cb)(const struct vm_runtime_row *, const struct err *, void *),
    void *arg);
void wait_done(struct wait *w); /* harmless if not started or done */
void wait_notify(struct broker *b, int64_t vm_id);
void wait_db_up(struct broker *b);
void wait_db_down(struct broker *b);
void wait_db_lost(struct broker *b, const struct err *err);

/* broker_hkd.c: the way to a VM's agent. Tries again until its deadline when
 * the daemon is being restarted. */
struct hkd_ask {
	struct list link;
	struct hkd *hkd;
	int64_t vm_id, epoch;
	int64_t deadline_ms;
	struct rpc_request *request;
	void (*cb)(int fd, const struct err *err, void *arg);
	void *arg;
};
struct hkd *hkd_new(struct loop *loop, const char *path);
void hkd_free(struct hkd *hkd);
void hkd_channel(struct hkd_ask *ask, struct hkd *hkd, int64_t vm_id,
    int64_t epoch, void (*cb)(int fd, const struct err *err, void *arg),
    void *arg);
void hkd_ask_done(struct hkd_ask *ask); /* harmless if not under way */

/* broker_event.c: the timeline. Kept (bounded) while the database is away. */
struct event {
	const char *name;
	int64_t vm_id, user_id; /* 0: none */
	const char *text;
	int64_t duration_ms; /* -1: none */
	const struct failure *failure;
	bool of_image; /* it tells something of the image that the VM runs */
};
void event_write(struct broker *b, const struct event *e);
/* The same as a parameter list, for use inside a transaction. */
void event_params(
    struct db_params *p, const struct broker *b, const struct event *e);
void events_free(struct broker *b);

#endif
