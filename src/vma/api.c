/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/api.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "net/http_server.h"
#include "net/listen.h"
#include "vma/door.h"
#include "vma/hook.h"
#include "vma/notify.h"

#define CONNECTIONS_MAX 64

struct api {
	struct vma *vma;
	struct listener *listener;
	struct door *door; /* of a virtual machine, else NULL */
	struct list clients;
};

/* What happens when the action's hook has allowed it. */
enum then { THEN_SUSPEND, THEN_STOP, THEN_POWEROFF, THEN_NOTHING };

/* One connection. What it waits for, if anything, knows it by this. */
struct session_client {
	struct api *api;
	struct list link; /* on api->clients */
	struct http_conn *conn;
	bool by_door;
	struct hook *hook; /* before what it asked for */
	enum then then;
	bool follows; /* events */
};

struct route {
	const char *method, *path;
	void (*fn)(struct session_client *c, struct http_request *req);
};

/* ---- what the session says to a held request ---- */

void
session_client_info(struct session_client *c, const char *text)
{
	_cleanup_(freep)
	char *line = xasprintf("X-QVD-VM-Info: %s\r\n", text);

	http_respond_interim(c->conn, 102, line);
}

void
session_client_fail(struct session_client *c, const struct err *err)
{
	http_respond_err(c->conn, err);
}

void
session_client_listening(struct session_client *c, bool resumed, json_t *phases)
{
	http_respond_json(c->conn, 200,
	    json_pack("{s:s, s:b, s:O}", "state", "listening", "resumed",
		resumed, "ms", phases));
}

void
session_client_done(struct session_client *c)
{
	http_respond_json(c->conn, 200,
	    json_pack("{s:s}", "state",
		session_state_to_str(c->api->vma->session->state)));
}

static bool
send_event(struct session_client *c, const json_t *event)
{
	_cleanup_(freep)
	char *text = json_text(event);
	_cleanup_(freep)
	char *line = xasprintf("%s\n", text);

	return http_respond_chunk(c->conn, line, strlen(line));
}

static void
client_free(struct session_client *c)
{
	list_del(&c->link);
	if (c->by_door)
		door_left(c->api->door);
	else
		listener_closed_one(c->api->listener);
	free(c);
}

void
session_publish(struct vma *vma, json_t *event)
{
	struct session_client *c;

	LIST_EACH (&vma->api->clients, c, struct session_client, link) {
		if (c->follows && !send_event(c, event)) {
			log_warn("a follower of events reads too slowly");
			http_conn_free(c->conn);
			client_free(c);
		}
	}
	json_decref(event);
}

/* ---- routes ---- */

static void
get_state(struct session_client *c, struct http_request *req)
{
	const struct vma *vma = c->api->vma;
	const struct session *s = vma->session;

	http_respond_json(c->conn, 200,
	    json_pack("{s:s, s:I, s:s?, s:s, s:I, s:s?}", "session",
		session_state_to_str(s->state), "generation",
		(json_int_t)(s->req == NULL ? 0 : s->req->generation), "user",
		s->req == NULL ? NULL : s->req->user.name, "version",
		QVD_VERSION, "uptime_ms",
		(json_int_t)(loop_now_ms(vma->loop) - vma->started_ms),
		"reason", err_is_set(&s->reason) ? s->reason.msg : NULL));
}

static void
post_session(struct session_client *c, struct http_request *req)
{
	_cleanup_(request_freep)
	struct request *order = NULL;
	struct err err;

	if (req->body == NULL) {
		err_set(&err, ERR_INVALID,
		    "POST /session needs a JSON body: generation, user, "
		    "display");
		http_respond_err(c->conn, &err);
		return;
	}
	if (request_parse(req->body, req->body_len, &order, &err) < 0 ||
	    session_request(c->api->vma->session, order, c, &err) < 0) {
		http_respond_err(c->conn, &err);
		return;
	}
	take_ptr(order); /* the session's */
}

static void
get_stream(struct session_client *c, struct http_request *req)
{
	struct vma *vma = c->api->vma;
	const char *upgrade = http_header(&req->headers, "Upgrade");
	const char *generation = http_query(&req->query, "generation");
	struct io *client;
	struct err err;
	int64_t g;
	int fd;

	if (upgrade == NULL || !str_eq(upgrade, "qvd-stream/1"))
		err_set(&err, ERR_UPGRADE,
		    "the stream needs the header 'Upgrade: qvd-stream/1'");
	else if (generation == NULL ||
		 !str_to_i64(generation, 0, INT64_MAX, &g))
		err_set(&err, ERR_INVALID,
		    "the stream needs the query 'generation=N' of the POST");
	else if (session_stream(vma->session, g, &fd, &err) == 0) {
		client = http_upgrade(c->conn,
		    "Upgrade: qvd-stream/1\r\nConnection: Upgrade\r\n");
		client_free(c);
		session_relay(
		    vma->session, client, io_new(vma->loop, fd, NULL, NULL));
		return;
	}
	http_respond_err(c->conn, &err);
}

