/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/http_server.h"

#include <openssl/ssl.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/http_conn_priv.h"

#define EXPECT_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

const struct http_server_conf http_server_defaults = {
	.head_max = 16384,
	.body_max = 1024 * 1024,
	.header_timeout_ms = 10000,
	.body_timeout_ms = 30000,
	.idle_timeout_ms = 60000,
};

/* Life */

static void
release_request(struct http_conn *conn)
{
	arena_free(take_ptr(conn->arena));
	buf_done_secret(&conn->body);
	memset(&conn->req, 0, sizeof(conn->req));
}

static void
destroy(void *arg)
{
	struct http_conn *conn = arg;

	release_request(conn);
	free(conn);
}

void
http_conn_gone(struct http_conn *conn)
{
	if (conn->state == HTTP_CONN_GONE)
		return;
	conn->state = HTTP_CONN_GONE;
	conn->io = NULL;
	loop_defer(conn->loop, destroy, conn);
}

void
http_conn_free(struct http_conn *conn)
{
	if (conn == NULL || conn->state == HTTP_CONN_GONE)
		return;
	io_free(conn->io);
	http_conn_gone(conn);
}

struct io *
http_conn_io(struct http_conn *conn)
{
	return conn->io;
}

void *
http_conn_arg(struct http_conn *conn)
{
	return conn->arg;
}

/* The connection ends by itself: gracefully, or because it is dead. */
static void
end(struct http_conn *conn, bool graceful)
{
	bool open = conn->state == HTTP_CONN_ANSWERING ||
		    conn->state == HTTP_CONN_STREAMING;
	struct io *io = conn->io;

	if (conn->state == HTTP_CONN_GONE)
		return;
	http_conn_gone(conn);
	if (graceful)
		io_close(io);
	else
		io_free(io);
	if (open && conn->handlers.on_abort != NULL)
		conn->handlers.on_abort(conn, conn->arg);
	if (conn->handlers.on_close != NULL)
		conn->handlers.on_close(conn, conn->arg);
}

/* What is wrong with the request is answered, and nothing more is read. */
static void
refuse(struct http_conn *conn, int status, const char *text)
{
	struct err err = { 0 };

	if (conn->state == HTTP_CONN_GONE)
		return;
	conn->state = HTTP_CONN_ANSWERING;
	conn->close_after = true;
	io_pause(conn->io);
	io_set_deadline(conn->io, 0);
	if (conn->conf.lenient) {
		http_respond_text(conn, status, text);
	} else {
		err_set(&err, ERR_INVALID, "%s", text);
		http_respond_json(conn, status, json_from_err(&err));
	}
}

/* Taking a request in */

static bool
on_body(const void *data, size_t len, void *arg)
{
	struct http_conn *conn = arg;

	return buf_append(&conn->body, data, len);
}

static void
deliver(struct http_conn *conn)
{
	struct http_request *req = &conn->req;

	io_set_deadline(conn->io, 0);
	io_set_timeout(conn->io, 0);
	conn->state = HTTP_CONN_ANSWERING;
	if (conn->body.len > 0) {
		/* Room for the NUL is above the limit on content. */
		conn->body.limit++;
		buf_append(&conn->body, "", 1);
		req->body = buf_head(&conn->body);
		req->body_len = conn->body.len - 1;
	}
	conn->handlers.on_request(conn, req, conn->arg);
}

