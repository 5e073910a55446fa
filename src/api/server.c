/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections and requests: who asks, what route it is, whether it may. */
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/rows.h"
#include "net/tunnel.h"

#define CLIENTS_MAX   256
#define REQUEST_BYTES ((size_t)4 * 1024 * 1024)
#define BODY_BYTES    UPLOAD_PIECE_BYTES_MAX /* no JSON is as long */
#define QUERY_MAX     16

struct client {
	struct list link;
	struct api *api;
	struct http_conn *conn;
	struct request *req;   /* being answered */
	struct tunnel *tunnel; /* it has become a stream; conn is NULL */
	struct ucred peer;
};

/* A request is freed when it is answered (or nobody wants the answer) and no
 * statement of it is under way any more. */
static void
request_free(void *arg)
{
	struct request *req = arg;

	timer_done(&req->await.timer);
	json_decref(req->body);
	json_decref(req->owned);
	arena_free(req->arena);
	free(req);
}

static void
request_end_if_done(struct request *req)
{
	if (!req->answered || req->pending > 0 || req->txn != NULL)
		return;
	if (list_empty(&req->link))
		return; /* is on its way already */
	list_del(&req->link);
	loop_defer(req->api->loop, request_free, req);
	if (req->api->stopping && server_idle(req->api))
		loop_stop(req->api->loop);
}

void
request_step_begun(struct request *req)
{
	req->pending++;
}

void
request_step_done(struct request *req)
{
	req->pending--;
}

void
request_check(struct request *req)
{
	request_end_if_done(req);
}

void
request_own_json(struct request *req, json_t *value)
{
	json_decref(req->owned);
	req->owned = value;
}

static void
answered(struct request *req)
{
	req->answered = true;
	req->await.active = false;
	timer_stop(&req->await.timer);
	if (req->client != NULL)
		req->client->req = NULL;
	req->client = NULL;
	req->conn = NULL;
	request_end_if_done(req);
}

void
respond(struct request *req, int status, json_t *value)
{
	if (req->answered) {
		json_decref(value);
		return;
	}
	if (req->conn != NULL) {
		if (req->api->stopping)
			http_conn_close_after(req->conn);
		http_respond_json(req->conn, status, value);
	} else {
		json_decref(value);
	}
	answered(req);
}

static const struct db_stmt failed_stmt = { "audit_failed",
	"INSERT INTO audit (actor, action, object, arguments, error_id) "
	"VALUES ($1, $2, $3, $4::jsonb, $5)",
	5 };

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
	if (err != NULL && err_is_set(err))
		log_err(LOG_LEVEL_WARN, err, "write the audit");
}

/* The body as audit keeps it: without secrets. */
static char *
audit_arguments(const struct request *req)
{
	_cleanup_(json_decrefp)
	json_t *copy = NULL;

	if (req->body == NULL)
		return NULL;
	copy = json_copy(req->body);
	if (json_object_get(copy, "password") != NULL)
		json_object_set_new(copy, "password", json_string("***"));
	return json_text(copy);
}

static void
audit_failure(struct request *req, const struct err *err)
{
	struct db_params p = { .n = 0 };
	_cleanup_(freep)
	char *arguments = NULL;
	char object[64];

	if (req->route == NULL || req->route->action == NULL ||
	    err->code == ERR_DATABASE)
		return;
	arguments = audit_arguments(req);
	snprintf(object, sizeof(object), "%lld", (long long)req->id);
	db_param_str(&p, req->actor);
	db_param_str(&p, req->route->action);
	db_param_str(&p, req->id != 0 ? object : req->word);
	db_param_str(&p, arguments);
	db_param_str(&p, err_id(err->code));
	db_exec(req->api->db, &failed_stmt, &p, 0, ignore, NULL);
}

