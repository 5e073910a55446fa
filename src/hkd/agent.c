/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/agent.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define LINE_MAX_BYTES   4096
#define LINES_PER_SECOND 200
#define ANSWER_MS        10000
#define CHANNEL_MS       5000 /* over what the helper is told to wait */
#define PAUSE_FIRST_MS   200
#define PAUSE_LAST_MS    60000
#define SAY_EVERY_MS     1000

static void connect_now(struct agent *agent, int64_t wait_ms);

static void
ignore_event(struct io *io, enum io_event event, void *arg)
{
}

/* Passes the newest state on. */
static void
say(struct agent *agent)
{
	agent->said_ms = time_now_ms();
	if (agent->session != agent->vm->session)
		vm_agent_session(agent->vm, agent->session);
}

static void
say_soon(struct agent *agent)
{
	int64_t since = time_now_ms() - agent->said_ms;

	if (since >= SAY_EVERY_MS)
		say(agent);
	else if (!timer_active(&agent->timer))
		timer_start(&agent->timer, SAY_EVERY_MS - since);
}

static void
on_timer(void *arg)
{
	struct agent *agent = arg;

	if (agent->client != NULL)
		say(agent);
	else if (agent->request == NULL)
		connect_now(agent, 0);
}

static void
lost(struct agent *agent, int64_t pause_ms, const struct err *err)
{
	struct err shown = *err;
	char text[256];

	/* The words may be the guest's. */
	str_escape(text, sizeof(text), shown.msg, strlen(shown.msg));
	log_debug("agent of VM %lld: %s", (long long)agent->vm->id, text);
	if (agent->client != NULL) {
		http_client_free(take_ptr(agent->client));
		say(agent);
	}
	buf_done(&agent->line);
	buf_init(&agent->line, LINE_MAX_BYTES);
	agent->heard = false;
	if (pause_ms == 0) {
		pause_ms = agent->pause_ms;
		agent->pause_ms *= 2;
		if (agent->pause_ms > PAUSE_LAST_MS)
			agent->pause_ms = PAUSE_LAST_MS;
	}
	timer_start(&agent->timer, pause_ms);
}

/* One line: {"at", "session", "generation", "reason"}, or {"event", ...}. */
static void
take_line(struct agent *agent, const char *text, size_t len)
{
	enum session_state session;
	json_t *line = NULL;
	const char *word;

	if (json_parse(text, len, &line, NULL) < 0)
		return;
	word = json_get_str(line, "event", NULL);
	if (word != NULL && str_eq(word, "poweroff"))
		agent->ends = true;
	word = json_get_str(line, "session", NULL);
	if (word != NULL && session_state_from_str(word, &session)) {
		agent->session = session;
		say_soon(agent);
		if (!agent->heard) {
			agent->heard = true;
			agent->ends = false;
			agent->pause_ms = PAUSE_FIRST_MS;
			vm_agent_ready(agent->vm);
		}
	}
	json_decref(line);
}

bool
agent_ends(const struct agent *agent)
{
	return agent->ends;
}

static bool
floods(struct agent *agent)
{
	int64_t now = time_now_ms();

	if (now - agent->second_ms >= 1000) {
		agent->second_ms = now;
		agent->lines = 0;
	}
	return ++agent->lines > LINES_PER_SECOND;
}

/* Takes the whole lines out of the buffer; false: the stream is over. */
static bool
take_lines(struct agent *agent)
{
	const char *head, *end;
	struct err err;
	size_t n;

	while (agent->client != NULL && buf_len(&agent->line) > 0) {
		head = buf_head(&agent->line);
		end = memchr(head, '\n', buf_len(&agent->line));
		if ((end == NULL && buf_room(&agent->line) == 0) ||
		    (end != NULL && floods(agent))) {
			err_set(&err, ERR_PROTOCOL,
			    "it says too much; it is left alone for %d s",
			    PAUSE_LAST_MS / 1000);
			lost(agent, PAUSE_LAST_MS, &err);
			return false;
		}
		if (end == NULL)
			return true;
		n = (size_t)(end - head);
		take_line(agent, head, n);
		if (agent->client != NULL)
			buf_consume(&agent->line, n + 1);
	}
	return agent->client != NULL;
}

static void
on_chunk(const void *data, size_t len, void *arg)
{
	struct agent *agent = arg;
	const char *p = data;
	size_t n;

	while (len > 0) {
		n = buf_room(&agent->line);
		if (n > len)
			n = len;
		buf_append(&agent->line, p, n);
		p += n;
		len -= n;
		if (!take_lines(agent))
			return;
	}
}

static void
on_response(const struct http_response *res, void *arg)
{
	struct err err;

	err_set(
	    &err, ERR_PROTOCOL, "the stream of events ended (%d)", res->status);
	lost(arg, 0, &err);
}

static void
on_error(const struct err *err, void *arg)
{
	lost(arg, 0, err);
}

