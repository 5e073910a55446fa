/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One client's connection and its requests. Each request is answered in two
 * steps: the broker is asked whether this client may ask at all (is the host
 * in service, who is it), then the endpoint runs.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/request.h"
#include "l7r/worker.h"

#define HANDSHAKE_MS       10000
#define BROKER_PATIENCE_MS 10000

/* The wire's own words; not ours to change. */
#define ALIVE        "I am alive!\r\n"
#define UNAUTHORIZED "WWW-Authenticate: Basic realm=\"QVD\"\r\n"

static void login_run(struct client *c);
static void login_wait(struct client *c);

/* Answers */

bool
answer_failed(const json_t *answer, const struct err *err, struct failure *ret)
{
	if (answer != NULL)
		return failure_from_json(answer, ret);
	failure_from_err(ret, err);
	if (err->code == ERR_UNAVAILABLE)
		err_set(&ret->err, ERR_UNAVAILABLE,
		    "the session broker of this node was restarted");
	log_err(LOG_LEVEL_WARN, &ret->err, "ref %s", ret->ref);
	return true;
}

static void
fail_text(
    struct client *c, int status, const struct failure *f, const char *text)
{
	char headers[160];

	snprintf(headers, sizeof(headers),
	    "%sX-QVD-Error: %s\r\nX-QVD-Ref: %s\r\n",
	    status == 401 ? UNAUTHORIZED : "", err_id(f->err.code), f->ref);
	http_respond(
	    c->conn, status, headers, "text/plain", text, strlen(text));
	client_done(c);
}

void
client_fail(struct client *c, const struct failure *f)
{
	fail_text(c, failure_status(f), f, f->err.msg);
}

void
client_fail_vm(struct client *c, const struct failure *f)
{
	char text[ERR_MSG_MAX + 160];

	snprintf(text, sizeof(text),
	    "The requested virtual machine is not available: %s, retry later. "
	    "(%s, reference %s)",
	    f->err.msg, err_id(f->err.code), f->ref);
	fail_text(c, 503, f, text);
}

void
client_text(struct client *c, int status, const char *text)
{
	http_respond(c->conn, status, NULL, "text/plain", text, strlen(text));
	client_done(c);
}

void
client_progress(struct client *c, const char *text)
{
	char line[256], headers[300];

	line_of(line, sizeof(line), text);
	snprintf(headers, sizeof(headers), "X-QVD-VM-Info: %s\r\n", line);
	http_respond_interim(c->conn, 102, headers);
}

static void
fail_err(struct client *c, const struct err *err)
{
	struct failure f;

	failure_from_err(&f, err);
	client_fail(c, &f);
}

void
client_done(struct client *c)
{
	if (c->ask != NULL)
		rpc_request_cancel(take_ptr(c->ask));
	if (c->connect != NULL)
		connect_free(take_ptr(c->connect));
	timer_stop(&c->patience);
	c->waiting = false;
	c->retried = false;
	c->req = NULL;
	c->endpoint = NULL;
}

/* Asking the broker */

void
client_ask(struct client *c, const char *op, json_t *args, int64_t deadline_ms,
    rpc_result_cb cb, rpc_progress_cb progress)
{
	struct failure f;

	if (c->worker->broker == NULL) {
		json_decref(args);
		failure_set(&f, 0, ERR_UNAVAILABLE,
		    "the session broker of this node is being restarted");
		client_fail_vm(c, &f);
		return;
	}
	json_object_set_new(args, "conn", json_integer((json_int_t)c->id));
	c->ask = rpc_ask(c->worker->broker, op, args, -1, deadline_ms, cb, c);
	if (progress != NULL)
		rpc_request_on_progress(c->ask, progress);
}

/* The endpoints that one question answers */

static void
ping_run(struct client *c)
{
	client_text(c, 200, ALIVE);
}