void
respond_err(struct request *req, const struct err *err)
{
	if (req->answered)
		return;
	req->failed = true;
	/* A commit that is under way fails by itself, and tells. */
	if (req->txn != NULL && !req->committing) {
		/* None of its statements calls back after this. */
		db_rollback(take_ptr(req->txn));
		req->pending = 0;
	}
	audit_failure(req, err);
	if (err->code == ERR_INTERNAL || err->code == ERR_SYSTEM)
		log_err(LOG_LEVEL_ERROR, err, "%s %s", req->route->method,
		    req->route->path);
	if (req->conn != NULL)
		http_respond_err(req->conn, err);
	answered(req);
}

void
respond_fail(struct request *req, enum err_code code, const char *fmt, ...)
{
	struct err err = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.msg, sizeof(err.msg), fmt, ap);
	va_end(ap);
	respond_err(req, &err);
}

/* Statements */

struct step {
	struct request *req;
	step_cb cb;
};

/* What the database refuses, in words that say what to do. */
static const struct {
	const char *constraint;
	const char *sentence;
} refusals[] = {
	{ "tenants_name_key", "there is a tenant of that name already" },
	{ "users_tenant_id_login_key",
	    "there is a user of that login in the tenant already" },
	{ "osfs_tenant_id_name_key",
	    "there is an OSF of that name in the tenant already" },
	{ "images_osf_id_version_key",
	    "the OSF has an image of that version already" },
	{ "hosts_name_key", "there is a host of that name already" },
	{ "vms_user_id_name_key",
	    "the user has a VM of that name already; give it another with "
	    "USER/NAME" },
	{ "vms_address_key", "another VM has that address" },
	{ "users_tenant_id_fkey", "there is no such tenant" },
	{ "osfs_tenant_id_fkey", "there is no such tenant" },
	{ "images_osf_id_fkey", "there is no such OSF" },
	{ "vms_osf_id_fkey", "there is no such OSF" },
	{ "vms_vm_group_check",
	    "a group's name is at most 64 of A-Z a-z 0-9 _ . -" },
	{ "vms_user_id_fkey", "there is no such user" },
	{ "rollouts_host_id_fkey", "there is no such host" },
	{ "rollouts_one",
	    "another roll-out to that tag has just begun; see 'qvd rollout "
	    "list'" },
};

static void
explain(const struct err *in, struct err *ret)
{
	size_t i;

	*ret = *in;
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (db_violates(in, refusals[i].constraint)) {
			err_set(ret, ERR_CONFLICT, "%s", refusals[i].sentence);
			return;
		}
	}
	if (strstr(in->msg, "null value in column \"tenant_id\"") != NULL)
		err_set(ret, ERR_PARAMETER,
		    "which tenant? There are several; say it with --tenant");
	else if (strstr(in->msg, "null value in column \"idmap_slot\"") != NULL)
		err_set(ret, ERR_UNAVAILABLE,
		    "all ranges of user ids are taken by tenants, or were "
		    "within the last 30 days; one of these must be over");
}

static void
on_step(const struct db_result *res, const struct err *err, void *arg)
{
	struct step *step = arg;
	struct request *req = step->req;
	struct err words;

	req->pending--;
	if (res == NULL && err != NULL && err_is_set(err)) {
		if (!req->failed) {
			explain(err, &words);
			respond_err(req, &words);
		}
	} else if (!req->failed) {
		step->cb(req, res);
	}
	request_end_if_done(req);
}

static struct step *
new_step(struct request *req, step_cb cb)
{
	struct step *step = arena_new0(req->arena, struct step);

	if (step == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return NULL;
	}
	step->req = req;
	step->cb = cb;
	req->pending++;
	return step;
}

void
read_exec(struct request *req, const struct db_stmt *stmt,
    const struct db_params *params, step_cb cb)
{
	struct step *step = new_step(req, cb);

	if (step != NULL)
		db_exec(req->api->db, stmt, params, 0, on_step, step);
}

void
request_hold(struct request *req)
{
	req->pending++;
}

void
request_release(struct request *req)
{
	req->pending--;
	request_end_if_done(req);
}

