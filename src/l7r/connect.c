/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * connect_to_vm and stop_vm at the worker. Connecting: the broker acquires
 * the session, sees to it that the VM runs, and hands over a descriptor that
 * leads to its agent; the worker has the agent start or resume the X session
 * and open the display, and becomes a relay. Every byte of the VM is taken
 * for hostile: what of it reaches the client is one line of ASCII.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/request.h"
#include "l7r/worker.h"
#include "net/http_client.h"

#define STREAM_MS   15000
#define AGENT_BODY  (64 * 1024)
#define INTERIM_MAX 200 /* lines that a VM may send to its user */
#define KEY_LEN     64

struct connect {
	struct client *client;
	int vm_id;
	json_t *params;          /* of the client, then with the properties */
	struct session *session; /* once acquired */
	char key[KEY_LEN + 1];
	int64_t session_ms; /* for POST /session, with provisioning */
	struct http_client *agent;
	struct io *stream; /* display, between the agent's 101 and ours */
	int64_t start_ms;  /* when the request came */
	int64_t agent_ms;  /* the X session's part of it, as the VMA says */
	bool resumes;      /* the client comes back after a lost link */
	bool resumed;      /* the X session was there already */
	int interims;
	bool told; /* the broker knows how it ended */
};

void
connect_free(struct connect *cn)
{
	struct session *s = cn->session;

	if (cn->agent != NULL)
		http_client_free(cn->agent);
	if (cn->stream != NULL)
		io_free(cn->stream);
	if (s != NULL && !cn->told)
		worker_note(s->worker, "disconnected",
		    json_pack("{s:i, s:I, s:s}", "vm_id", s->vm_id,
			"generation", (json_int_t)s->generation, "reason",
			"the client left while it was being connected"));
	if (s != NULL)
		session_free(s);
	json_decref(cn->params);
	explicit_bzero(cn->key, sizeof(cn->key));
	free(cn);
}

/* Answers the client, and tells the timeline. */
static void
fail(struct connect *cn, const struct failure *f)
{
	struct session *s = cn->session;
	json_t *note;

	if (s != NULL) {
		log_warn("VM %d, session %lld: %s (%s, ref %s)", s->vm_id,
		    (long long)s->generation, f->err.msg, err_id(f->err.code),
		    f->ref);
		note = failure_to_json(f);
		json_object_set_new(note, "vm_id", json_integer(s->vm_id));
		json_object_set_new(note, "generation",
		    json_integer((json_int_t)s->generation));
		worker_note(s->worker, "failed", note);
		cn->told = true;
	}
	client_fail_vm(cn->client, f);
}

/* The client came back to a session that its user has ended: not a failure
 * of anything. */
static void
say_ended(struct connect *cn)
{
	struct session *s = cn->session;
	struct failure f;

	worker_note(s->worker, "disconnected",
	    json_pack("{s:i, s:I, s:s}", "vm_id", s->vm_id, "generation",
		(json_int_t)s->generation, "reason",
		"the client came back, and heard that the session has ended"));
	cn->told = true;
	failure_set(&f, 410, ERR_ENDED,
	    "The session in VM %d has ended; connect again for a new one",
	    cn->vm_id);
	client_fail(cn->client, &f);
}

void
connect_evict(struct connect *cn)
{
	struct failure f;

	failure_set(&f, 0, ERR_TAKEN_OVER,
	    "Aborted by contending session VM VM_ID: %d", cn->vm_id);
	fail(cn, &f);
}

/* What the agent, or the way to it, says went wrong. */
static void
fail_agent(struct connect *cn, const char *what, const struct err *err)
{
	struct failure f;
	char text[400];

	line_of(text, sizeof(text), err->msg);
	if (err->code == ERR_TAKEN_OVER) {
		connect_evict(cn);
		return;
	}
	if (err->code == ERR_ENDED && cn->resumes) {
		say_ended(cn);
		return;
	}
	if (err->code == ERR_TIMEOUT)
		failure_set(&f, 0, ERR_SESSION,
		    "Unable to %s VM %d, operation timed out!", what,
		    cn->vm_id);
	else
		/* A full disk is worth its own word: somebody can make room. */
		failure_set(&f, 503,
		    err->code == ERR_NO_SPACE ? ERR_NO_SPACE : ERR_SESSION,
		    "Unable to %s VM %d: %s", what, cn->vm_id, text);
	fail(cn, &f);
}

/* The display */

static void
on_stream_event(struct io *io, enum io_event event, void *arg)
{
	struct connect *cn = arg;
	struct err err = { 0 };

	if (event != IO_EOF && event != IO_ERROR)
		return;
	err_set(&err, ERR_SESSION, "the desktop closed its display");
	fail_agent(cn, "connect to X server on", &err);
}

