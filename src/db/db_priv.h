/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/db share: one connection in pipeline mode (conn.c),
 * the pool and its transactions (db.c), results and errors (result.c). Not
 * for other folders.
 *
 * An operation (struct db_op) is one statement and its Sync, so that each
 * fails alone. It is on exactly one list: db->waiting (no connection yet),
 * conn->sent (in the order of the answers), or db->failed (its callback is
 * due at the end of this turn).
 */
#ifndef DB_DB_PRIV_H
#define DB_DB_PRIV_H

#include <libpq-fe.h>

#include "base/list.h"
#include "base/map.h"
#include "db/db.h"

enum conn_state {
	CONN_DOWN, /* the timer runs if it is to connect again */
	CONN_CONNECTING,
	CONN_SETUP, /* settings and LISTEN under way */
	CONN_UP
};

struct conn {
	struct db *db;
	bool shared; /* single statements and LISTEN */
	bool lent;   /* to a transaction */
	bool broken; /* to be failed at the end of this turn */
	enum conn_state state;
	PGconn *pg;
	struct watch watch;
	bool watching;
	struct timer timer; /* pause before, or limit of, a connect */
	int pause_ms;
	struct list sent;
	struct map prepared; /* name -> const struct db_stmt */
	struct db_txn *txn;
};

struct db_op {
	struct list link;
	const struct db_stmt *stmt; /* NULL: text */
	char *text;
	struct db_params *params; /* own copy while waiting */
	int64_t deadline_ms;      /* monotonic */
	db_cb cb;                 /* NULL: nobody listens any more */
	void *arg;
	struct db_txn *txn;      /* NULL: single statement */
	db_begin_cb begin_cb;    /* waits for a transaction */
	int64_t txn_deadline_ms; /* for its statements, relative */
	bool preparing;          /* the answer to Parse comes first */
	PGresult *res;
	struct err err;
};

struct db_txn {
	struct db *db;
	struct conn *conn;   /* NULL: lost */
	int64_t deadline_ms; /* relative, per statement */
	struct err err;      /* the first failure */
	db_begin_cb begin_cb;
	void *begin_arg;
	int64_t begin_deadline; /* absolute */
	db_cb commit_cb;
	void *commit_arg;
};

struct db_result {
	const PGresult *pg;
};

struct db {
	struct loop *loop;
	char *conninfo;
	char *program;
	char **channels; /* NULL-ended */
	struct db_callbacks cbs;
	void *arg;
	struct conn shared;
	struct conn *pool;
	int n_pool;
	struct list waiting; /* for the shared connection */
	struct list begins;  /* for a connection of the pool */
	struct list failed;
	size_t n_ops;
	struct timer timer; /* the next deadline */
	int64_t timer_at;
	struct err last_err; /* why the shared connection is down */
	bool up;
	bool down_told;
	bool delivering; /* a deferred delivery is due */
	bool freed;
};

/* conn.c */
void conn_init(struct conn *c, struct db *db, bool shared);
void conn_done(struct conn *c);
void conn_start(struct conn *c);
/* Sends; on failure the op is on db->failed and the connection is failed at
 * the end of the turn. params may be NULL. */
void conn_send(
    struct conn *c, struct db_op *op, const struct db_params *params);
void conn_fail(struct conn *c, const struct err *err);
void conn_listen(struct conn *c, const char *channel);

/* db.c, called by conn.c */
void db_conn_up(struct conn *c);
void db_conn_lost(struct conn *c, const struct err *err);
struct db_op *db_op_new(struct db *db, int64_t deadline_ms);
void db_op_free(struct db *db, struct db_op *op);
/* Its callback with op->err or op->res, and the end of it. */
void db_op_deliver(struct db *db, struct db_op *op);
/* Moves the op to db->failed. */
void db_op_fail(struct db *db, struct db_op *op, const struct err *err);

/* result.c */
int result_err(const PGresult *res, struct err *err);
/* "COMMIT", "UPDATE 1" and so on. */
const char *result_command(const struct db_result *res);
/* From a connection's error message, cut to one line. */
int conn_err(PGconn *pg, const char *what, struct err *err);

#endif
