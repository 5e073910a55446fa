/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pool: one shared connection for single statements and LISTEN, and
 * connections for transactions, opened when first needed; deadlines; the
 * delivery of answers. Failures that are found inside a caller's call are
 * delivered at the end of the loop turn, so that no callback ever runs
 * inside db_exec() and the like.
 */
#include "db/db_priv.h"

#include <string.h>

#include "base/str.h"
#include "base/time.h"

#define DEADLINE_DEFAULT_MS 10000
/* Statements given and not answered. Past it a daemon is told so instead of
 * growing while the database is down. */
#define OPS_MAX 20000

static void try_begins(struct db *db);
static void commit_done(
    const struct db_result *res, const struct err *err, void *arg);
static void begin_done(
    const struct db_result *res, const struct err *err, void *arg);

/* Operations */

static void
free_params(struct db_params *p)
{
	int i;

	if (p == NULL)
		return;
	for (i = 0; i < p->n; i++) {
		union {
			const char *in;
			char *out;
		} u = { .in = p->v[i] };

		free(u.out);
	}
	free(p);
}

static struct db_params *
copy_params(const struct db_params *params)
{
	struct db_params *p = new0(struct db_params);
	int i;

	p->n = params != NULL ? params->n : 0;
	for (i = 0; i < p->n; i++)
		p->v[i] = params->v[i] != NULL ? xstrdup(params->v[i]) : NULL;
	return p;
}

static void
set_timer(struct db *db, int64_t at)
{
	if (timer_active(&db->timer) && db->timer_at <= at)
		return;
	db->timer_at = at;
	timer_start(&db->timer, at - time_now_ms());
}

struct db_op *
db_op_new(struct db *db, int64_t deadline_ms)
{
	struct db_op *op = new0(struct db_op);

	list_init(&op->link);
	if (deadline_ms <= 0)
		deadline_ms = DEADLINE_DEFAULT_MS;
	op->deadline_ms = time_now_ms() + deadline_ms;
	db->n_ops++;
	if (!db->freed)
		set_timer(db, op->deadline_ms);
	return op;
}

void
db_op_free(struct db *db, struct db_op *op)
{
	list_del(&op->link);
	PQclear(op->res);
	free_params(op->params);
	free(op->text);
	free(op);
	if (--db->n_ops == 0)
		timer_stop(&db->timer);
}

void
db_op_deliver(struct db *db, struct db_op *op)
{
	struct db_result res = { op->res };

	list_del(&op->link);
	if (op->res == NULL && !err_is_set(&op->err))
		err_set(&op->err, ERR_DATABASE, "database: no result");
	if (err_is_set(&op->err) && op->txn != NULL &&
	    !err_is_set(&op->txn->err))
		op->txn->err = op->err;
	if (op->begin_cb != NULL)
		op->begin_cb(NULL, &op->err, op->arg);
	else if (op->cb != NULL && err_is_set(&op->err))
		op->cb(NULL, &op->err, op->arg);
	else if (op->cb != NULL)
		op->cb(&res, NULL, op->arg);
	db_op_free(db, op);
}

static void
deliver_failed(void *arg)
{
	struct db *db = arg;
	struct db_op *op;

	db->delivering = false;
	while (!db->freed &&
	       (op = list_first(&db->failed, struct db_op, link)) != NULL)
		db_op_deliver(db, op);
}

void
db_op_fail(struct db *db, struct db_op *op, const struct err *err)
{
	op->err = *err;
	/* Later statements of the transaction are refused at once. */
	if (op->txn != NULL && !err_is_set(&op->txn->err))
		op->txn->err = *err;
	list_move(&db->failed, &op->link);
	if (!db->delivering && !db->freed)
		loop_defer(db->loop, deliver_failed, db);
	db->delivering = true;
}

/* Deadlines */

static void
expire_waiting(struct db *db, struct list *waiting, int64_t now, int64_t *next)
{
	struct db_op *op;
	struct err err;

	LIST_EACH (waiting, op, struct db_op, link) {
		if (op->deadline_ms > now) {
			if (op->deadline_ms < *next)
				*next = op->deadline_ms;
			continue;
		}
		if (!db->up && err_is_set(&db->last_err)) {
			err = db->last_err;
			err_wrap(&err, 0, "the database can't be reached");
		} else {
			err_set(&err, ERR_DATABASE,
			    "the database has been too busy to begin");
		}
		db_op_fail(db, op, &err);
	}
}