static void
want_now(struct session_client *c)
{
	struct vma *vma = c->api->vma;
	struct err err;
	int r = 1;

	if (c->then == THEN_POWEROFF) {
		http_respond_json(
		    c->conn, 200, json_pack("{s:s}", "state", "stopping"));
		vma->power_off = true;
		vma->end(vma);
		return;
	}
	if (c->then != THEN_NOTHING)
		r = session_wait(vma->session,
		    c->then == THEN_STOP ? SESSION_WANT_STOP
					 : SESSION_WANT_SUSPEND,
		    c, &err);
	if (r > 0)
		session_client_done(c);
	else if (r < 0)
		http_respond_err(c->conn, &err);
}

static void
on_action_hook(const struct err *err, void *arg)
{
	struct session_client *c = arg;

	c->hook = NULL;
	if (err != NULL)
		http_respond_err(c->conn, err);
	else
		want_now(c);
}

static void
with_hook(struct session_client *c, const char *name, enum then then,
    const json_t *more)
{
	json_t *info = session_info(c->api->vma->session, name);
	json_t *params = json_object_get(info, "params");

	if (params == NULL) {
		params = json_object();
		json_object_set_new(info, "params", params);
	}
	if (more != NULL)
		json_object_update(params, (json_t *)(uintptr_t)more);
	c->then = then;
	c->hook =
	    hook_run(c->api->vma, "action", name, info, on_action_hook, c);
	json_decref(info);
	if (c->hook == NULL)
		want_now(c);
}

static void
post_suspend(struct session_client *c, struct http_request *req)
{
	with_hook(c, "suspend", THEN_SUSPEND, NULL);
}

static void
delete_session(struct session_client *c, struct http_request *req)
{
	with_hook(c, "stop", THEN_STOP, NULL);
}

static void
post_poweroff(struct session_client *c, struct http_request *req)
{
	with_hook(c, "poweroff", THEN_POWEROFF, NULL);
}

struct expiry {
	const char *soft, *hard;
};

/* The machine's time is (soft) or will be (hard) over: the user is told, and
 * the image's hook. */
static void
post_expire(struct session_client *c, struct http_request *req)
{
	static const struct field fields[] = { FIELD(struct expiry, soft, STR,
						   .max = 64),
		FIELD(struct expiry, hard, STR, .max = 64), FIELD_END };
	struct expiry e = { NULL, NULL };
	json_t *body = NULL, *more;
	_cleanup_(freep)
	char *text = NULL;
	struct err err;

	if (req->body != NULL &&
	    (json_parse(req->body, req->body_len, &body, &err) < 0 ||
		json_decode(body, fields, &e, req->arena, NULL, &err) < 0)) {
		json_decref(body);
		http_respond_err(c->conn, &err);
		return;
	}
	text = notify_expiry_text(e.hard);
	notify_show(c->api->vma->session, text);
	more = json_pack("{s:s*, s:s*}", "qvd.vm.expiration.soft", e.soft,
	    "qvd.vm.expiration.hard", e.hard);
	with_hook(c, "expire", THEN_NOTHING, more);
	json_decref(more);
	json_decref(body);
}

struct disk_notice {
	enum vm_disk disk;
	enum fill fill;
};

/* The user's home, or the space for changes to the system, is nearly full. */
static void
post_disk(struct session_client *c, struct http_request *req)
{
	static const struct field fields[] = { FIELD_ENUM_OF(struct disk_notice,
						   disk, vm_disk_words,
						   .flags = FIELD_REQUIRED),
		FIELD_ENUM_OF(struct disk_notice, fill, fill_words,
		    .flags = FIELD_REQUIRED),
		FIELD_END };
	struct disk_notice n = { 0 };
	_cleanup_(json_decrefp)
	json_t *body = NULL;
	json_t *more;
	struct err err;

	if (req->body == NULL)
		err_set(&err, ERR_INVALID, "POST /disk needs a JSON body");
	else if (json_parse(req->body, req->body_len, &body, &err) == 0 &&
		 json_decode(body, fields, &n, req->arena, NULL, &err) == 0) {
		if (notify_show(c->api->vma->session,
			notify_disk_text(n.disk, n.fill))) {
			more = json_pack("{s:s, s:s}", "qvd.disk.name",
			    vm_disk_to_str(n.disk), "qvd.disk.fill",
			    fill_to_str(n.fill));
			with_hook(c, "disk", THEN_NOTHING, more);
			json_decref(more);
			return;
		}
		err_set(&err, ERR_CONFLICT, "nobody is there to read it");
	}
	http_respond_err(c->conn, &err);
}