static void
on_begun(struct db_txn *txn, const struct err *err, void *arg)
{
	struct step *step = arg;

	step->req->txn = txn;
	on_step(NULL, err, arg);
}

void
change_begin(struct request *req, step_cb cb)
{
	struct step *step = new_step(req, cb);

	if (step != NULL)
		db_begin(req->api->db, 0, on_begun, step);
}

void
change_exec(struct request *req, const struct db_stmt *stmt,
    const struct db_params *params, step_cb cb)
{
	struct step *step = new_step(req, cb);

	if (step != NULL)
		db_txn_exec(req->txn, stmt, params, on_step, step);
}

static const struct db_stmt audit_stmt = { "audit",
	"INSERT INTO audit (actor, action, object, arguments) "
	"VALUES ($1, $2, $3, $4::jsonb)",
	4 };

static void
nothing(struct request *req, const struct db_result *res)
{
}

static void
on_committed(const struct db_result *res, const struct err *err, void *arg)
{
	struct step *step = arg;

	step->req->txn = NULL;
	step->req->committing = false;
	on_step(res, err, arg);
}

void
change_commit(struct request *req, const char *object, step_cb cb)
{
	struct db_params p = { .n = 0 };
	_cleanup_(freep)
	char *arguments = audit_arguments(req);
	struct step *step;

	db_param_str(&p, req->actor);
	db_param_str(&p, req->route->action);
	db_param_str(&p, object);
	db_param_str(&p, arguments);
	change_exec(req, &audit_stmt, &p, nothing);
	if (req->failed || (step = new_step(req, cb)) == NULL)
		return;
	req->committing = true;
	db_commit(req->txn, on_committed, step);
}

/* Queries */

const char *
query_str(const struct request *req, const char *name)
{
	return http_query(&req->query, name);
}

bool
query_i64(struct request *req, const char *name, int64_t min, int64_t max,
    int64_t *ret, bool *ret_there)
{
	const char *s = query_str(req, name);

	*ret_there = s != NULL;
	if (s == NULL || str_to_i64(s, min, max, ret))
		return true;
	respond_fail(req, ERR_PARAMETER, "%s is a number from %lld to %lld",
	    name, (long long)min, (long long)max);
	return false;
}

bool
query_param_i64(
    struct request *req, const char *name, int64_t max, struct db_params *p)
{
	bool there;
	int64_t n;

	if (!query_i64(req, name, 1, max, &n, &there))
		return false;
	if (there)
		db_param_i64(p, n);
	else
		db_param_null(p);
	return true;
}

bool
query_check(struct request *req, const char *const *names)
{
	size_t i, n;
	char shown[64];

	for (i = 0; i < req->query.n; i++) {
		for (n = 0; names[n] != NULL; n++)
			if (str_eq(names[n], req->query.v[i].name))
				break;
		if (names[n] != NULL)
			continue;
		str_escape(shown, sizeof(shown), req->query.v[i].name,
		    strlen(req->query.v[i].name));
		respond_fail(
		    req, ERR_PARAMETER, "unknown parameter '%s'", shown);
		return false;
	}
	return true;
}

/* Routing */

/* Matches a segment of the route; takes what {id}, {tag}, {key} stand for. */
static bool
match_segment(const char *pattern, size_t plen, const char *text, size_t tlen,
    struct request *req)
{
	char number[24];

	if (pattern[0] != '{')
		return plen == tlen && memcmp(pattern, text, plen) == 0;
	if (tlen == 0)
		return false;
	if (plen != 4 || memcmp(pattern, "{id}", 4) != 0) {
		req->word = arena_strndup(req->arena, text, tlen);
		return true;
	}
	if (tlen >= sizeof(number))
		return false;
	memcpy(number, text, tlen);
	number[tlen] = '\0';
	return str_to_i64(number, 1, INT32_MAX, &req->id);
}