static void
on_connected(const json_t *answer, int fd, const struct err *err, void *arg)
{
	struct client *c = arg;
	struct connect *cn = c->connect;
	struct session *s = cn->session;
	char headers[KEY_LEN + 32], address[64];
	struct failure f;
	struct io *io, *stream;

	closep(&fd);
	c->ask = NULL;
	if (answer_failed(answer, err, &f)) {
		fail(cn, &f);
		return;
	}
	client_progress(c, "Connection established");
	snprintf(headers, sizeof(headers), "X-QVD-Slave-Key: %s\r\n", cn->key);
	stream = take_ptr(cn->stream);
	cn->session = NULL;
	str_copy(address, sizeof(address), c->address);
	io = client_upgrade(c, headers);
	explicit_bzero(headers, sizeof(headers));
	relay_new(s, io, stream, address);
}

static void
on_agent_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	struct connect *cn = arg;
	struct session *s = cn->session;

	cn->agent = NULL;
	cn->stream = io;
	io_set_cb(io, on_stream_event, cn);
	client_ask(cn->client, "connected",
	    json_pack("{s:i, s:I, s:I, s:I, s:b}", "vm_id", s->vm_id,
		"generation", (json_int_t)s->generation, "duration_ms",
		(json_int_t)(loop_now_ms(s->worker->loop) - cn->start_ms),
		"agent_ms", (json_int_t)cn->agent_ms, "resumed", cn->resumed),
	    ASK_DEADLINE_MS, on_connected, NULL);
}

static void
answer_to_err(const struct http_response *res, struct err *err)
{
	if (res->json == NULL || json_to_err(res->json, err) == 0)
		err_set(err, ERR_PROTOCOL,
		    "the agent of the desktop answered %d", res->status);
}

static void
on_stream_response(const struct http_response *res, void *arg)
{
	struct err err = { 0 };

	answer_to_err(res, &err);
	fail_agent(arg, "connect to X server on", &err);
}

static void
on_stream_error(const struct err *err, void *arg)
{
	fail_agent(arg, "connect to X server on", err);
}

static const struct http_client_handlers stream_handlers = {
	.on_response = on_stream_response,
	.on_upgrade = on_agent_upgrade,
	.on_error = on_stream_error,
};

static void
open_stream(struct connect *cn)
{
	char target[64], text[64];
	struct http_client_request req = {
		.method = "GET",
		.target = target,
		.upgrade = "qvd-stream/1",
		.timeout_ms = STREAM_MS,
		.body_max = AGENT_BODY,
	};

	snprintf(text, sizeof(text), "Connecting X session for VM_ID: %d",
	    cn->vm_id);
	client_progress(cn->client, text);
	snprintf(target, sizeof(target), "/session/stream?generation=%lld",
	    (long long)cn->session->generation);
	http_client_send(cn->agent, &req, &stream_handlers, cn);
}

/* The X session */

static void
on_session_response(const struct http_response *res, void *arg)
{
	struct connect *cn = arg;
	struct err err = { 0 };

	if (res->status == 200 &&
	    str_eq(json_get_str(res->json, "state", ""), "listening")) {
		cn->resumed = json_get_bool(res->json, "resumed", false);
		cn->agent_ms =
		    json_get_int(json_object_get(res->json, "ms"), "total", 0);
		open_stream(cn);
		return;
	}
	answer_to_err(res, &err);
	fail_agent(cn, "start X session on", &err);
}

static void
on_session_interim(int status, const struct http_params *headers, void *arg)
{
	struct connect *cn = arg;
	const char *text = http_header(headers, "X-QVD-VM-Info");

	if (status == 102 && text != NULL && cn->interims++ < INTERIM_MAX)
		client_progress(cn->client, text);
}

static void
on_session_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	struct connect *cn = arg;
	struct err err = { 0 };

	io_free(io);
	cn->agent = NULL;
	err_set(&err, ERR_PROTOCOL, "its agent upgraded what it must not");
	fail_agent(cn, "start X session on", &err);
}

static void
on_session_error(const struct err *err, void *arg)
{
	fail_agent(arg, "start X session on", err);
}

static const struct http_client_handlers session_handlers = {
	.on_interim = on_session_interim,
	.on_response = on_session_response,
	.on_upgrade = on_session_upgrade,
	.on_error = on_session_error,
};

static void
start_session(struct connect *cn, json_t *body)
{
	struct http_client_request req = {
		.method = "POST",
		.target = "/session",
		.json = body,
		.timeout_ms = cn->session_ms,
		.body_max = AGENT_BODY,
	};
	char text[80];

	snprintf(text, sizeof(text), "Starting X session at VM %d", cn->vm_id);
	client_progress(cn->client, text);
	snprintf(text, sizeof(text),
	    "Waiting for X session to come up on VM %d", cn->vm_id);
	client_progress(cn->client, text);
	http_client_send(cn->agent, &req, &session_handlers, cn);
	json_decref(body);
}

/* The session's parameters: the client's, then the properties, then ours. */
static json_t *
session_body(struct connect *cn, const json_t *answer, struct err *err)
{
	json_t *display;

	json_object_update(cn->params, json_object_get(answer, "properties"));
	if (params_to_display(cn->params, &display, err) < 0)
		return NULL;
	json_object_set_new(cn->params, "qvd.slave.key", json_string(cn->key));
	return json_pack("{s:I, s:b, s:O, s:o, s:O}", "generation",
	    (json_int_t)cn->session->generation, "resume", cn->resumes, "user",
	    json_object_get(answer, "user"), "display", display, "params",
	    cn->params);
}

