/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One libpq connection in pipeline mode: connecting, settings and LISTEN,
 * sending, answers, notifications, loss. Knows nothing of transactions.
 */
#include "db/db_priv.h"

#include <string.h>

#include "base/str.h"

/* Pauses between attempts double from the first to the last. */
#define PAUSE_FIRST_MS   50
#define PAUSE_LAST_MS    2000
#define CONNECT_LIMIT_MS 10000

static void on_ready(int events, void *arg);

static void
no_notice(void *arg, const char *text)
{
}

static void
unwatch(struct conn *c)
{
	if (c->watching)
		watch_done(&c->watch);
	c->watching = false;
}

static void
watch_for(struct conn *c, int events)
{
	if (!c->watching) {
		watch_init(
		    &c->watch, c->db->loop, PQsocket(c->pg), on_ready, c);
		c->watching = true;
	}
	watch_set(&c->watch, events);
}

static void
on_timer(void *arg)
{
	struct conn *c = arg;
	struct err err;

	if (c->state == CONN_DOWN) {
		conn_start(c);
		return;
	}
	err_set(&err, ERR_DATABASE,
	    "connect to the database: no answer within %d s",
	    CONNECT_LIMIT_MS / 1000);
	conn_fail(c, &err);
}

void
conn_init(struct conn *c, struct db *db, bool shared)
{
	*c = (struct conn){
		.db = db, .shared = shared, .pause_ms = PAUSE_FIRST_MS
	};
	timer_init(&c->timer, db->loop, on_timer, c);
	list_init(&c->sent);
	map_init_str(&c->prepared);
}

static void
disconnect(struct conn *c)
{
	unwatch(c);
	timer_stop(&c->timer);
	if (c->pg != NULL)
		PQfinish(c->pg);
	c->pg = NULL;
	c->state = CONN_DOWN;
	c->broken = false;
	map_done(&c->prepared);
	map_init_str(&c->prepared);
}

void
conn_done(struct conn *c)
{
	disconnect(c);
	timer_done(&c->timer);
	map_done(&c->prepared);
}

/* Everything under way fails; what comes next is the pool's decision, except
 * that the shared connection always comes back. */
void
conn_fail(struct conn *c, const struct err *err)
{
	struct db_op *op;

	disconnect(c);
	LIST_EACH (&c->sent, op, struct db_op, link)
		db_op_fail(c->db, op, err);
	db_conn_lost(c, err);
	if (c->db->freed || (!c->shared && list_empty(&c->db->begins)))
		return;
	timer_start(&c->timer, c->pause_ms);
	c->pause_ms *= 2;
	if (c->pause_ms > PAUSE_LAST_MS)
		c->pause_ms = PAUSE_LAST_MS;
}

static void
fail_now(void *arg)
{
	struct conn *c = arg;
	struct err err;

	if (c->db->freed || !c->broken)
		return;
	conn_err(c->pg, "the database connection broke", &err);
	conn_fail(c, &err);
}

static void
fail_later(struct conn *c)
{
	if (c->broken)
		return;
	c->broken = true;
	/* libpq may have closed the descriptor: by the end of this turn its
	 * number can be somebody else's. */
	unwatch(c);
	loop_defer(c->db->loop, fail_now, c);
}

static void
flush(struct conn *c)
{
	int r = PQflush(c->pg);

	if (r < 0 || PQsocket(c->pg) < 0)
		fail_later(c);
	else
		watch_for(c, WATCH_READ | (r > 0 ? WATCH_WRITE : 0));
}

/* Sends Parse if this connection doesn't have the statement yet. */
static bool
send_statement(struct conn *c, struct db_op *op, const struct db_params *params)
{
	const struct db_stmt *stmt = op->stmt;
	const char *const *v = params != NULL ? params->v : NULL;
	int n = params != NULL ? params->n : 0;

	if (stmt == NULL)
		return PQsendQueryParams(
		    c->pg, op->text, 0, NULL, NULL, NULL, NULL, 0);
	if (n != stmt->n_params)
		abort(); /* a caller that doesn't know its statement */
	if (map_get_str(&c->prepared, stmt->name) == NULL) {
		union {
			const struct db_stmt *in;
			void *out;
		} u = { .in = stmt };

		if (!PQsendPrepare(c->pg, stmt->name, stmt->sql, 0, NULL))
			return false;
		op->preparing = true;
		map_set_str(&c->prepared, stmt->name, u.out);
	}
	return PQsendQueryPrepared(c->pg, stmt->name, n, v, NULL, NULL, 0);
}

void
conn_send(struct conn *c, struct db_op *op, const struct db_params *params)
{
	struct err err;

	if (c->pg != NULL && !c->broken && send_statement(c, op, params) &&
	    PQpipelineSync(c->pg)) {
		list_move(&c->sent, &op->link);
		flush(c);
		return;
	}
	conn_err(c->pg, "the database connection broke", &err);
	db_op_fail(c->db, op, &err);
	if (c->pg != NULL)
		fail_later(c);
}

/* Settings of the session, and LISTEN */

static void
setup_failed(const struct db_result *res, const struct err *err, void *arg)
{
	struct conn *c = arg;

	/* May come late, when the connection has failed already. */
	if (err != NULL && c->state == CONN_SETUP)
		conn_fail(c, err);
}

static void
setup_done(const struct db_result *res, const struct err *err, void *arg)
{
	struct conn *c = arg;

	if (err != NULL) {
		setup_failed(res, err, arg);
		return;
	}
	timer_stop(&c->timer);
	c->pause_ms = PAUSE_FIRST_MS;
	c->state = CONN_UP;
	db_conn_up(c);
}