static bool
match_path(const char *pattern, const char *path, struct request *req)
{
	size_t plen, tlen;

	while (*pattern == '/' && *path == '/') {
		pattern++;
		path++;
		plen = strcspn(pattern, "/");
		tlen = strcspn(path, "/");
		if (!match_segment(pattern, plen, path, tlen, req))
			return false;
		pattern += plen;
		path += tlen;
	}
	return *pattern == '\0' && *path == '\0';
}

static bool
find_route(struct request *req, const char *method, const char *path)
{
	const struct route *r;
	bool path_known = false;
	char shown[128];

	for (r = routes; r->method != NULL; r++) {
		req->id = 0;
		req->word = NULL;
		if (!match_path(r->path, path, req))
			continue;
		path_known = true;
		if (str_eq(r->method, method)) {
			req->route = r;
			return true;
		}
	}
	req->route = r; /* the table's end: no action */
	str_escape(shown, sizeof(shown), path, strlen(path));
	if (path_known)
		respond_fail(
		    req, ERR_INVALID, "%s can't be asked for that", shown);
	else
		respond_fail(req, ERR_NOT_FOUND, "the API has no %s", shown);
	return false;
}

static bool
may(struct request *req, const struct client *client)
{
	uid_t uid = client->peer.uid;

	if (req->route->permission == PERMISSION_ANY || uid == 0 ||
	    uid == req->api->uid)
		return true;
	respond_fail(
	    req, ERR_FORBIDDEN, "only root may administer the farm; try sudo");
	return false;
}

static bool
take_body(struct request *req, const struct http_request *http)
{
	struct err err = { 0 };

	if (http->body == NULL || http->body_len == 0)
		return true;
	if (req->route->takes_bytes) {
		req->bytes_len = http->body_len;
		req->bytes = arena_alloc(req->arena, req->bytes_len);
		if (req->bytes != NULL)
			memcpy(req->bytes, http->body, req->bytes_len);
		else
			respond_fail(
			    req, ERR_TOO_LARGE, "the request is too long");
		return req->bytes != NULL;
	}
	if (json_parse(http->body, http->body_len, &req->body, &err) < 0) {
		respond_err(req, &err);
		return false;
	}
	if (!json_is_object(req->body)) {
		respond_fail(req, ERR_INVALID, "the body is no JSON object");
		return false;
	}
	return true;
}

/* The HTTP request's own memory may go before ours. */
static bool
take_query(struct request *req, const struct http_request *http)
{
	size_t i;

	if (http->query.n > QUERY_MAX) {
		respond_fail(
		    req, ERR_INVALID, "more than %d parameters", QUERY_MAX);
		return false;
	}
	req->query.v =
	    arena_alloc(req->arena, sizeof(*req->query.v) * (QUERY_MAX + 1));
	req->query.n = http->query.n;
	for (i = 0; i < http->query.n; i++) {
		req->query.v[i].name =
		    arena_strdup(req->arena, http->query.v[i].name);
		req->query.v[i].value =
		    arena_strdup(req->arena, http->query.v[i].value);
	}
	return true;
}

static void
name_actor(struct request *req, uid_t uid)
{
	struct passwd *pw;

	if (uid == 0)
		str_copy(req->actor, sizeof(req->actor), "root");
	else if ((pw = getpwuid(uid)) != NULL)
		str_copy(req->actor, sizeof(req->actor), pw->pw_name);
	else
		snprintf(
		    req->actor, sizeof(req->actor), "uid %u", (unsigned)uid);
}

static const struct route no_route = { .method = NULL };