/* The member of the broker's answer is ours. */
static void
respond_member(struct client *c, const char *member, const json_t *answer,
    const struct err *err)
{
	struct failure f;

	c->ask = NULL;
	if (answer_failed(answer, err, &f)) {
		client_fail(c, &f);
		return;
	}
	http_respond_json(
	    c->conn, 200, json_incref(json_object_get(answer, member)));
	client_done(c);
}

static void
on_list(const json_t *answer, int fd, const struct err *err, void *arg)
{
	closep(&fd);
	respond_member(arg, "list", answer, err);
}

static void
list_run(struct client *c)
{
	bool apps = str_ends(c->endpoint->path, "applications");

	client_ask(c, "list", json_pack("{s:b}", "applications", apps),
	    ASK_DEADLINE_MS, on_list, NULL);
}

static void
on_object(const json_t *answer, int fd, const struct err *err, void *arg)
{
	closep(&fd);
	respond_member(arg, "object", answer, err);
}

static void
authenticate_run(struct client *c)
{
	const char *store = http_query(&c->req->query, "store_auth");

	if (store == NULL || !str_eq(store, "1")) {
		http_respond_json(c->conn, 200, json_object());
		client_done(c);
		return;
	}
	client_ask(
	    c, "store_auth", json_object(), ASK_DEADLINE_MS, on_object, NULL);
}

static void
token_run(struct client *c)
{
	client_ask(
	    c, "create_token", json_object(), ASK_DEADLINE_MS, on_object, NULL);
}

static const struct endpoint endpoints[] = {
	{ "/qvd/ping", "ping", false, ping_run },
	{ "/qvd/list_of_vm", "list", true, list_run },
	{ "/qvd/list_of_applications", "list", true, list_run },
	{ "/qvd/connect_to_vm", "connect", true, connect_run },
	{ "/qvd/stop_vm", "stop", true, stop_run },
	{ "/qvd/authenticate_user", "authenticate", true, authenticate_run },
	{ "/qvd/create_auth_token", "authenticate", true, token_run },
};

/* Step one: the host and the login */

static void
on_login(const json_t *answer, int fd, const struct err *err, void *arg)
{
	struct client *c = arg;
	struct failure f;

	closep(&fd);
	c->ask = NULL;
	if (err != NULL && err->code == ERR_UNAVAILABLE && !c->retried) {
		c->retried = true;
		login_wait(c);
	} else if (answer_failed(answer, err, &f)) {
		client_fail(c, &f);
	} else {
		c->endpoint->run(c);
	}
}

static int
login_args(struct client *c, json_t *args, struct err *err)
{
	struct cred cred = { 0 };
	char *password;
	int r;

	if ((r = cred_parse(&c->req->headers, c->req->arena, &cred, err)) < 0)
		return r;
	if (cred.kind == CRED_BEARER) {
		json_object_set_new(args, "token", json_string(cred.token));
	} else {
		/* Old clients may send other than UTF-8. */
		password = str_base64(cred.password, strlen(cred.password));
		json_object_set_new(args, "login", json_string(cred.login));
		json_object_set_new(args, "password", json_string(password));
		wipe_str(password);
	}
	json_object_set_new(args, "headers", auth_headers(&c->req->headers));
	return 0;
}

static void
login_run(struct client *c)
{
	struct err err = { 0 };
	json_t *args = json_pack("{s:s, s:s, s:I}", "for", c->endpoint->purpose,
	    "address", c->address, "conn", (json_int_t)c->id);

	/* Without usable credentials the host is still checked first. */
	if (c->endpoint->login && login_args(c, args, &err) < 0)
		json_object_set_new(args, "refuse", json_string(err.msg));
	c->known = c->known || c->endpoint->login;
	c->ask = rpc_ask(c->worker->broker, "login", args, -1,
	    LOGIN_DEADLINE_MS, on_login, c);
}

/* No broker: it is being restarted, which takes a moment. */
static void
out_of_patience(void *arg)
{
	struct client *c = arg;
	struct err err = { 0 };

	err_set(&err, ERR_UNAVAILABLE,
	    "the session broker of this node does not start; see the log of "
	    "qvd-l7r");
	fail_err(c, &err);
}