static void
send_setup(struct conn *c, char *text, db_cb cb)
{
	struct db_op *op = db_op_new(c->db, CONNECT_LIMIT_MS);

	op->text = text;
	op->cb = cb;
	op->arg = c;
	conn_send(c, op, NULL);
}

void
conn_listen(struct conn *c, const char *channel)
{
	char *name = PQescapeIdentifier(c->pg, channel, strlen(channel));

	send_setup(c, xasprintf("LISTEN %s", name), setup_failed);
	PQfreemem(name);
}

static void
setup(struct conn *c)
{
	char **channel;

	unwatch(c);
	c->state = CONN_SETUP;
	PQsetNoticeProcessor(c->pg, no_notice, NULL);
	PQsetnonblocking(c->pg, 1);
	PQenterPipelineMode(c->pg);
	for (channel = c->db->channels; c->shared && *channel != NULL;
	     channel++)
		conn_listen(c, *channel);
	/* A lock that nobody gives back must not hold up the pipeline, nor a
	 * transaction that a stopped process left open the farm. */
	send_setup(c,
	    xstrdup("SELECT set_config('lock_timeout', '8s', false),"
		    " set_config('idle_in_transaction_session_timeout', '60s',"
		    " false)"),
	    setup_done);
}

static void
poll_connect(struct conn *c)
{
	PostgresPollingStatusType status;
	struct err err;

	/* libpq may close the descriptor and go on with another. */
	unwatch(c);
	status = PQconnectPoll(c->pg);
	switch (status) {
	case PGRES_POLLING_READING:
		watch_for(c, WATCH_READ);
		break;
	case PGRES_POLLING_WRITING:
		watch_for(c, WATCH_WRITE);
		break;
	case PGRES_POLLING_OK:
		setup(c);
		break;
	default:
		conn_err(c->pg, "connect to the database", &err);
		conn_fail(c, &err);
		break;
	}
}

void
conn_start(struct conn *c)
{
	/* The first four are defaults that conninfo may override. */
	const char *keys[] = { "target_session_attrs", "keepalives_idle",
		"keepalives_interval", "tcp_user_timeout", "dbname",
		"application_name", "client_encoding", NULL };
	const char *values[] = { "read-write", "10", "5", "15000",
		c->db->conninfo, c->db->program, "UTF8", NULL };
	struct err err;

	timer_stop(&c->timer);
	c->pg = PQconnectStartParams(keys, values, 1);
	if (c->pg == NULL || PQstatus(c->pg) == CONNECTION_BAD) {
		conn_err(c->pg, "connect to the database", &err);
		conn_fail(c, &err);
		return;
	}
	c->state = CONN_CONNECTING;
	timer_start(&c->timer, CONNECT_LIMIT_MS);
	/* As libpq says: before the first poll, wait to be able to write. */
	watch_for(c, WATCH_WRITE);
}

/* Answers */

static void
on_error_result(struct conn *c, struct db_op *op, const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (!err_is_set(&op->err))
		result_err(res, &op->err);
	if (op->preparing)
		map_del_str(&c->prepared, op->stmt->name);
	op->preparing = false;
	/* The schema changed under a prepared statement, or it is gone:
	 * start again with a new session. */
	if (state != NULL && (str_eq(state, "0A000") || str_eq(state, "26000")))
		fail_later(c);
}

static void
on_result(struct conn *c, PGresult *res)
{
	struct db_op *op = list_first(&c->sent, struct db_op, link);

	if (op == NULL) {
		PQclear(res);
		return;
	}
	switch (PQresultStatus(res)) {
	case PGRES_PIPELINE_SYNC:
		PQclear(res);
		db_op_deliver(c->db, op);
		return;
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
		if (op->preparing) {
			op->preparing = false;
		} else if (op->res == NULL) {
			op->res = res;
			return;
		}
		break;
	case PGRES_PIPELINE_ABORTED:
		break;
	default:
		on_error_result(c, op, res);
		break;
	}
	PQclear(res);
}

static void
read_answers(struct conn *c)
{
	bool was_null = false;
	PGresult *res;

	while (!c->db->freed && c->pg != NULL && !PQisBusy(c->pg)) {
		res = PQgetResult(c->pg);
		if (res == NULL) {
			/* Ends the results of one statement; two in a row:
			 * there is nothing more. */
			if (was_null)
				break;
			was_null = true;
			continue;
		}
		was_null = false;
		on_result(c, res);
	}
}

static void
read_notifications(struct conn *c)
{
	struct db *db = c->db;
	PGnotify *n;

	while (!db->freed && c->pg != NULL && (n = PQnotifies(c->pg)) != NULL) {
		/* Before on_up everything is read anyhow. */
		if (db->cbs.on_notify != NULL && c->state == CONN_UP)
			db->cbs.on_notify(db, n->relname, n->extra, db->arg);
		PQfreemem(n);
	}
}

static void
on_ready(int events, void *arg)
{
	struct conn *c = arg;
	struct err err;

	if (c->state == CONN_CONNECTING) {
		poll_connect(c);
		return;
	}
	if (events & WATCH_WRITE)
		flush(c);
	if ((events & WATCH_READ) == 0 || c->broken)
		return;
	if (!PQconsumeInput(c->pg)) {
		conn_err(c->pg, "the database connection broke", &err);
		conn_fail(c, &err);
		return;
	}
	read_answers(c);
	read_notifications(c);
}
