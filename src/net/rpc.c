/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/rpc.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "net/rpc_priv.h"

struct rpc_call {
	struct rpc *rpc;  /* NULL: it has been freed */
	struct list link; /* rpc->all_calls */
	uint64_t id;      /* 0: told, not asked */
	bool abandoned;   /* nobody waits for the answer */
	void (*on_cancel)(void *arg);
	void *cancel_arg;
};

struct rpc_request {
	struct rpc *rpc; /* NULL: over */
	uint64_t id;
	rpc_result_cb cb; /* NULL: nobody wants to know */
	rpc_progress_cb progress;
	void *arg;
	struct timer timer;
	const char *op; /* for the sentence; heap */
	struct err err; /* of a request that couldn't be sent */
};

static json_t *
message(const char *type, uint64_t id)
{
	json_t *msg = json_object();

	json_object_set_new(msg, "t", json_string(type));
	if (id != 0)
		json_object_set_new(msg, "id", json_integer((json_int_t)id));
	return msg;
}

/* Ends */

struct rpc *
rpc_new(struct loop *loop, int fd, const struct rpc_op *ops,
    rpc_closed_cb closed, void *arg)
{
	struct rpc *rpc = new0(struct rpc);
	struct ucred cred = { .pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t len = sizeof(cred);

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	rpc->peer = (struct rpc_peer){ cred.pid, cred.uid, cred.gid };
	rpc->loop = loop;
	rpc->ops = ops;
	rpc->closed = closed;
	rpc->arg = arg;
	map_init(&rpc->requests);
	map_init(&rpc->calls);
	list_init(&rpc->all_calls);
	rpc_wire_init(rpc, fd);
	return rpc;
}

void *
rpc_arg(struct rpc *rpc)
{
	return rpc->arg;
}

const struct rpc_peer *
rpc_peer(const struct rpc *rpc)
{
	return &rpc->peer;
}

static void
request_destroy(void *arg)
{
	struct rpc_request *r = arg;

	timer_done(&r->timer);
	freep(&r->op);
	free(r);
}

/* Takes the request out of its rpc; it is freed at the end of the turn. */
static void
request_end(struct rpc_request *r)
{
	struct rpc *rpc = r->rpc;

	if (rpc == NULL)
		return;
	map_del(&rpc->requests, r->id);
	r->rpc = NULL;
	timer_stop(&r->timer);
	loop_defer(rpc->loop, request_destroy, r);
}

static void
request_answer(
    struct rpc_request *r, const json_t *result, int fd, const struct err *err)
{
	rpc_result_cb cb = r->cb;

	request_end(r);
	r->cb = NULL;
	if (cb != NULL)
		cb(result, fd, err, r->arg);
	else
		closep(&fd);
}

static void
call_abandon(struct rpc_call *call)
{
	void (*fn)(void *) = call->on_cancel;

	if (!call->abandoned && call->id != 0)
		map_del(&call->rpc->calls, call->id);
	call->abandoned = true;
	call->on_cancel = NULL;
	if (fn != NULL)
		fn(call->cancel_arg);
}

/* Nobody will get the answers of what is still open. */
static void
abandon_calls(struct rpc *rpc)
{
	struct rpc_call *call;
	size_t pos;

	/* A cancel callback may answer other calls: start again each time. */
	while (pos = 0, (call = map_next(&rpc->calls, &pos)) != NULL)
		call_abandon(call);
}

/* Runs at the end of the turn in which rpc_cut() was called. */
static void
cut_now(void *arg)
{
	struct rpc *rpc = arg;
	struct rpc_request *r;
	size_t pos;

	if (rpc->freed)
		return;
	rpc_wire_done(rpc);
	abandon_calls(rpc);
	while (!rpc->freed &&
	       (pos = 0, r = map_next(&rpc->requests, &pos)) != NULL) {
		r->err = rpc->why;
		r->err.code = ERR_UNAVAILABLE;
		request_answer(r, NULL, -1, &r->err);
	}
	if (!rpc->freed && rpc->closed != NULL)
		rpc->closed(rpc, &rpc->why, rpc->arg);
}

bool
rpc_is_cut(const struct rpc *rpc)
{
	return rpc->cutting;
}

void
rpc_cut(struct rpc *rpc, const struct err *err)
{
	if (rpc->cutting || rpc->freed)
		return;
	rpc->cutting = true;
	rpc->why = *err;
	watch_set(&rpc->watch, 0);
	loop_defer(rpc->loop, cut_now, rpc);
}

static void
rpc_destroy(void *arg)
{
	struct rpc *rpc = arg;

	map_done(&rpc->requests);
	map_done(&rpc->calls);
	free(rpc);
}

void
rpc_free(struct rpc *rpc)
{
	struct rpc_request *r;
	struct rpc_call *call;
	size_t pos;

	if (rpc == NULL || rpc->freed)
		return;
	rpc->freed = true;
	rpc_wire_done(rpc);
	abandon_calls(rpc);
	while ((call = list_first(&rpc->all_calls, struct rpc_call, link)) !=
	       NULL) {
		list_del(&call->link);
		call->rpc = NULL;
	}
	while (pos = 0, (r = map_next(&rpc->requests, &pos)) != NULL) {
		r->cb = NULL;
		request_end(r);
	}
	loop_defer(rpc->loop, rpc_destroy, rpc);
}

/* Answering */

static json_t *
fail_message(uint64_t id, const struct err *err)
{
	json_t *msg = message("fail", id);
	json_t *wrapped = json_from_err(err);

	json_object_set(msg, "error", json_object_get(wrapped, "error"));
	json_decref(wrapped);
	return msg;
}

static void
call_finish(struct rpc_call *call, json_t *msg, int fd)
{
	struct err err = { 0 };

	list_del(&call->link);
	if (call->abandoned || call->rpc == NULL || call->id == 0) {
		json_decref(msg);
		closep(&fd);
		free(call);
		return;
	}
	map_del(&call->rpc->calls, call->id);
	if (!rpc_send(call->rpc, msg, fd)) {
		err_set(&err, ERR_TOO_LARGE, "the answer is too large");
		rpc_send(call->rpc, fail_message(call->id, &err), -1);
	}
	free(call);
}

void
rpc_reply(struct rpc_call *call, json_t *result, int fd)
{
	json_t *msg = message("ok", call->id);

	json_object_set_new(
	    msg, "result", result == NULL ? json_object() : result);
	call_finish(call, msg, fd);
}

void
rpc_fail(struct rpc_call *call, const struct err *err)
{
	call_finish(call, fail_message(call->id, err), -1);
}

void
rpc_progress(struct rpc_call *call, json_t *info)
{
	json_t *msg;

	if (call->rpc == NULL || call->abandoned || call->id == 0) {
		json_decref(info);
		return;
	}
	msg = message("progress", call->id);
	json_object_set_new(msg, "info", info);
	rpc_send(call->rpc, msg, -1);
}

struct rpc *
rpc_call_rpc(const struct rpc_call *call)
{
	return call->rpc;
}

void
rpc_call_on_cancel(struct rpc_call *call, void (*cb)(void *arg), void *arg)
{
	call->on_cancel = cb;
	call->cancel_arg = arg;
}

/* Asking */

/* The end of the turn in which a request failed before it was sent. */
static void
fail_unsent(void *arg)
{
	struct rpc_request *r = arg;

	if (r->rpc != NULL)
		request_answer(r, NULL, -1, &r->err);
}

static void
on_request_deadline(void *arg)
{
	struct rpc_request *r = arg;
	struct err err = { 0 };

	err_set(&err, ERR_TIMEOUT, "no answer to '%s' in time", r->op);
	rpc_send(r->rpc, message("cancel", r->id), -1);
	request_answer(r, NULL, -1, &err);
}

struct rpc_request *
rpc_ask(struct rpc *rpc, const char *op, json_t *args, int fd,
    int64_t deadline_ms, rpc_result_cb cb, void *arg)
{
	struct rpc_request *r = new0(struct rpc_request);
	json_t *msg;

	r->rpc = rpc;
	r->id = ++rpc->last_id;
	r->cb = cb;
	r->arg = arg;
	r->op = xstrdup(op);
	timer_init(&r->timer, rpc->loop, on_request_deadline, r);
	map_set(&rpc->requests, r->id, r);
	msg = message("ask", r->id);
	json_object_set_new(msg, "op", json_string(op));
	json_object_set_new(msg, "args", args == NULL ? json_object() : args);
	if (rpc->cutting) {
		/* cut_now() may have run already. */
		r->err = rpc->why;
		r->err.code = ERR_UNAVAILABLE;
		loop_defer(rpc->loop, fail_unsent, r);
	}
	if (!rpc_send(rpc, msg, fd)) {
		err_set(&r->err, ERR_TOO_LARGE,
		    "request '%s' is longer than %d KiB", op,
		    RPC_MESSAGE_MAX / 1024);
		loop_defer(rpc->loop, fail_unsent, r);
	}
	if (deadline_ms > 0 && !rpc->cutting)
		timer_start(&r->timer, deadline_ms);
	return r;
}

void
rpc_request_on_progress(struct rpc_request *r, rpc_progress_cb cb)
{
	r->progress = cb;
}

void
rpc_request_cancel(struct rpc_request *r)
{
	if (r == NULL || r->rpc == NULL)
		return;
	r->cb = NULL;
	rpc_send(r->rpc, message("cancel", r->id), -1);
	request_end(r);
}

void
rpc_tell(struct rpc *rpc, const char *op, json_t *args, int fd)
{
	json_t *msg = message("tell", 0);

	json_object_set_new(msg, "op", json_string(op));
	json_object_set_new(msg, "args", args == NULL ? json_object() : args);
	rpc_send(rpc, msg, fd);
}

/* What comes in */

static const struct rpc_op *
find_op(const struct rpc *rpc, const char *name)
{
	const struct rpc_op *op;

	for (op = rpc->ops; op != NULL && op->name != NULL; op++)
		if (str_eq(op->name, name))
			return op;
	return NULL;
}

static int
got_call(
    struct rpc *rpc, const json_t *msg, uint64_t id, int fd, struct err *err)
{
	const char *name = json_get_str(msg, "op", NULL);
	const json_t *args = json_object_get(msg, "args");
	const struct rpc_op *op;
	struct rpc_call *call;
	struct err why = { 0 };

	if (name == NULL || !json_is_object(args) ||
	    (id != 0 && map_get(&rpc->calls, id) != NULL)) {
		closep(&fd);
		return err_set(err, ERR_PROTOCOL, "malformed request");
	}
	call = new0(struct rpc_call);
	call->rpc = rpc;
	call->id = id;
	list_init(&call->link);
	list_add(&rpc->all_calls, &call->link);
	if (id != 0)
		map_set(&rpc->calls, id, call);
	op = find_op(rpc, name);
	if (op == NULL)
		err_set(&why, ERR_NOT_FOUND, "no such operation here: '%.60s'",
		    name);
	else if (map_count(&rpc->calls) > RPC_CALLS_MAX)
		err_set(&why, ERR_UNAVAILABLE, "more than %d requests are open",
		    RPC_CALLS_MAX);
	if (err_is_set(&why)) {
		closep(&fd);
		rpc_fail(call, &why);
		return 0;
	}
	op->handler(call, args, fd, rpc->arg);
	return 0;
}

static int
got_answer(struct rpc *rpc, const json_t *msg, const char *type,
    struct rpc_request *r, int fd, struct err *err)
{
	const json_t *result = json_object_get(msg, "result");
	struct err why = { 0 };

	if (str_eq(type, "progress")) {
		closep(&fd);
		if (r != NULL && r->progress != NULL)
			r->progress(json_object_get(msg, "info"), r->arg);
		return 0;
	}
	if (str_eq(type, "fail")) {
		result = json_object_get(msg, "error");
		if (json_get_str(result, "id", NULL) == NULL ||
		    json_get_str(result, "message", NULL) == NULL)
			result = NULL;
		json_to_err(msg, &why);
	}
	if (!json_is_object(result)) {
		closep(&fd);
		return err_set(err, ERR_PROTOCOL, "malformed answer");
	}
	if (r == NULL) { /* cancelled, or it came too late */
		closep(&fd);
		return 0;
	}
	if (err_is_set(&why)) {
		closep(&fd);
		request_answer(r, NULL, -1, &why);
	} else {
		request_answer(r, result, fd, NULL);
	}
	return 0;
}

int
rpc_dispatch(struct rpc *rpc, const json_t *msg, int fd, struct err *err)
{
	const char *type = json_get_str(msg, "t", "");
	json_int_t n = json_get_int(msg, "id", 0);
	uint64_t id = n > 0 ? (uint64_t)n : 0;
	struct rpc_call *call;

	if (str_eq(type, "tell"))
		return got_call(rpc, msg, 0, fd, err);
	if (id != 0 && str_eq(type, "ask"))
		return got_call(rpc, msg, id, fd, err);
	if (id != 0 && str_eq(type, "cancel")) {
		closep(&fd);
		call = map_get(&rpc->calls, id);
		if (call != NULL)
			call_abandon(call);
		return 0;
	}
	if (id != 0 && id <= rpc->last_id &&
	    (str_eq(type, "ok") || str_eq(type, "fail") ||
		str_eq(type, "progress")))
		return got_answer(
		    rpc, msg, type, map_get(&rpc->requests, id), fd, err);
	closep(&fd);
	return err_set(err, ERR_PROTOCOL, "unknown kind of message");
}