static void
on_channel(const json_t *result, int fd, const struct err *err, void *arg)
{
	static const struct http_client_handlers handlers = {
		.on_chunk = on_chunk,
		.on_response = on_response,
		.on_error = on_error,
	};
	const struct http_client_request request = {
		.method = "GET",
		.target = "/events",
		.stream = true,
		.timeout_ms = ANSWER_MS,
	};
	struct agent *agent = arg;
	struct err none;

	agent->request = NULL;
	if (err == NULL && fd < 0) {
		err_set(&none, ERR_INTERNAL, "no descriptor came");
		err = &none;
	}
	if (err != NULL) {
		lost(agent, 0, err);
		vm_agent_failed(agent->vm, err);
		return;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	agent->client = http_client_new(
	    io_new(agent->vm->node->loop, fd, ignore_event, NULL));
	http_client_send(agent->client, &request, &handlers, agent);
}

static void
connect_now(struct agent *agent, int64_t wait_ms)
{
	struct node *node = agent->vm->node;

	agent->request = rpc_ask(node->helper, "vm.channel",
	    json_pack("{sI sI}", "vm_id", (json_int_t)agent->vm->id, "wait_ms",
		(json_int_t)wait_ms),
	    -1, wait_ms + CHANNEL_MS, on_channel, agent);
}

void
agent_init(struct agent *agent, struct vm *vm)
{
	*agent = (struct agent){ .vm = vm, .pause_ms = PAUSE_FIRST_MS };
	buf_init(&agent->line, LINE_MAX_BYTES);
	timer_init(&agent->timer, vm->node->loop, on_timer, agent);
}

void
agent_open(struct agent *agent, int64_t wait_ms)
{
	agent_close(agent);
	connect_now(agent, wait_ms);
}

void
agent_close(struct agent *agent)
{
	if (agent->request != NULL)
		rpc_request_cancel(take_ptr(agent->request));
	if (agent->client != NULL)
		http_client_free(take_ptr(agent->client));
	timer_stop(&agent->timer);
	buf_done(&agent->line);
	buf_init(&agent->line, LINE_MAX_BYTES);
	agent->heard = false;
	agent->pause_ms = PAUSE_FIRST_MS;
	agent->session = SESSION_STOPPED;
}

bool
agent_is_open(const struct agent *agent)
{
	return agent->request != NULL || agent->client != NULL ||
	       timer_active(&agent->timer);
}

void
agent_done(struct agent *agent)
{
	agent_close(agent);
	timer_done(&agent->timer);
	buf_done(&agent->line);
}

/* Requests, each on a connection of its own */

struct agent_call {
	struct vm *vm;
	const char *target;
	json_t *body;
	int64_t timeout_ms;
	struct rpc_request *request;
	struct http_client *client;
	void (*cb)(const struct err *err, void *arg);
	void *arg;
};

static void
call_end(struct agent_call *call, const struct err *err)
{
	void (*cb)(const struct err *err, void *arg) = call->cb;
	void *arg = call->arg;

	agent_call_cancel(call);
	cb(err, arg);
}

static void
on_call_response(const struct http_response *res, void *arg)
{
	struct err err;

	err_set(&err, ERR_PROTOCOL, "the agent answered %d", res->status);
	call_end(arg, res->status == 200 ? NULL : &err);
}

static void
on_call_error(const struct err *err, void *arg)
{
	call_end(arg, err);
}

static void
on_call_channel(const json_t *result, int fd, const struct err *err, void *arg)
{
	static const struct http_client_handlers handlers = {
		.on_response = on_call_response,
		.on_error = on_call_error,
	};
	struct agent_call *call = arg;
	struct http_client_request request = {
		.method = "POST",
		.target = call->target,
		.json = call->body,
		.timeout_ms = call->timeout_ms,
	};
	struct err none;

	call->request = NULL;
	if (err == NULL && fd < 0) {
		err_set(&none, ERR_INTERNAL, "no descriptor came");
		err = &none;
	}
	if (err != NULL) {
		call_end(call, err);
		return;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	call->client = http_client_new(
	    io_new(call->vm->node->loop, fd, ignore_event, NULL));
	http_client_send(call->client, &request, &handlers, call);
}

struct agent_call *
agent_post(struct vm *vm, const char *target, json_t *body, int64_t timeout_ms,
    void (*cb)(const struct err *err, void *arg), void *arg)
{
	struct agent_call *call = new0(struct agent_call);

	call->vm = vm;
	call->target = target;
	call->body = body;
	call->timeout_ms = timeout_ms;
	call->cb = cb;
	call->arg = arg;
	call->request = rpc_ask(vm->node->helper, "vm.channel",
	    json_pack("{sI sI}", "vm_id", (json_int_t)vm->id, "wait_ms",
		(json_int_t)0),
	    -1, CHANNEL_MS, on_call_channel, call);
	return call;
}

struct agent_call *
agent_poweroff(
    struct vm *vm, void (*cb)(const struct err *err, void *arg), void *arg)
{
	return agent_post(
	    vm, "/poweroff", NULL, vm->node->settings.grace_ms, cb, arg);
}

void
agent_call_cancel(struct agent_call *call)
{
	if (call == NULL)
		return;
	if (call->request != NULL)
		rpc_request_cancel(call->request);
	if (call->client != NULL)
		http_client_free(call->client);
	json_decref(call->body);
	free(call);
}