static void
ignore_event(struct io *io, enum io_event event, void *arg)
{
}

static void
on_acquired(const json_t *answer, int fd, const struct err *err, void *arg)
{
	struct client *c = arg;
	struct connect *cn = c->connect;
	struct worker *w = c->worker;
	struct err bad = { 0 };
	struct failure f;
	json_t *body;

	c->ask = NULL;
	if (answer_failed(answer, err, &f)) {
		closep(&fd);
		/* What is no failure of the connection itself is answered in
		 * the protocol's own words. */
		if (f.status != 0)
			client_fail(c, &f);
		else
			client_fail_vm(c, &f);
		return;
	}
	cn->session =
	    session_new(w, cn->vm_id, json_get_int(answer, "generation", 0));
	cn->session->connect = cn;
	str_copy(cn->key, sizeof(cn->key), json_get_str(answer, "key", ""));
	cn->session_ms = json_get_int(answer, "session_ms", 0);
	body = session_body(cn, answer, &bad);
	if (fd < 0)
		err_set(&bad, ERR_INTERNAL, "no way to its agent was given");
	if (err_is_set(&bad)) {
		closep(&fd);
		json_decref(body);
		failure_from_err(&f, &bad);
		fail(cn, &f);
		return;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	cn->agent = http_client_new(io_new(w->loop, fd, ignore_event, NULL));
	start_session(cn, body);
}

static void
on_progress(const json_t *info, void *arg)
{
	struct client *c = arg;

	client_progress(c, json_get_str(info, "text", ""));
}

static bool
asks_upgrade(const struct client *c)
{
	const char *connection = http_header(&c->req->headers, "Connection");
	const char *upgrade = http_header(&c->req->headers, "Upgrade");

	return connection != NULL && str_eq(connection, "Upgrade") &&
	       upgrade != NULL && str_eq(upgrade, "QVD/1.0");
}

/* Checks in the order of the protocol; 0, or *err with the status. */
static int
check_request(struct client *c, int *ret_vm_id, struct err *err)
{
	int r;

	if (!asks_upgrade(c))
		return err_set(err, ERR_UPGRADE,
		    "Upgrade Required: this needs the headers 'Connection: "
		    "Upgrade' and 'Upgrade: QVD/1.0'");
	if ((r = vm_id_parse(&c->req->query, ret_vm_id, err)) < 0)
		return r;
	return params_check(&c->req->query, err);
}

static json_t *
connect_args(struct client *c, struct connect *cn)
{
	const char *agent = http_header(&c->req->headers, "User-Agent");
	const char *resume = http_header(&c->req->headers, "X-QVD-Resume");
	char line[129];
	json_t *args;

	line_of(line, sizeof(line), agent != NULL ? agent : "");
	args = json_pack("{s:i, s:s, s:s}", "vm_id", cn->vm_id, "address",
	    c->address, "client", line);
	cn->resumes = resume != NULL;
	if (cn->resumes)
		json_object_set_new(args, "resume",
		    json_string(str_is_token(resume, KEY_LEN) ? resume : "?"));
	return args;
}

void
connect_run(struct client *c)
{
	struct err err = { 0 };
	struct failure f;
	struct connect *cn;
	json_t *params = NULL, *display = NULL;
	int vm_id;

	if (check_request(c, &vm_id, &err) < 0) {
		failure_from_err(&f, &err);
		client_fail(c, &f);
		return;
	}
	if (params_to_json(&c->req->query, &params, &err) < 0 ||
	    params_to_display(params, &display, &err) < 0) {
		json_decref(params);
		failure_from_err(&f, &err);
		client_fail_vm(c, &f);
		return;
	}
	json_decref(display);
	cn = new0(struct connect);
	cn->client = c;
	cn->start_ms = loop_now_ms(c->worker->loop);
	cn->vm_id = vm_id;
	cn->params = params;
	c->connect = cn;
	client_ask(c, "connect", connect_args(c, cn), START_DEADLINE_MS,
	    on_acquired, on_progress);
}

/* stop_vm */

static void
on_stopped(const json_t *answer, int fd, const struct err *err, void *arg)
{
	struct client *c = arg;
	struct failure f;

	closep(&fd);
	c->ask = NULL;
	if (answer_failed(answer, err, &f))
		client_fail(c, &f);
	else
		client_text(c, 200, "Machine stopped\r\n");
}

void
stop_run(struct client *c)
{
	struct err err = { 0 };
	struct failure f;
	int vm_id;

	if (vm_id_parse(&c->req->query, &vm_id, &err) < 0) {
		failure_from_err(&f, &err);
		client_fail(c, &f);
		return;
	}
	client_ask(c, "stop", json_pack("{s:i}", "vm_id", vm_id),
	    START_DEADLINE_MS, on_stopped, on_progress);
}
