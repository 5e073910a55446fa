/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who holds which session. The rows are the truth between nodes; what the
 * workers report is the truth about this one. A hold exists from just before
 * its row is committed until its end is written.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define RESYNC_MS 2000

struct hold *
hold_new(struct worker_link *w, uint64_t conn, int64_t vm_id,
    int64_t generation, int64_t user_id)
{
	struct hold *h = new0(struct hold);

	h->vm_id = vm_id;
	h->generation = generation;
	h->worker = w;
	h->conn = conn;
	h->user_id = user_id;
	h->next = map_get(&w->broker->holds, (uint64_t)vm_id);
	map_set(&w->broker->holds, (uint64_t)vm_id, h);
	return h;
}

struct hold *
hold_find(struct broker *b, int64_t vm_id, int64_t generation)
{
	struct hold *h = map_get(&b->holds, (uint64_t)vm_id);

	while (h != NULL && h->generation != generation)
		h = h->next;
	return h;
}

static void
hold_free(struct broker *b, struct hold *h)
{
	struct hold *first = map_get(&b->holds, (uint64_t)h->vm_id), *prev;

	if (first != h) {
		for (prev = first; prev->next != h; prev = prev->next)
			;
		prev->next = h->next;
	} else if (h->next != NULL) {
		map_set(&b->holds, (uint64_t)h->vm_id, h->next);
	} else {
		map_del(&b->holds, (uint64_t)h->vm_id);
	}
	free(h);
}

/* What could not be written is compared again later, or when the database
 * is back. */
static void
on_mended(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;

	if (err != NULL && !b->stopping)
		timer_start(&b->resync, RESYNC_MS);
}

static void
session_params(struct db_params *p, const struct broker *b, int64_t vm_id,
    int64_t generation)
{
	db_param_i64(p, vm_id);
	db_param_i64(p, generation);
	db_param_i64(p, b->host_id);
}

static void
write_disconnected(struct broker *b, int64_t vm_id, int64_t generation)
{
	struct db_params p = { 0 };

	session_params(&p, b, vm_id, generation);
	db_exec(b->db, &sql_disconnected, &p, 0, on_mended, b);
}

void
hold_release(struct broker *b, struct hold *h)
{
	write_disconnected(b, h->vm_id, h->generation);
	hold_free(b, h);
}

/* Evicting */

static void
evict(struct hold *h)
{
	log_info("VM %lld: session %lld ends, another client took it",
	    (long long)h->vm_id, (long long)h->generation);
	if (h->attempt != NULL) {
		attempt_evict(h->attempt);
		return;
	}
	rpc_tell(h->worker->rpc, "evict",
	    json_pack("{s:I, s:I, s:s}", "vm_id", (json_int_t)h->vm_id,
		"generation", (json_int_t)h->generation, "reason",
		"taken over by another client"),
	    -1);
}

void
sessions_evict(struct broker *b, int64_t vm_id, int64_t generation)
{
	struct hold *h = map_get(&b->holds, (uint64_t)vm_id), *next;

	for (; h != NULL; h = next) {
		next = h->next;
		if (h->generation >= generation)
			continue;
		if (h->writing)
			h->outdated = true;
		else
			evict(h);
	}
}

/* What the workers say */

struct connected_op {
	struct broker *broker;
	struct rpc_call *call;
	int64_t vm_id, generation, user_id;
	int64_t duration_ms, agent_ms;
	bool resumed;
};

static void
on_connected(const struct db_result *res, const struct err *err, void *arg)
{
	struct connected_op *op = arg;
	struct hold *h = hold_find(op->broker, op->vm_id, op->generation);
	struct failure f = { 0 };
	char text[96];

	if (err != NULL)
		failure_from_err(&f, err);
	else if (db_affected(res) == 0 || h == NULL)
		failure_set(&f, 0, ERR_TAKEN_OVER,
		    "Aborted by contending session VM VM_ID: %lld",
		    (long long)op->vm_id);
	if (err_is_set(&f.err)) {
		reply_failure(op->call, &f);
	} else {
		h->connected = true;
		snprintf(text, sizeof(text),
		    "the user is in the desktop (X session %s in %lld ms)",
		    op->resumed ? "resumed" : "started",
		    (long long)op->agent_ms);
		event_write(
		    op->broker, &(struct event){ .name = "session.connected",
				    .vm_id = op->vm_id,
				    .user_id = op->user_id,
				    .text = text,
				    .duration_ms = op->duration_ms,
				    .of_image = !op->resumed });
		rpc_reply(op->call, NULL, -1);
	}
	free(op);
}

void
op_connected(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;
	struct db_params p = { 0 };
	struct connected_op *op;
	struct failure f;
	struct hold *h;

	closep(&fd);
	h = hold_find(b, json_get_int(args, "vm_id", -1),
	    json_get_int(args, "generation", -1));
	if (h == NULL || h->worker != w) {
		failure_set(&f, 0, ERR_TAKEN_OVER,
		    "the session is not this client's any more");
		reply_failure(call, &f);
		return;
	}
	op = new0(struct connected_op);
	op->broker = b;
	op->call = call;
	op->vm_id = h->vm_id;
	op->generation = h->generation;
	op->user_id = h->user_id;
	op->duration_ms = json_get_int(args, "duration_ms", -1);
	op->agent_ms = json_get_int(args, "agent_ms", 0);
	op->resumed = json_get_bool(args, "resumed", false);
	session_params(&p, b, h->vm_id, h->generation);
	db_exec(b->db, &sql_connected, &p, 0, on_connected, op);
}

static struct hold *
hold_of(struct worker_link *w, const json_t *args)
{
	struct hold *h = hold_find(w->broker, json_get_int(args, "vm_id", -1),
	    json_get_int(args, "generation", -1));

	return h != NULL && h->worker == w ? h : NULL;
}