static void
login_wait(struct client *c)
{
	c->waiting = true;
	timer_start(&c->patience, BROKER_PATIENCE_MS);
}

void
client_retry(struct client *c)
{
	if (!c->waiting)
		return;
	c->waiting = false;
	timer_stop(&c->patience);
	login_run(c);
}

/* The connection */

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	struct client *c = arg;
	size_t i;

	c->req = req;
	for (i = 0; i < ARRAY_SIZE(endpoints); i++)
		if (str_eq(endpoints[i].path, req->path) &&
		    str_eq(req->method, "GET"))
			c->endpoint = &endpoints[i];
	if (c->endpoint == NULL) {
		client_text(c, 404,
		    "Not Found\r\nThere is nothing at this address.\r\n");
	} else if (c->worker->broker == NULL) {
		login_wait(c);
	} else {
		login_run(c);
	}
}

static void
on_abort(struct http_conn *conn, void *arg)
{
	client_done(arg);
}

static void
forget(struct client *c)
{
	client_done(c);
	timer_done(&c->patience);
	if (c->known && c->worker->broker != NULL)
		worker_note(c->worker, "closed",
		    json_pack("{s:I}", "conn", (json_int_t)c->id));
	list_del(&c->link);
	free(c);
}

static void
on_close(struct http_conn *conn, void *arg)
{
	struct client *c = arg;
	struct worker *w = c->worker;

	c->conn = NULL;
	forget(c);
	worker_closed_one(w);
}

static const struct http_handlers handlers = {
	.on_request = on_request,
	.on_abort = on_abort,
	.on_close = on_close,
};

static void
on_handshake(struct io *io, enum io_event event, void *arg)
{
	struct client *c = arg;
	struct http_server_conf conf = http_server_defaults;

	if (event == IO_SECURED) {
		io_set_deadline(io, 0);
		conf.lenient = true;
		c->io = NULL;
		c->conn = http_conn_new(io, &conf, &handlers, c);
	} else if (event == IO_EOF || event == IO_ERROR ||
		   event == IO_TIMEOUT) {
		if (io_error(io) != NULL)
			log_err(
			    LOG_LEVEL_DEBUG, io_error(io), "%s", c->address);
		client_free(c);
	}
}

/* A client that vanished without a word is noticed within two minutes. */
static void
keep_alive(int fd)
{
	int on = 1, idle = 60, interval = 15, count = 4;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* "203.0.113.7:1234" without the port: what a guesser can't change. */
static void
set_address(struct client *c, const char *peer)
{
	char *colon;

	str_copy(c->address, sizeof(c->address), peer);
	if ((colon = strrchr(c->address, ':')) != NULL)
		*colon = '\0';
}

void
client_new(struct worker *w, int fd)
{
	struct client *c;

	if (w->tls == NULL) { /* told before the first client; be sure */
		closep(&fd);
		worker_closed_one(w);
		return;
	}
	c = new0(struct client);
	c->worker = w;
	c->id = ++w->last_conn;
	list_init(&c->link);
	list_add(&w->clients, &c->link);
	timer_init(&c->patience, w->loop, out_of_patience, c);
	keep_alive(fd);
	c->io = io_new(w->loop, fd, on_handshake, c);
	set_address(c, io_peer(c->io));
	io_set_deadline(c->io, HANDSHAKE_MS);
	io_tls_accept(c->io, w->tls);
}

void
client_free(struct client *c)
{
	struct worker *w = c->worker;

	if (c->io != NULL)
		io_free(c->io);
	if (c->conn != NULL)
		http_conn_free(c->conn);
	forget(c);
	worker_closed_one(w);
}

struct io *
client_upgrade(struct client *c, const char *headers)
{
	struct io *io = http_upgrade(c->conn, headers);

	c->conn = NULL;
	forget(c);
	return io;
}
