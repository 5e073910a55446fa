/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/http_client.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "net/http_priv.h"

#define HEAD_MAX     (16 * 1024)
#define BODY_DEFAULT (1024 * 1024)
#define INTERIM_MAX  4096 /* of one request: more is a game */

struct http_client {
	struct loop *loop;
	struct io *io; /* NULL: handed out or dead */
	bool freed;
	bool busy;
	bool in_body;
	bool running;
	struct http_client_handlers handlers;
	void *arg;
	bool stream, head_only, want_upgrade;
	int interims;
	size_t scanned;
	struct http_msg msg;
	struct arena *arena;
	struct buf body;
	struct timer timer;
	struct err err;
};

static void run(struct http_client *c);

static void
release_answer(struct http_client *c)
{
	arena_free(take_ptr(c->arena));
	buf_done_secret(&c->body);
	c->in_body = false;
	c->scanned = 0;
}

static void
destroy(void *arg)
{
	struct http_client *c = arg;

	release_answer(c);
	timer_done(&c->timer);
	free(c);
}

void
http_client_free(struct http_client *c)
{
	if (c == NULL || c->freed)
		return;
	c->freed = true;
	c->busy = false;
	timer_stop(&c->timer);
	io_free(take_ptr(c->io));
	loop_defer(c->loop, destroy, c);
}

/* Ends the request (and the connection, which nobody can trust any more). */
static void
fail(struct http_client *c, const struct err *err)
{
	struct err copy = *err;

	timer_stop(&c->timer);
	io_free(take_ptr(c->io));
	if (!err_is_set(&c->err))
		c->err = copy;
	if (!c->busy || c->freed)
		return;
	c->busy = false;
	c->handlers.on_error(&copy, c->arg);
}

static void
fail_now(void *arg)
{
	struct http_client *c = arg;

	if (!c->freed)
		fail(c, &c->err);
}

static void
protocol_error(struct http_client *c, const struct err *why)
{
	struct err err = { 0 };

	err_set(
	    &err, ERR_PROTOCOL, "the answer isn't proper HTTP: %s", why->msg);
	fail(c, &err);
}

static void
on_request_timeout(void *arg)
{
	struct http_client *c = arg;
	struct err err = { 0 };

	err_set(&err, ERR_TIMEOUT, "no answer in time");
	fail(c, &err);
}

/* Taking an answer in */

static bool
on_body(const void *data, size_t len, void *arg)
{
	struct http_client *c = arg;

	if (!c->stream)
		return buf_append(&c->body, data, len);
	if (c->handlers.on_chunk != NULL && c->busy)
		c->handlers.on_chunk(data, len, c->arg);
	return true;
}

static void
finish(struct http_client *c)
{
	struct http_response res = { .status = c->msg.status,
		.headers = c->msg.headers };
	const char *type = http_header(&c->msg.headers, "Content-Type");
	bool close = c->msg.close || c->msg.body == HTTP_BODY_TO_END;
	struct err err = { 0 };
	/* The handler may send the next request, or free us: what it looks
	 * at is ours alone. */
	_cleanup_(buf_done_secret)
	struct buf body = c->body;
	_cleanup_(arena_freep)
	_unused_ struct arena *arena = take_ptr(c->arena);
	_cleanup_(json_decrefp)
	json_t *json = NULL;

	timer_stop(&c->timer);
	buf_init(&c->body, 0);
	c->in_body = false;
	c->scanned = 0;
	res.body_len = body.len;
	body.limit++;
	buf_append(&body, "", 1);
	res.body = buf_head(&body);
	if (type != NULL && strncasecmp(type, "application/json", 16) == 0 &&
	    !c->stream && res.body_len > 0 &&
	    json_parse(res.body, res.body_len, &json, &err) < 0) {
		protocol_error(c, &err);
		return;
	}
	res.json = json;
	c->busy = false;
	if (close) {
		io_close(take_ptr(c->io));
		err_set(&c->err, ERR_UNAVAILABLE,
		    "the other side has closed the connection");
	}
	c->handlers.on_response(&res, c->arg);
}

/* 101: the stream changes hands. */
static void
finish_upgrade(struct http_client *c)
{
	struct io *io = take_ptr(c->io);

	timer_stop(&c->timer);
	io_set_deadline(io, 0);
	io_set_read_limit(io, IO_READ_LIMIT);
	io_set_cb(io, NULL, NULL);
	c->busy = false;
	c->handlers.on_upgrade(io, &c->msg.headers, c->arg);
	http_client_free(c);
}

/* What the answer's body will be; HTTP leaves some to the request. */
static void
settle_body(struct http_client *c)
{
	struct http_msg *m = &c->msg;

	if (c->head_only || m->status == 204 || m->status == 304)
		m->body = HTTP_BODY_NONE;
	else if (m->body == HTTP_BODY_NONE &&
		 http_header(&m->headers, "Content-Length") == NULL)
		m->body = HTTP_BODY_TO_END;
	m->complete = m->body == HTTP_BODY_NONE;
}

