/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The broker's process: its links to parent, workers, auths and database. */
#include "l7r/broker.h"

#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "db/migrate.h"
#include "json/json.h"
#include "l7r/broker_sql.h"
#include "l7r/roles.h"

#define GRACE_MS     5000 /* for workers to report what they hold */
#define WORKERS_MS   1000 /* for them to end, when we are to */
#define STOP_MS      2500
#define TRANSACTIONS 8

/* What the files share */

void
reply_failure(struct rpc_call *call, const struct failure *f)
{
	rpc_reply(call, failure_to_json(f), -1);
}

void
progress(struct rpc_call *call, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rpc_progress(call, json_pack("{s:s}", "text", text));
}

void
hash_text(char dst[static HASH_TEXT], const char *text)
{
	unsigned char sum[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)text, strlen(text), sum);
	memcpy(dst, "\\x", 2);
	str_hex(dst + 2, sum, sizeof(sum));
}

struct login *
login_of(struct worker_link *w, struct rpc_call *call, const json_t *args)
{
	uint64_t conn = (uint64_t)json_get_int(args, "conn", 0);
	struct login *login = map_get(&w->logins, conn);
	struct failure f;

	if (login == NULL) {
		failure_set(
		    &f, 0, ERR_AUTH, "this connection has not logged in");
		reply_failure(call, &f);
	}
	return login;
}

/* Workers */

static void finish(struct broker *b);

static const struct rpc_op worker_ops[] = {
	{ "login", op_login },
	{ "list", op_list },
	{ "connect", op_connect },
	{ "connected", op_connected },
	{ "stop", op_stop },
	{ "store_auth", op_store_auth },
	{ "create_token", op_create_token },
	{ "sessions", op_sessions },
	{ "disconnected", op_disconnected },
	{ "failed", op_failed },
	{ "closed", op_closed },
	{ .name = NULL },
};

static void
worker_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;

	/* Its open requests have been cancelled by now. */
	rpc_free(rpc);
	login_worker_gone(w);
	sessions_worker_gone(w);
	list_del(&w->link);
	free(w);
	if (b->stopping && list_empty(&b->workers))
		finish(b);
}

static void
add_worker(struct broker *b, int index, int fd)
{
	struct worker_link *w, *old;

	/* One that died: its end may not have been noticed yet. */
	LIST_EACH (&b->workers, old, struct worker_link, link)
		if (old->index == index)
			worker_gone(old->rpc, NULL, old);
	w = new0(struct worker_link);
	w->broker = b;
	w->index = index;
	map_init(&w->logins);
	list_init(&w->link);
	list_add(&b->workers, &w->link);
	w->rpc = rpc_new(b->loop, fd, worker_ops, worker_gone, w);
}

/* Auths */

static const struct rpc_op no_ops[] = { { .name = NULL } };

static void
auth_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct auth_link *a = arg;

	list_del(&a->link);
	auth_link_gone(a);
	rpc_free(rpc);
	free(a);
}

static void
add_auth(struct broker *b, int fd)
{
	struct auth_link *a = new0(struct auth_link);

	a->broker = b;
	list_init(&a->link);
	list_add(&b->auths, &a->link);
	a->rpc = rpc_new(b->loop, fd, no_ops, auth_gone, a);
}

/* Database */

static void on_host(
    const struct db_result *res, const struct err *err, void *arg);

static void
read_host(struct broker *b)
{
	struct db_params p = { 0 };

	db_param_str(&p, b->host_name);
	db_exec(b->db, &sql_host, &p, 0, on_host, b);
}

static void
on_host(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;

	if (err != NULL || db_rows(res) == 0)
		return; /* qvd_hosts, or the next login, tells when it is */
	b->host_id = db_i64(res, 0, "id");
	sessions_sync(b);
}

/* A farm is upgraded node by node: the schema may be too new for us. */
static void
on_schema(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;

	if (err != NULL || db_rows(res) == 0)
		return;
	b->schema_err = (struct err){ 0 };
	if (db_schema_check((int)db_i64(res, 0, "version"), &b->schema_err) ==
	    0)
		return;
	log_err(LOG_LEVEL_ERROR, &b->schema_err, "nobody is let in");
	b->schema_err.code = ERR_UNAVAILABLE; /* what it is for a client */
}

static void
on_up(struct db *db, void *arg)
{
	struct broker *b = arg;

	log_info("the database is there");
	db_exec(db, &db_schema_stmt, NULL, 0, on_schema, b);
	read_host(b);
	settings_read(b);
	wait_db_up(b);
}

static void
on_down(struct db *db, const struct err *err, void *arg)
{
	log_err(LOG_LEVEL_ERROR, err, "the database is away");
	wait_db_down(arg);
}