static void
on_request(struct http_conn *conn, struct http_request *http, void *arg)
{
	struct client *client = arg;
	struct request *req = new0(struct request);
	const char *wait, *upgrade;

	req->api = client->api;
	req->arena = arena_new(REQUEST_BYTES);
	arena_set_secret(req->arena);
	req->conn = conn;
	req->client = client;
	req->route = &no_route;
	client->req = req;
	list_init(&req->link);
	list_add(&req->api->requests, &req->link);
	timer_init(&req->await.timer, req->api->loop, NULL, req);
	name_actor(req, client->peer.uid);
	if (!find_route(req, http->method, http->path) || !may(req, client) ||
	    !take_query(req, http) || !take_body(req, http))
		return;
	upgrade = http_header(&http->headers, "Upgrade");
	req->wants_stream = upgrade != NULL && str_eq(upgrade, "qvd-stream/1");
	wait = query_str(req, "wait");
	req->wait = wait != NULL && str_eq(wait, "1");
	if (req->api->stopping)
		respond_fail(req, ERR_UNAVAILABLE,
		    "the API is ending; try again in a moment");
	else if (err_is_set(&req->api->schema_err))
		respond_err(req, &req->api->schema_err);
	else
		req->route->handler(req);
}

/* Nobody waits for the answer any more; what was begun is finished. */
static void
leave(struct client *client)
{
	struct request *req = client->req;

	if (req == NULL)
		return;
	client->req = NULL;
	req->client = NULL;
	req->conn = NULL;
	node_ask_cancel(req);
	if (req->await.active || req->pending == 0)
		answered(req);
}

static void
on_abort(struct http_conn *conn, void *arg)
{
	leave(arg);
}

static void
client_free(struct client *client)
{
	leave(client);
	list_del(&client->link);
	listener_closed_one(client->api->listener);
	free(client);
}

static void
on_close(struct http_conn *conn, void *arg)
{
	client_free(arg);
}

/* Streams: who has got one is still a client, with nothing to ask. */

static void
on_stream_end(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg)
{
	struct client *client = arg;

	client->tunnel = NULL;
	client_free(client);
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	/* The HTTP connection takes its place at once. */
}

void
respond_stream(struct request *req, int fd)
{
	struct client *client = req->client;
	struct api *api = req->api;
	struct io *io;

	if (req->answered || client == NULL) {
		close(fd);
		return;
	}
	io = http_upgrade(
	    req->conn, "Connection: Upgrade\r\nUpgrade: qvd-stream/1\r\n");
	client->conn = NULL;
	answered(req);
	client->tunnel = tunnel_new(api->loop, io,
	    io_new(api->loop, fd, on_io, client), on_stream_end, client);
}

static void
on_accept(int fd, void *arg)
{
	static const struct http_handlers handlers = {
		.on_request = on_request,
		.on_abort = on_abort,
		.on_close = on_close,
	};
	struct api *api = arg;
	struct http_server_conf conf = http_server_defaults;
	struct client *client = new0(struct client);
	socklen_t len = sizeof(client->peer);

	client->api = api;
	list_init(&client->link);
	list_add(&api->clients, &client->link);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &client->peer, &len) < 0)
		client->peer.uid = (uid_t)-1;
	conf.body_max = BODY_BYTES;
	client->conn = http_conn_new(
	    io_new(api->loop, fd, on_io, client), &conf, &handlers, client);
}

int
server_start(struct api *api, int listen_fd)
{
	list_init(&api->clients);
	list_init(&api->requests);
	api->listener =
	    listener_new(api->loop, listen_fd, CLIENTS_MAX, on_accept, api);
	return 0;
}

bool
server_idle(const struct api *api)
{
	return list_empty(&api->requests);
}

/* Those who wait are told that we go; the rest goes at once. */
void
server_stop(struct api *api)
{
	struct request *req;
	struct client *client;

	LIST_EACH (&api->requests, req, struct request, link)
		if (req->await.active)
			respond_fail(req, ERR_UNAVAILABLE,
			    "the API ended before this was done; it goes "
			    "on: look with 'qvd why'");
	LIST_EACH (&api->clients, client, struct client, link) {
		if (client->req != NULL)
			continue;
		if (client->tunnel != NULL)
			tunnel_free(client->tunnel);
		else
			http_conn_free(client->conn);
		client_free(client);
	}
}
