/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The database, asynchronously (libpq, pipeline mode, prepared statements,
 * LISTEN/NOTIFY). A struct db is a small pool of connections to one
 * PostgreSQL: one shared by single statements and LISTEN, the others lent to
 * transactions one at a time. It reconnects by itself with growing pauses
 * (50 ms to 2 s); what was under way fails with ERR_DATABASE and was rolled
 * back by the server; statements given while it is down wait for at most
 * their deadline. After each (re)connection `on_up` is called: read again
 * all that you own, because notifications may have been missed.
 *
 * Owned by the daemon's main; used in: broker, hkd main, api, cli (qvd db).
 */
#ifndef DB_DB_H
#define DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/field.h"
#include "loop/loop.h"

struct db;
struct db_result;
struct db_txn;

/* A prepared statement: const, one per place of use, named after it. The
 * text uses $1..$n. */
struct db_stmt {
	const char *name;
	const char *sql;
	int n_params;
};

/* Parameters, all as text, NULL allowed; borrowed during the call. Helpers
 * below format into the caller's arena or static storage. */
#define DB_PARAMS_MAX 24
struct db_params {
	const char *v[DB_PARAMS_MAX];
	int n;
	char numbers[DB_PARAMS_MAX][24]; /* room for formatted numbers */
};
void db_param_str(struct db_params *p, const char *s); /* NULL = SQL NULL */
void db_param_i64(struct db_params *p, int64_t v);
void db_param_bool(struct db_params *p, bool v);
void db_param_null(struct db_params *p);

struct db_callbacks {
	void (*on_up)(struct db *db, void *arg);
	void (*on_down)(struct db *db, const struct err *err, void *arg);
	/* payload "" if none */
	void (*on_notify)(
	    struct db *db, const char *channel, const char *payload, void *arg);
};

struct db_conf {
	const char *conninfo;        /* libpq; multi-host allowed */
	const char *program;         /* application_name */
	const char *const *channels; /* NULL-ended; LISTENed at each connect */
	int transactions; /* connections for transactions at once; 0..16 */
};

struct db *db_new(struct loop *loop, const struct db_conf *conf,
    const struct db_callbacks *cbs, void *arg);
void db_free(struct db *db);
bool db_is_up(const struct db *db);
/* One channel more, from now on. When up, statements given after this see
 * what is notified from then on. Giving it again changes nothing. */
void db_listen(struct db *db, const char *channel);

/* The answer: res is borrowed for the call, NULL with err on failure. */
typedef void (*db_cb)(
    const struct db_result *res, const struct err *err, void *arg);

/* One statement in autocommit. deadline_ms: 0 = 10 s. */
void db_exec(struct db *db, const struct db_stmt *stmt,
    const struct db_params *params, int64_t deadline_ms, db_cb cb, void *arg);

/* Callbacks with this arg won't be called any more: for an owner that goes
 * away. What was given is still done. Its transactions must be ended. */
void db_forget(struct db *db, const void *arg);

/*
 * A transaction (READ COMMITTED). begun: txn, or NULL with err. deadline_ms
 * is that of the begin and of each statement. Statements
 * queue up and are pipelined; after the first failure the others fail too
 * and the transaction can only be rolled back. Exactly one of db_commit()
 * and db_rollback() ends it; the txn is gone after commit's callback, and
 * at once after a rollback (no callback of it comes after that).
 */
typedef void (*db_begin_cb)(
    struct db_txn *txn, const struct err *err, void *arg);
void db_begin(struct db *db, int64_t deadline_ms, db_begin_cb cb, void *arg);
void db_txn_exec(struct db_txn *txn, const struct db_stmt *stmt,
    const struct db_params *params, db_cb cb, void *arg);
/* cb: res NULL and err NULL on success. A commit whose answer was lost is
 * ERR_DATABASE: the caller must read what happened. */
void db_commit(struct db_txn *txn, db_cb cb, void *arg);
void db_rollback(struct db_txn *txn);

/* Results. */
int db_rows(const struct db_result *res);
int64_t db_affected(const struct db_result *res);
/* Column by name; NULL for SQL NULL or an unknown column. */
const char *db_str(const struct db_result *res, int row, const char *col);
/* The column `value` of the first row whose column `col` is `key`; NULL if
 * there is none, or res is NULL. */
const char *db_lookup(const struct db_result *res, const char *col,
    const char *key, const char *value);
int64_t db_i64(const struct db_result *res, int row, const char *col);
bool db_bool(const struct db_result *res, int row, const char *col);
/* Has a row that id in its column `id`? */
bool db_has_id(const struct db_result *res, int64_t id);
/* A row into a struct by its field table (columns named like fields; fields
 * without a column are left alone); text goes to the arena. */
int db_row_decode(const struct db_result *res, int row,
    const struct field *table, void *out, struct arena *arena, struct err *err);

/* True if the failure was a unique or foreign key or check violation; name
 * of the constraint in *ret_constraint (may be NULL), valid during the
 * callback. Such failures have code ERR_CONFLICT. */
bool db_violates(const struct err *err, const char *constraint);

#endif