void
op_disconnected(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct hold *h = hold_of(w, args);
	char text[400], reason[200];

	closep(&fd);
	rpc_reply(call, NULL, -1);
	if (h == NULL)
		return;
	str_copy(reason, sizeof(reason), json_get_str(args, "reason", "?"));
	snprintf(text, sizeof(text), "%s; %lld bytes up, %lld down", reason,
	    (long long)json_get_int(args, "bytes_up", 0),
	    (long long)json_get_int(args, "bytes_down", 0));
	event_write(w->broker,
	    &(struct event){ .name = "session.disconnected",
		.vm_id = h->vm_id,
		.user_id = h->user_id,
		.text = text,
		.duration_ms = json_get_int(args, "duration_ms", -1) });
	hold_release(w->broker, h);
}

void
op_failed(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct hold *h = hold_of(w, args);
	struct failure f;

	closep(&fd);
	rpc_reply(call, NULL, -1);
	if (h == NULL || !failure_from_json(args, &f))
		return;
	event_write(w->broker, &(struct event){ .name = "session.failed",
				   .vm_id = h->vm_id,
				   .user_id = h->user_id,
				   .text = f.err.msg,
				   .duration_ms = -1,
				   .failure = &f,
				   .of_image = f.err.code == ERR_SESSION });
	hold_release(w->broker, h);
}

/* The connection ended: what it was being given goes back. */
void
op_closed(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;
	uint64_t conn = (uint64_t)json_get_int(args, "conn", 0);
	struct hold *h, *mine;

	closep(&fd);
	rpc_reply(call, NULL, -1);
	free(map_del(&w->logins, conn));
	do {
		mine = NULL;
		MAP_EACH (&b->holds, h)
			for (; h != NULL; h = h->next)
				if (h->worker == w && h->conn == conn &&
				    !h->connected && !h->writing)
					mine = h;
		if (mine != NULL)
			hold_release(b, mine);
	} while (mine != NULL);
}

void
sessions_worker_gone(struct worker_link *w)
{
	struct broker *b = w->broker;
	struct hold *h, *mine;

	do {
		mine = NULL;
		MAP_EACH (&b->holds, h)
			for (; h != NULL; h = h->next)
				if (h->worker == w)
					mine = h;
		if (mine == NULL)
			break;
		event_write(b, &(struct event){ .name = "session.disconnected",
				   .vm_id = mine->vm_id,
				   .user_id = mine->user_id,
				   .text = "the relay process ended",
				   .duration_ms = -1 });
		hold_release(b, mine);
	} while (true);
}

/* What a worker held before this broker was started. */
void
op_sessions(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg, *other;
	struct broker *b = w->broker;
	const json_t *entry;
	struct hold *h;
	int missing = b->n_workers;
	size_t i;

	closep(&fd);
	rpc_reply(call, NULL, -1);
	json_array_foreach (json_object_get(args, "list"), i, entry) {
		int64_t vm_id = json_integer_value(json_array_get(entry, 0));
		int64_t gen = json_integer_value(json_array_get(entry, 1));

		if (hold_find(b, vm_id, gen) != NULL)
			continue;
		h = hold_new(w, 0, vm_id, gen, 0);
		h->connected = json_is_true(json_array_get(entry, 2));
	}
	w->reported = true;
	LIST_EACH (&b->workers, other, struct worker_link, link)
		missing -= other->reported;
	if (missing <= 0)
		b->graced = true;
	sessions_sync(b);
}

/* Comparing */

static void
mend(struct broker *b, const struct db_result *res, int row)
{
	int64_t vm_id = db_i64(res, row, "vm_id");
	int64_t generation = db_i64(res, row, "generation");
	bool ours = db_i64(res, row, "host_id") == b->host_id;
	bool over = str_eq(db_str(res, row, "state"), "disconnected");
	struct hold *h = hold_find(b, vm_id, generation);
	struct db_params p = { 0 };

	if (ours && !over && h == NULL) {
		event_write(
		    b, &(struct event){ .name = "session.disconnected",
			   .vm_id = vm_id,
			   .text = "it had ended while the router was being "
				   "restarted",
			   .duration_ms = -1 });
		write_disconnected(b, vm_id, generation);
	} else if (ours && over && h != NULL && h->connected) {
		session_params(&p, b, vm_id, generation);
		db_exec(b->db, &sql_connected, &p, 0, on_mended, b);
	}
	sessions_evict(b, vm_id, generation);
}

static void
on_sessions(const struct db_result *res, const struct err *err, void *arg)
{
	struct broker *b = arg;
	int i;

	if (err != NULL) {
		on_mended(NULL, err, b);
		return;
	}
	for (i = 0; i < db_rows(res); i++)
		mend(b, res, i);
}

void
sessions_sync(struct broker *b)
{
	struct db_params p = { 0 };
	struct hold *h;
	struct buf ids;

	if (b->db == NULL || !db_is_up(b->db) || b->host_id == 0 || !b->graced)
		return;
	buf_init(&ids, 1024 * 1024);
	buf_append(&ids, "{", 1);
	MAP_EACH (&b->holds, h)
		buf_printf(&ids, "%s%lld", buf_len(&ids) > 1 ? "," : "",
		    (long long)h->vm_id);
	buf_append(&ids, "}", 2);
	db_param_i64(&p, b->host_id);
	db_param_str(&p, buf_head(&ids));
	db_exec(b->db, &sql_sessions, &p, 0, on_sessions, b);
	buf_done(&ids);
}

void
sessions_end(struct broker *b, db_cb cb)
{
	struct db_params p = { 0 };

	db_param_i64(&p, b->host_id);
	db_exec(b->db, &sql_end_sessions, &p, 2000, cb, b);
}