static bool
got_head(struct http_client *c)
{
	struct err err = { 0 };

	if (c->msg.status < 200 && c->msg.status != 101) {
		if (++c->interims > INTERIM_MAX) {
			err_set(&err, ERR_PROTOCOL, "too many interim answers");
			protocol_error(c, &err);
			return false;
		}
		if (c->handlers.on_interim != NULL)
			c->handlers.on_interim(
			    c->msg.status, &c->msg.headers, c->arg);
		if (!c->freed)
			release_answer(c);
		return !c->freed;
	}
	if (c->msg.status == 101) {
		if (c->want_upgrade) {
			finish_upgrade(c);
			return false;
		}
		err_set(&err, ERR_PROTOCOL, "an upgrade nobody asked for");
		protocol_error(c, &err);
		return false;
	}
	timer_stop(&c->timer);
	settle_body(c);
	c->in_body = true;
	if (c->msg.complete)
		finish(c);
	return true;
}

static bool
step_head(struct http_client *c)
{
	struct err err = { 0 };
	const char *in;
	size_t len, head;
	int r;

	in = io_input(c->io, &len);
	head = http_head_end(in, len, &c->scanned);
	if (head > HEAD_MAX || (head == 0 && len >= HEAD_MAX)) {
		err_set(&err, ERR_PROTOCOL, "its head is too long");
		protocol_error(c, &err);
		return false;
	}
	if (head == 0)
		return false;
	c->arena = arena_new(HEAD_MAX * 4);
	c->msg.on_body = on_body;
	c->msg.arg = c;
	r = http_msg_head(&c->msg, HTTP_RESPONSE, c->arena, in, head, &err);
	io_consume(c->io, head);
	if (r != 0) {
		protocol_error(c, &err);
		return false;
	}
	return got_head(c);
}

static bool
step_body(struct http_client *c)
{
	struct err err = { 0 };
	const char *in;
	size_t len, used;
	int r;

	in = io_input(c->io, &len);
	if (len == 0)
		return false;
	r = http_msg_body(&c->msg, in, len, &used, &err);
	if (c->freed || c->io == NULL)
		return false; /* by on_chunk() */
	if (r != 0) {
		protocol_error(c, &err);
		return false;
	}
	io_consume(c->io, used);
	if (c->msg.body == HTTP_BODY_TO_END)
		c->msg.complete = false;
	if (c->msg.complete)
		finish(c);
	return true;
}

static void
run(struct http_client *c)
{
	bool more = true;

	if (c->running)
		return;
	c->running = true;
	while (more && c->busy && !c->freed && c->io != NULL)
		more = c->in_body ? step_body(c) : step_head(c);
	c->running = false;
}

static void
on_eof(struct http_client *c)
{
	struct err err = { 0 };

	if (c->busy && c->in_body && c->msg.body == HTTP_BODY_TO_END) {
		finish(c);
		return;
	}
	err_set(&err, ERR_UNAVAILABLE,
	    c->busy ? "the other side closed the connection before it "
		      "answered"
		    : "the other side has closed the connection");
	fail(c, &err);
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	struct http_client *c = arg;

	switch (event) {
	case IO_DATA:
		run(c);
		break;
	case IO_EOF:
		on_eof(c);
		break;
	case IO_ERROR:
		fail(c, io_error(io));
		break;
	case IO_CONNECTED:
	case IO_SECURED:
	case IO_LOWAT:
	case IO_TIMEOUT:
		break;
	}
}

struct http_client *
http_client_new(struct io *io)
{
	struct http_client *c = new0(struct http_client);

	c->loop = io_loop(io);
	c->io = io;
	timer_init(&c->timer, c->loop, on_request_timeout, c);
	io_set_cb(io, on_io, c);
	return c;
}

static void
write_request(struct http_client *c, const struct http_client_request *req)
{
	_cleanup_(wipe_strp)
	char *body = req->json == NULL ? NULL : json_text(req->json);
	struct buf head;

	buf_init(&head, SIZE_MAX / 4);
	buf_printf(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s",
	    req->method, req->target, req->headers == NULL ? "" : req->headers);
	if (req->upgrade != NULL)
		buf_printf(&head, "Connection: Upgrade\r\nUpgrade: %s\r\n",
		    req->upgrade);
	if (body != NULL)
		buf_printf(&head,
		    "Content-Type: application/json\r\n"
		    "Content-Length: %zu\r\n",
		    strlen(body));
	else if (!str_eq(req->method, "GET") && !str_eq(req->method, "HEAD"))
		buf_printf(&head, "Content-Length: 0\r\n");
	buf_printf(&head, "\r\n%s", body == NULL ? "" : body);
	io_write(c->io, buf_head(&head), head.len);
	buf_done_secret(&head);
}

void
http_client_send(struct http_client *c, const struct http_client_request *req,
    const struct http_client_handlers *handlers, void *arg)
{
	size_t len;

	assert(!c->busy && !c->freed);
	c->handlers = *handlers;
	c->arg = arg;
	c->interims = 0;
	c->stream = req->stream;
	c->head_only = str_eq(req->method, "HEAD");
	c->want_upgrade = req->upgrade != NULL && handlers->on_upgrade != NULL;
	buf_init(&c->body, req->body_max == 0 ? BODY_DEFAULT : req->body_max);
	c->busy = true;
	if (c->io == NULL) {
		loop_defer(c->loop, fail_now, c);
		return;
	}
	io_input(c->io, &len);
	if (len > 0) { /* an answer that nobody asked for */
		err_set(&c->err, ERR_PROTOCOL,
		    "the other side sent data without a request");
		loop_defer(c->loop, fail_now, c);
		return;
	}
	write_request(c, req);
	if (req->timeout_ms > 0)
		timer_start(&c->timer, req->timeout_ms);
}