static bool
has_controls(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

/* "/path?query", also "http://host/path?query". */
static int
parse_target(struct http_conn *conn, const char *target, struct err *err)
{
	struct http_request *req = &conn->req;
	const char *query;
	size_t len;

	if (strncasecmp(target, "http://", 7) == 0 ||
	    strncasecmp(target, "https://", 8) == 0) {
		target = strstr(target, "://") + 3;
		target += strcspn(target, "/?");
		if (*target != '/')
			target = "/";
	}
	if (*target != '/' || strchr(target, '#') != NULL)
		return err_set(err, ERR_INVALID, "malformed URL");
	len = strcspn(target, "?");
	query = target[len] == '?' ? target + len + 1 : "";
	req->path = http_decode(conn->arena, target, len, false);
	if (req->path == NULL || has_controls(req->path))
		return err_set(err, ERR_INVALID, "malformed URL");
	return http_query_parse(
	    query, strlen(query), conn->arena, &req->query, err);
}

static int
parse_head(
    struct http_conn *conn, const char *text, size_t len, struct err *err)
{
	struct http_msg *m = &conn->msg;
	struct buf plain;
	int status = 0;

	conn->arena = arena_new(conn->conf.head_max * 8 + 65536);
	arena_set_secret(conn->arena); /* passwords come in heads */
	m->on_body = on_body;
	m->arg = conn;
	if (conn->conf.lenient) {
		buf_init(&plain, conn->conf.head_max * 4);
		status = http_lenient_head(text, len, &plain, err);
		if (status == 0)
			status = http_msg_head(m, HTTP_REQUEST, conn->arena,
			    buf_head(&plain), plain.len, err);
		buf_done_secret(&plain);
	} else {
		status =
		    http_msg_head(m, HTTP_REQUEST, conn->arena, text, len, err);
	}
	if (status != 0)
		return status;
	if (!conn->conf.lenient && !m->minor0 &&
	    http_header(&m->headers, "Host") == NULL) {
		err_set(err, ERR_INVALID, "the Host header is missing");
		return 400;
	}
	conn->req.arena = conn->arena;
	conn->req.method = m->method;
	conn->req.headers = m->headers;
	conn->http10 = m->minor0;
	conn->head_only = str_eq(m->method, "HEAD");
	conn->close_after = m->close;
	return parse_target(conn, m->target, err) < 0 ? 400 : 0;
}

/* After the head: is there a body, and may there be one? */
static int
begin_body(struct http_conn *conn, bool body_is_there, struct err *err)
{
	struct http_msg *m = &conn->msg;
	const char *expect = http_header(&m->headers, "Expect");

	if (expect != NULL && strcasecmp(expect, "100-continue") != 0) {
		err_set(err, ERR_INVALID, "unknown expectation");
		return 417;
	}
	if (m->body == HTTP_BODY_NONE) {
		m->complete = true;
		return 0;
	}
	if (conn->conf.body_max == 0 ||
	    (m->body == HTTP_BODY_LENGTH &&
		m->body_left > conn->conf.body_max)) {
		err_set(err, ERR_TOO_LARGE,
		    "the body is too long: at most %zu bytes",
		    conn->conf.body_max);
		return 413;
	}
	buf_init(&conn->body, conn->conf.body_max);
	if (expect != NULL && !body_is_there && !m->minor0)
		io_write(
		    conn->io, EXPECT_CONTINUE, sizeof(EXPECT_CONTINUE) - 1);
	return 0;
}

/* Blank lines before a request are skipped. True: something else is there. */
static bool
skip_blank(struct http_conn *conn)
{
	size_t len, n = 0;
	const char *in = io_input(conn->io, &len);

	while (n < len && (in[n] == '\n' || in[n] == '\r') &&
	       !(in[n] == '\r' && n + 1 < len && in[n + 1] != '\n'))
		n++;
	if (n == len && n > 0 && in[n - 1] == '\r')
		n--; /* perhaps half of a line end */
	io_consume(conn->io, n);
	return n < len;
}

/* The first byte, of whatever: from here on the time runs. */
static void
begin_head(struct http_conn *conn)
{
	conn->state = HTTP_CONN_HEAD;
	conn->scanned = 0;
	io_set_timeout(conn->io, 0);
	io_set_deadline(conn->io, conn->conf.header_timeout_ms);
}

/* True: go on with the next step. */
static bool
step_head(struct http_conn *conn)
{
	struct err err = { 0 };
	const char *in;
	size_t len, head;
	int status;

	io_input(conn->io, &len);
	if (len > 0 && conn->state == HTTP_CONN_IDLE)
		begin_head(conn);
	if (!skip_blank(conn))
		return false;
	in = io_input(conn->io, &len);
	if (conn->early) {
		refuse(conn, 400,
		    "A request was sent before the answer to the one before "
		    "it; wait for each answer.");
		return false;
	}
	head = http_head_end(in, len, &conn->scanned);
	if (head == 0 ? len >= conn->conf.head_max
		      : head > conn->conf.head_max) {
		refuse(conn, 431, "The head of the request is too long.");
		return false;
	}
	if (head == 0)
		return false;
	status = parse_head(conn, in, head, &err);
	if (status == 0)
		status = begin_body(conn, len > head, &err);
	io_consume(conn->io, head);
	if (status != 0) {
		refuse(conn, status, err.msg);
		return false;
	}
	if (!conn->msg.complete) {
		conn->state = HTTP_CONN_BODY;
		io_set_deadline(conn->io, conn->conf.body_timeout_ms);
	} else {
		deliver(conn);
	}
	return true;
}

static bool
step_body(struct http_conn *conn)
{
	struct err err = { 0 };
	const char *in;
	size_t len, used;
	int status;

	in = io_input(conn->io, &len);
	if (len == 0)
		return false;
	status = http_msg_body(&conn->msg, in, len, &used, &err);
	if (status != 0) {
		refuse(conn, status, err.msg);
		return false;
	}
	io_consume(conn->io, used);
	if (conn->msg.complete)
		deliver(conn);
	return true;
}

static void
run(struct http_conn *conn)
{
	bool more = true;

	while (more && !conn->finishing) {
		if (conn->state == HTTP_CONN_IDLE ||
		    conn->state == HTTP_CONN_HEAD)
			more = step_head(conn);
		else if (conn->state == HTTP_CONN_BODY)
			more = step_body(conn);
		else
			more = false;
	}
}

/* After an answer */

static void
next_now(void *arg)
{
	struct http_conn *conn = arg;

	if (conn->state == HTTP_CONN_GONE)
		return;
	conn->finishing = false;
	release_request(conn);
	if (conn->state == HTTP_CONN_CLOSING)
		end(conn, true);
	else
		run(conn);
}

void
http_conn_answered(struct http_conn *conn)
{
	size_t len;

	io_input(conn->io, &len);
	conn->early = len > 0 && !conn->conf.tolerate_early;
	conn->state = conn->close_after ? HTTP_CONN_CLOSING : HTTP_CONN_IDLE;
	if (conn->state == HTTP_CONN_IDLE)
		io_set_timeout(conn->io, conn->conf.idle_timeout_ms);
	/* The handler may still be on the stack, with the request in hand. */
	conn->finishing = true;
	loop_defer(conn->loop, next_now, conn);
}

void
http_conn_close_after(struct http_conn *conn)
{
	conn->close_after = true;
	if (conn->state != HTTP_CONN_IDLE)
		return;
	conn->state = HTTP_CONN_CLOSING;
	if (!conn->finishing)
		loop_defer(conn->loop, next_now, conn);
	conn->finishing = true;
}

/* Events */

static void
on_timeout(struct http_conn *conn)
{
	switch (conn->state) {
	case HTTP_CONN_HEAD:
	case HTTP_CONN_BODY:
		refuse(conn, 408, "The request did not come in time.");
		break;
	case HTTP_CONN_IDLE:
		end(conn, true);
		break;
	case HTTP_CONN_ANSWERING:
	case HTTP_CONN_STREAMING:
	case HTTP_CONN_CLOSING:
	case HTTP_CONN_GONE:
		break;
	}
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	struct http_conn *conn = arg;

	switch (event) {
	case IO_SECURED:
		io_set_deadline(io, 0);
		break;
	case IO_DATA:
		if (!conn->handshaking)
			run(conn);
		break;
	case IO_EOF:
		/* Whoever closes before the answer doesn't want it. */
		if (conn->state != HTTP_CONN_CLOSING)
			end(conn,
			    conn->state == HTTP_CONN_IDLE && !conn->early);
		break;
	case IO_TIMEOUT:
		if (conn->handshaking)
			end(conn, false);
		else
			on_timeout(conn);
		break;
	case IO_ERROR:
		end(conn, false);
		break;
	case IO_CONNECTED:
	case IO_LOWAT:
		break;
	}
	if (event == IO_SECURED)
		conn->handshaking = false;
}

struct http_conn *
http_conn_new(struct io *io, const struct http_server_conf *conf,
    const struct http_handlers *handlers, void *arg)
{
	struct http_conn *conn = new0(struct http_conn);
	SSL *ssl = io_tls(io);

	conn->loop = io_loop(io);
	conn->io = io;
	conn->conf = *conf;
	conn->handlers = *handlers;
	conn->arg = arg;
	conn->state = HTTP_CONN_IDLE;
	conn->handshaking = ssl != NULL && !SSL_is_init_finished(ssl);
	/* A whole head must fit, and what else comes is held back there. */
	io_set_read_limit(io, conf->head_max < IO_READ_LIMIT
				  ? IO_READ_LIMIT
				  : conf->head_max + IO_READ_LIMIT);
	if (conn->handshaking)
		io_set_deadline(io, conf->header_timeout_ms);
	else
		io_set_timeout(io, conf->idle_timeout_ms);
	io_set_cb(io, on_io, conn);
	return conn;
}

struct io *
http_upgrade(struct http_conn *conn, const char *headers)
{
	struct io *io = conn->io;

	http_respond_interim(conn, 101, headers);
	io_set_timeout(io, 0);
	io_set_deadline(io, 0);
	io_set_read_limit(io, IO_READ_LIMIT);
	io_set_cb(io, NULL, NULL);
	http_conn_gone(conn);
	return io;
}