static void
expire_sent(struct db *db, struct conn *c, int64_t now, int64_t *next)
{
	struct db_op *op;
	struct err err;

	LIST_EACH (&c->sent, op, struct db_op, link) {
		if (op->deadline_ms > now) {
			if (op->deadline_ms < *next)
				*next = op->deadline_ms;
			continue;
		}
		/* What it would have answered can't be told any more from
		 * the answers after it: the connection goes. */
		err_set(
		    &err, ERR_DATABASE, "the database did not answer in time");
		conn_fail(c, &err);
		return;
	}
}

static void
on_deadline(void *arg)
{
	struct db *db = arg;
	int64_t now = time_now_ms(), next = INT64_MAX;
	int i;

	expire_waiting(db, &db->waiting, now, &next);
	expire_waiting(db, &db->begins, now, &next);
	expire_sent(db, &db->shared, now, &next);
	for (i = 0; i < db->n_pool; i++)
		expire_sent(db, &db->pool[i], now, &next);
	if (next != INT64_MAX && !db->freed)
		set_timer(db, next);
}

/* The pool */

struct db *
db_new(struct loop *loop, const struct db_conf *conf,
    const struct db_callbacks *cbs, void *arg)
{
	struct db *db = new0(struct db);
	size_t n = 0, i;

	db->loop = loop;
	db->conninfo = xstrdup(conf->conninfo);
	db->program = xstrdup(conf->program);
	while (conf->channels != NULL && conf->channels[n] != NULL)
		n++;
	db->channels = xcalloc(n + 1, sizeof(db->channels[0]));
	for (i = 0; i < n; i++)
		db->channels[i] = xstrdup(conf->channels[i]);
	if (cbs != NULL)
		db->cbs = *cbs;
	db->arg = arg;
	list_init(&db->waiting);
	list_init(&db->begins);
	list_init(&db->failed);
	timer_init(&db->timer, loop, on_deadline, db);
	conn_init(&db->shared, db, true);
	db->n_pool = conf->transactions;
	db->pool = xcalloc((size_t)db->n_pool + 1, sizeof(db->pool[0]));
	for (i = 0; i < (size_t)db->n_pool; i++)
		conn_init(&db->pool[i], db, false);
	/* Not inside this call: on_down could come before db is known. */
	timer_start(&db->shared.timer, 0);
	return db;
}

static void
free_ops(struct db *db, struct list *ops)
{
	struct db_op *op;

	LIST_EACH (ops, op, struct db_op, link)
		db_op_free(db, op);
}

static void
free_later(void *arg)
{
	struct db *db = arg;
	int i;

	free_ops(db, &db->shared.sent);
	conn_done(&db->shared);
	for (i = 0; i < db->n_pool; i++) {
		free_ops(db, &db->pool[i].sent);
		free(db->pool[i].txn);
		conn_done(&db->pool[i]);
	}
	free_ops(db, &db->waiting);
	free_ops(db, &db->begins);
	free_ops(db, &db->failed);
	timer_done(&db->timer);
	for (i = 0; db->channels[i] != NULL; i++)
		free(db->channels[i]);
	free(db->channels);
	free(db->pool);
	free(db->program);
	free(db->conninfo);
	free(db);
}

void
db_free(struct db *db)
{
	if (db == NULL || db->freed)
		return;
	db->freed = true;
	loop_defer(db->loop, free_later, db);
}

bool
db_is_up(const struct db *db)
{
	return db->up;
}

static void
send_waiting(struct db *db)
{
	struct db_op *op;

	LIST_EACH (&db->waiting, op, struct db_op, link) {
		struct db_params *params = take_ptr(op->params);

		conn_send(&db->shared, op, params);
		free_params(params);
	}
}

void
db_conn_up(struct conn *c)
{
	struct db *db = c->db;
	int i;

	if (!c->shared) {
		try_begins(db);
		return;
	}
	for (i = 0; i < db->n_pool; i++) /* no use in pausing longer */
		if (db->pool[i].state == CONN_DOWN &&
		    timer_active(&db->pool[i].timer))
			timer_start(&db->pool[i].timer, 0);
	db->up = true;
	db->down_told = false;
	db->last_err = (struct err){ 0 };
	send_waiting(db);
	if (db->cbs.on_up != NULL)
		db->cbs.on_up(db, db->arg);
}

void
db_conn_lost(struct conn *c, const struct err *err)
{
	struct db *db = c->db;

	if (c->txn != NULL) {
		if (!err_is_set(&c->txn->err))
			c->txn->err = *err;
		c->txn->conn = NULL;
		c->txn = NULL;
	}
	c->lent = false;
	if (!c->shared)
		return;
	db->up = false;
	db->last_err = *err;
	if (!db->down_told && !db->freed && db->cbs.on_down != NULL)
		db->cbs.on_down(db, err, db->arg);
	db->down_told = true;
}