static void
on_notify(struct db *db, const char *channel, const char *payload, void *arg)
{
	struct broker *b = arg;
	long long vm_id, generation;

	if (str_eq(channel, "qvd_vm_runtimes")) {
		if (sscanf(payload, "%lld", &vm_id) == 1)
			wait_notify(b, vm_id);
	} else if (str_eq(channel, "qvd_sessions")) {
		if (sscanf(payload, "%lld %lld", &vm_id, &generation) == 2)
			sessions_evict(b, vm_id, generation);
	} else if (str_eq(channel, "qvd_configs")) {
		settings_read(b);
	} else if (str_eq(channel, "qvd_hosts") && b->host_id == 0) {
		read_host(b);
	}
}

static const char *const channels[] = { "qvd_vm_runtimes", "qvd_sessions",
	"qvd_hosts", "qvd_configs", NULL };

static const struct db_callbacks db_handlers = {
	.on_up = on_up,
	.on_down = on_down,
	.on_notify = on_notify,
};

/* Timers */

static void
on_grace(void *arg)
{
	struct broker *b = arg;

	b->graced = true;
	sessions_sync(b);
}

static void
on_resync(void *arg)
{
	sessions_sync(arg);
}

static void
on_down_long(void *arg)
{
	struct err err = { 0 };

	err_set(&err, ERR_DATABASE, "the database of the farm does not answer");
	wait_db_lost(arg, &err);
}

/* Parent */

static void
op_setup(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct broker *b = arg;
	struct db_conf conf = {
		.conninfo = json_get_str(args, "conninfo", ""),
		.program = "qvd-l7r",
		.channels = channels,
		.transactions = TRANSACTIONS,
	};

	closep(&fd);
	rpc_reply(call, NULL, -1);
	if (b->db != NULL)
		return;
	settings_defaults(&b->settings);
	b->host_name = xstrdup(json_get_str(args, "host", ""));
	b->n_workers = (int)json_get_int(args, "workers", 1);
	b->hkd = hkd_new(b->loop, json_get_str(args, "hkd", ""));
	b->db = db_new(b->loop, &conf, &db_handlers, b);
	timer_start(&b->grace, GRACE_MS);
}

static void
op_peer(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct broker *b = arg;

	rpc_reply(call, NULL, -1);
	if (str_eq(json_get_str(args, "role", ""), "worker"))
		add_worker(b, (int)json_get_int(args, "index", -1), fd);
	else
		add_auth(b, fd);
}

static const struct rpc_op parent_ops[] = {
	{ "setup", op_setup },
	{ "peer", op_peer },
	{ .name = NULL },
};

static void
on_ended(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;

	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err, "end the sessions of this host");
	loop_stop(b->loop);
}

/* All sessions here have ended: write it down, and go. */
static void
finish(struct broker *b)
{
	if (b->finishing)
		return;
	b->finishing = true;
	timer_start(&b->stop, STOP_MS);
	sessions_end(b, on_ended);
}

static void
on_stop_long(void *arg)
{
	struct broker *b = arg;

	if (b->finishing)
		loop_stop(b->loop);
	else
		finish(b);
}

/* The workers end too, and say what they know of their sessions. */
static void
parent_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct broker *b = arg;

	b->stopping = true;
	if (b->db == NULL || b->host_id == 0 || !db_is_up(b->db))
		loop_stop(b->loop);
	else if (list_empty(&b->workers))
		finish(b);
	else
		timer_start(&b->stop, WORKERS_MS);
}

static void
broker_init(struct broker *b)
{
	b->loop = loop_new();
	list_init(&b->workers);
	list_init(&b->auths);
	list_init(&b->logins);
	list_init(&b->attempts);
	list_init(&b->stops);
	list_init(&b->waits);
	list_init(&b->events);
	map_init(&b->holds);
	map_init_str(&b->addresses);
	b->limit = auth_limit_new();
	if (getrandom(b->seed, sizeof(b->seed), 0) != (ssize_t)sizeof(b->seed))
		abort();
	timer_init(&b->grace, b->loop, on_grace, b);
	timer_init(&b->resync, b->loop, on_resync, b);
	timer_init(&b->down, b->loop, on_down_long, b);
	timer_init(&b->stop, b->loop, on_stop_long, b);
	b->parent = rpc_new(b->loop, ROLE_FD, parent_ops, parent_gone, b);
}

static void
broker_done(struct broker *b)
{
	struct worker_link *w;
	struct auth_link *a;

	b->finishing = true;
	/* Takes what their clients were being given back, too. */
	LIST_EACH (&b->workers, w, struct worker_link, link)
		worker_gone(w->rpc, NULL, w);
	logins_free(b);
	LIST_EACH (&b->auths, a, struct auth_link, link)
		auth_gone(a->rpc, NULL, a);
	events_free(b);
	rpc_free(b->parent);
	hkd_free(b->hkd);
	db_free(b->db);
	timer_done(&b->grace);
	timer_done(&b->resync);
	timer_done(&b->down);
	timer_done(&b->stop);
	map_done(&b->holds);
	map_done(&b->addresses);
	auth_limit_free(b->limit);
	free(b->host_name);
	loop_free(b->loop);
}

int
broker_run(int index)
{
	struct broker b = { 0 };

	broker_init(&b);
	loop_run(b.loop);
	broker_done(&b);
	return 0;
}