struct clock_order {
	int64_t at_us;
};

/* The machine was suspended to disk: its clock has stood still. */
static void
post_clock(struct session_client *c, struct http_request *req)
{
	static const struct field fields[] = { FIELD(struct clock_order, at_us,
						   I64, .flags = FIELD_REQUIRED,
						   .min = 0, .max = INT64_MAX),
		FIELD_END };
	struct clock_order order = { 0 };
	struct timespec at;
	_cleanup_(json_decrefp)
	json_t *body = NULL;
	struct err err;

	if (!c->api->vma->in_machine)
		err_set(
		    &err, ERR_FORBIDDEN, "a container's clock is its node's");
	else if (req->body == NULL)
		err_set(&err, ERR_INVALID, "POST /clock needs a JSON body");
	else if (json_parse(req->body, req->body_len, &body, &err) == 0 &&
		 json_decode(body, fields, &order, req->arena, NULL, &err) ==
		     0) {
		at.tv_sec = order.at_us / 1000000;
		at.tv_nsec = order.at_us % 1000000 * 1000;
		if (clock_settime(CLOCK_REALTIME, &at) == 0) {
			http_respond_json(c->conn, 200, json_object());
			return;
		}
		err_errno(&err, ERR_SYSTEM, errno, "set the clock");
	}
	http_respond_err(c->conn, &err);
}

static void
get_events(struct session_client *c, struct http_request *req)
{
	json_t *event = session_event(c->api->vma->session);

	http_respond_begin(c->conn, 200, NULL, "application/x-ndjson");
	c->follows = send_event(c, event);
	json_decref(event);
}

static const struct route routes[] = {
	{ "GET", "/state", get_state },
	{ "POST", "/session", post_session },
	{ "DELETE", "/session", delete_session },
	{ "POST", "/session/suspend", post_suspend },
	{ "GET", "/session/stream", get_stream },
	{ "GET", "/events", get_events },
	{ "POST", "/clock", post_clock },
	{ "POST", "/disk", post_disk },
	{ "POST", "/expire", post_expire },
	{ "POST", "/poweroff", post_poweroff },
};

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	struct session_client *c = arg;
	struct err err;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(routes); i++) {
		if (str_eq(routes[i].method, req->method) &&
		    str_eq(routes[i].path, req->path)) {
			routes[i].fn(c, req);
			return;
		}
	}
	err_set(&err, ERR_NOT_FOUND, "the VM's agent has no %s %s", req->method,
	    req->path);
	http_respond_err(conn, &err);
}

static void
on_abort(struct http_conn *conn, void *arg)
{
	struct session_client *c = arg;

	hook_cancel(take_ptr(c->hook));
	c->follows = false;
	session_forget(c->api->vma->session, c);
}

static void
on_close(struct http_conn *conn, void *arg)
{
	struct session_client *c = arg;

	on_abort(conn, c);
	client_free(c);
}

static void
add_client(struct api *api, int fd, bool by_door)
{
	static const struct http_handlers handlers = {
		.on_request = on_request,
		.on_abort = on_abort,
		.on_close = on_close,
	};
	struct http_server_conf conf = http_server_defaults;
	struct session_client *c = new0(struct session_client);

	conf.body_max = REQUEST_BODY_MAX;
	c->api = api;
	c->by_door = by_door;
	list_init(&c->link);
	list_add(&c->api->clients, &c->link);
	c->conn = http_conn_new(
	    io_new(c->api->vma->loop, fd, NULL, NULL), &conf, &handlers, c);
}

static void
on_accept(int fd, void *arg)
{
	add_client(arg, fd, false);
}

static void
on_enter(int fd, void *arg)
{
	add_client(arg, fd, true);
}

int
api_start(struct vma *vma, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrdup(vma->conf.socket);
	char *slash = strrchr(dir, '/');
	struct api *api;
	int fd, r;

	if (slash != NULL && slash != dir) {
		*slash = '\0';
		if ((r = fs_mkdirs(dir, 0700, err)) < 0)
			return r;
		/* The session's user must not get here. */
		if (chmod(dir, 0700) < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "close '%s'", dir);
	}
	if ((r = listen_unix(vma->conf.socket, 0600, (gid_t)-1, &fd, err)) < 0)
		return r;
	api = new0(struct api);
	api->vma = vma;
	list_init(&api->clients);
	vma->api = api;
	api->listener =
	    listener_new(vma->loop, fd, CONNECTIONS_MAX, on_accept, api);
	/* A container's node comes by the socket; what it sees of firmware is
	 * the host's. */
	if (!vma->in_machine)
		return 0;
	return door_open(
	    vma->loop, vma->conf.secret, on_enter, api, &api->door, err);
}