void
db_listen(struct db *db, const char *channel)
{
	size_t n;

	for (n = 0; db->channels[n] != NULL; n++)
		if (str_eq(db->channels[n], channel))
			return;
	db->channels = xrealloc(db->channels, n + 2, sizeof(db->channels[0]));
	db->channels[n] = xstrdup(channel);
	db->channels[n + 1] = NULL;
	if (db->up)
		conn_listen(&db->shared, channel);
}

/* Single statements */

static bool
refuse_too_many(struct db *db, struct db_op *op)
{
	struct err err;

	if (db->n_ops <= OPS_MAX)
		return false;
	err_set(&err, ERR_UNAVAILABLE,
	    "more than %d statements wait for the database", OPS_MAX);
	db_op_fail(db, op, &err);
	return true;
}

void
db_exec(struct db *db, const struct db_stmt *stmt,
    const struct db_params *params, int64_t deadline_ms, db_cb cb, void *arg)
{
	struct db_op *op = db_op_new(db, deadline_ms);

	op->stmt = stmt;
	op->cb = cb;
	op->arg = arg;
	if (refuse_too_many(db, op))
		return;
	if (db->up && !db->shared.broken) {
		conn_send(&db->shared, op, params);
		return;
	}
	op->params = copy_params(params);
	list_move(&db->waiting, &op->link);
}

static void
forget_in(struct list *ops, const void *arg)
{
	struct db_op *op;

	LIST_EACH (ops, op, struct db_op, link) {
		if (op->cb == begin_done && op->txn->begin_arg == arg)
			op->txn->begin_cb = NULL;
		if (op->cb == commit_done && op->txn->commit_arg == arg)
			op->txn->commit_cb = NULL;
		if (op->arg != arg)
			continue;
		op->cb = NULL;
		op->begin_cb = NULL;
	}
}

void
db_forget(struct db *db, const void *arg)
{
	struct db_op *op;
	int i;

	LIST_EACH (&db->begins, op, struct db_op, link)
		if (op->arg == arg)
			db_op_free(db, op);
	forget_in(&db->waiting, arg);
	forget_in(&db->failed, arg);
	forget_in(&db->shared.sent, arg);
	for (i = 0; i < db->n_pool; i++)
		forget_in(&db->pool[i].sent, arg);
}

/* Transactions */

static void
give_back(struct conn *c)
{
	c->lent = false;
	c->txn = NULL;
}

static struct db_op *
txn_op(struct db_txn *txn, db_cb cb, void *arg)
{
	struct db_op *op = db_op_new(txn->db, txn->deadline_ms);

	op->txn = txn;
	op->cb = cb;
	op->arg = arg;
	return op;
}

static void
queue_begin(struct db *db, db_begin_cb cb, void *arg, int64_t txn_deadline,
    int64_t deadline_ms)
{
	struct db_op *op = db_op_new(db, deadline_ms);

	op->begin_cb = cb;
	op->arg = arg;
	op->txn_deadline_ms = txn_deadline;
	if (!refuse_too_many(db, op))
		list_add(&db->begins, &op->link);
}

static void
begin_done(const struct db_result *res, const struct err *err, void *arg)
{
	struct db_txn *txn = arg;
	struct db *db = txn->db;
	int64_t left = txn->begin_deadline - time_now_ms();

	if (txn->begin_cb == NULL) { /* forgotten */
		db_rollback(txn);
		return;
	}
	if (err == NULL) {
		txn->begin_cb(txn, NULL, txn->begin_arg);
		return;
	}
	/* The connection was lost before anything was done: on another. */
	if (txn->conn == NULL && left > 0)
		queue_begin(
		    db, txn->begin_cb, txn->begin_arg, txn->deadline_ms, left);
	else
		txn->begin_cb(NULL, err, txn->begin_arg);
	if (txn->conn != NULL)
		give_back(txn->conn);
	free(txn);
	try_begins(db);
}

static void
begin_on(struct conn *c, struct db_op *waiting)
{
	struct db_txn *txn = new0(struct db_txn);
	struct db_op *op;

	txn->db = c->db;
	txn->conn = c;
	txn->deadline_ms = waiting->txn_deadline_ms;
	txn->begin_cb = waiting->begin_cb;
	txn->begin_arg = waiting->arg;
	txn->begin_deadline = waiting->deadline_ms;
	db_op_free(c->db, waiting);
	c->lent = true;
	c->txn = txn;
	op = txn_op(txn, begin_done, txn);
	op->deadline_ms = txn->begin_deadline;
	op->text = xstrdup("BEGIN ISOLATION LEVEL READ COMMITTED");
	conn_send(c, op, NULL);
}

