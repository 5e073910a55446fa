/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The worker's process: its links to parent and broker, its lists. */
#include "l7r/worker.h"

#include <openssl/ssl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/roles.h"

#define FILES_OF_OUR_OWN 64
#define CONNECTIONS_MAX  20000

/* Found before the system call filter, which refuses to tell. */
static int max_connections;

static int
connections_max(void)
{
	struct rlimit files;
	int max;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 256;
	/* A relay holds two. */
	max = ((int)files.rlim_cur - FILES_OF_OUR_OWN) / 2;
	return max > CONNECTIONS_MAX ? CONNECTIONS_MAX : max < 8 ? 8 : max;
}

int
worker_prepare(struct err *err)
{
	max_connections = connections_max();
	/* Reads its configuration while there are files. */
	if (OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, NULL) != 1)
		return err_set(err, ERR_TLS, "OpenSSL can't be initialized");
	return 0;
}

void
worker_note(struct worker *w, const char *op, json_t *args)
{
	if (w->broker != NULL)
		rpc_tell(w->broker, op, args, -1);
	else if (json_array_size(w->notes) < NOTES_MAX)
		json_array_append_new(w->notes, json_pack("[s, o]", op, args));
	else
		json_decref(args);
}

/* Replaced, and what it still had has ended. */
static void
end_if_drained(struct worker *w)
{
	if (w->draining && list_empty(&w->clients) && list_empty(&w->sessions))
		loop_stop(w->loop);
}

void
worker_closed_one(struct worker *w)
{
	if (w->listener != NULL)
		listener_closed_one(w->listener);
	end_if_drained(w);
}

struct session *
session_new(struct worker *w, int vm_id, int64_t generation)
{
	struct session *s = new0(struct session);

	s->worker = w;
	s->vm_id = vm_id;
	s->generation = generation;
	list_init(&s->link);
	list_add(&w->sessions, &s->link);
	return s;
}

void
session_free(struct session *s)
{
	list_del(&s->link);
	free(s);
}

/* Broker */

static void
op_evict(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker *w = arg;
	int64_t vm_id = json_get_int(args, "vm_id", -1);
	int64_t generation = json_get_int(args, "generation", -1);
	struct session *s;

	closep(&fd);
	rpc_reply(call, NULL, -1);
	LIST_EACH (&w->sessions, s, struct session, link) {
		if (s->vm_id != vm_id || s->generation != generation)
			continue;
		if (s->relay != NULL)
			relay_end(s->relay,
			    json_get_str(args, "reason", "taken over"));
		else if (s->connect != NULL)
			connect_evict(s->connect);
		return;
	}
}

static const struct rpc_op broker_ops[] = {
	{ "evict", op_evict },
	{ .name = NULL },
};

static void
broker_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct worker *w = arg;
	struct client *c;

	rpc_free(rpc);
	if (w->broker == rpc)
		w->broker = NULL;
	LIST_EACH (&w->clients, c, struct client, link) {
		c->known = false;
		if (w->broker != NULL)
			client_retry(c);
	}
}

/* A new broker knows nothing: tell it what we hold, and what ended while
 * there was none. */
static void
report_sessions(struct worker *w)
{
	json_t *list = json_array(), *note;
	struct session *s;
	size_t i;

	LIST_EACH (&w->sessions, s, struct session, link)
		json_array_append_new(
		    list, json_pack("[i, I, b]", s->vm_id,
			      (json_int_t)s->generation, s->relay != NULL));
	rpc_tell(w->broker, "sessions", json_pack("{s:o}", "list", list), -1);
	json_array_foreach (w->notes, i, note)
		rpc_tell(w->broker, json_string_value(json_array_get(note, 0)),
		    json_incref(json_array_get(note, 1)), -1);
	json_array_clear(w->notes);
}

static void
op_peer(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker *w = arg;
	struct client *c;

	rpc_reply(call, NULL, -1);
	/* An old link closes by itself, and fails what was asked on it. */
	w->broker = rpc_new(w->loop, fd, broker_ops, broker_gone, w);
	report_sessions(w);
	LIST_EACH (&w->clients, c, struct client, link)
		client_retry(c);
}

/* Parent */

static void
on_accept(int fd, void *arg)
{
	client_new(arg, fd);
}

static void
op_setup(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker *w = arg;

	rpc_reply(call, NULL, -1);
	if (w->listener == NULL && fd >= 0)
		w->listener =
		    listener_new(w->loop, fd, max_connections, on_accept, w);
	else
		closep(&fd);
}

static void
op_tls(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker *w = arg;
	struct err err = { 0 };
	struct tls_ctx *ctx;

	closep(&fd);
	ctx = tls_ctx_new_server(json_get_str(args, "cert", ""),
	    json_get_str(args, "key", ""), NULL, &err);
	if (ctx == NULL) {
		log_err(LOG_LEVEL_ERROR, &err, "certificate");
		rpc_fail(call, &err);
		return;
	}
	if (w->tls != NULL)
		tls_ctx_unref(w->tls);
	w->tls = ctx;
	rpc_reply(call, NULL, -1);
}

/* A new worker has the listening socket, too. Clients that are being served
 * are served; those that just stay connected run into the idle timeout. */
static void
op_drain(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker *w = arg;

	closep(&fd);
	rpc_reply(call, NULL, -1);
	w->draining = true;
	if (w->listener != NULL)
		listener_free(take_ptr(w->listener));
	end_if_drained(w);
}

static const struct rpc_op parent_ops[] = {
	{ "drain", op_drain },
	{ "setup", op_setup },
	{ "tls", op_tls },
	{ "peer", op_peer },
	{ .name = NULL },
};

static void
parent_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct worker *w = arg;

	loop_stop(w->loop);
}

static void
worker_done(struct worker *w)
{
	struct session *s;
	struct client *c;

	if (w->listener != NULL)
		listener_free(take_ptr(w->listener));
	LIST_EACH (&w->sessions, s, struct session, link)
		if (s->relay != NULL)
			relay_end(s->relay, "the router was stopped");
	LIST_EACH (&w->clients, c, struct client, link)
		client_free(c);
	if (w->broker != NULL)
		rpc_free(w->broker);
	rpc_free(w->parent);
	if (w->tls != NULL)
		tls_ctx_unref(w->tls);
	json_decref(w->notes);
	loop_free(w->loop);
}

int
worker_run(int index)
{
	struct worker w = { .loop = loop_new(), .index = index };

	list_init(&w.clients);
	list_init(&w.sessions);
	w.notes = json_array();
	w.parent = rpc_new(w.loop, ROLE_FD, parent_ops, parent_gone, &w);
	loop_run(w.loop);
	worker_done(&w);
	return 0;
}