/* Gives free connections to who waits; opens more while some still wait. */
static void
try_begins(struct db *db)
{
	struct db_op *op;
	size_t n = 0, coming = 0;
	int i;

	for (i = 0; i < db->n_pool && !db->freed; i++) {
		struct conn *c = &db->pool[i];

		op = list_first(&db->begins, struct db_op, link);
		if (op == NULL)
			return;
		if (c->state == CONN_UP && !c->lent && !c->broken)
			begin_on(c, op);
		else if (c->state != CONN_UP && c->state != CONN_DOWN)
			coming++;
	}
	LIST_EACH (&db->begins, op, struct db_op, link)
		n++;
	for (i = 0; i < db->n_pool && coming < n && !db->freed; i++) {
		struct conn *c = &db->pool[i];

		if (c->state != CONN_DOWN || timer_active(&c->timer))
			continue;
		timer_start(&c->timer, 0);
		coming++;
	}
}

void
db_begin(struct db *db, int64_t deadline_ms, db_begin_cb cb, void *arg)
{
	if (db->n_pool == 0)
		abort(); /* db_conf.transactions says none */
	queue_begin(db, cb, arg, deadline_ms, deadline_ms);
	try_begins(db);
}

static void
txn_send(struct db_txn *txn, struct db_op *op, const struct db_params *params)
{
	struct err err;

	if (txn->conn == NULL || err_is_set(&txn->err)) {
		err = txn->err;
		if (op->cb != commit_done)
			err_wrap(&err, 0, "the transaction failed before");
		db_op_fail(txn->db, op, &err);
		return;
	}
	conn_send(txn->conn, op, params);
}

void
db_txn_exec(struct db_txn *txn, const struct db_stmt *stmt,
    const struct db_params *params, db_cb cb, void *arg)
{
	struct db_op *op = txn_op(txn, cb, arg);

	op->stmt = stmt;
	txn_send(txn, op, params);
}

/* Answers that are still to come find nobody: the transaction has ended. */
static void
silence(struct list *ops, const struct db_txn *txn)
{
	struct db_op *op;

	LIST_EACH (ops, op, struct db_op, link) {
		if (op->txn != txn)
			continue;
		op->txn = NULL;
		op->cb = NULL;
	}
}

static void
commit_done(const struct db_result *res, const struct err *err, void *arg)
{
	struct db_txn *txn = arg;
	struct db *db = txn->db;
	db_cb cb = txn->commit_cb;
	void *cb_arg = txn->commit_arg;
	struct err why = { 0 };

	/* COMMIT of a failed transaction is answered with ROLLBACK. */
	if (err != NULL)
		why = *err;
	else if (!str_eq(result_command(res), "COMMIT"))
		why = txn->err;
	if (why.code == ERR_NONE && err_is_set(&txn->err))
		why = txn->err;
	if (err != NULL && txn->conn != NULL) {
		/* Refused here, or by a constraint at the commit. */
		db_rollback(txn);
	} else {
		/* A lost connection may fail the commit before the others. */
		silence(&db->failed, txn);
		if (txn->conn != NULL)
			give_back(txn->conn);
		free(txn);
	}
	if (cb != NULL)
		cb(NULL, err_is_set(&why) ? &why : NULL, cb_arg);
	if (!db->freed)
		try_begins(db);
}

void
db_commit(struct db_txn *txn, db_cb cb, void *arg)
{
	struct db_op *op = txn_op(txn, commit_done, txn);

	txn->commit_cb = cb;
	txn->commit_arg = arg;
	op->text = xstrdup("COMMIT");
	txn_send(txn, op, NULL);
}

static void
rolled_back(const struct db_result *res, const struct err *err, void *arg)
{
	struct conn *c = arg;

	if (err != NULL) /* it can't be lent in an unknown state */
		return;
	give_back(c);
	try_begins(c->db);
}

void
db_rollback(struct db_txn *txn)
{
	struct db *db = txn->db;
	struct conn *c = txn->conn;
	struct db_op *op;

	silence(&db->failed, txn);
	if (c != NULL) {
		silence(&c->sent, txn);
		c->txn = NULL;
		op = db_op_new(db, txn->deadline_ms);
		op->text = xstrdup("ROLLBACK");
		op->cb = rolled_back;
		op->arg = c;
		conn_send(c, op, NULL);
	}
	free(txn);
}
