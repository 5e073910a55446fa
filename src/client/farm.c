/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests to the farm: the wire format of the QVD protocol, and what its
 * refusals mean to a user.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client_priv.h"
#include "json/json.h"

#define REQUEST_MAX (64 * 1024)
#define LIST_MAX    20000
#define JSON_DEPTH  8
#define REFUSAL_MAX 512
#define TOKEN_MAX   4096
#define AGENT       "User-Agent: qvd-client/" CLIENT_VERSION " (linux)\r\n"

struct qvd_list {
	struct qvd_vm *v;
	size_t n;
	json_t *json; /* owns the strings */
};

static void
secret_bufp(struct buf *buf)
{
	buf_done_secret(buf);
}

static char *
credentials(const struct qvd_client *c)
{
	char *plain, *text, *line;

	if (c->token != NULL) {
		text = str_base64(c->token, strlen(c->token));
		line = xasprintf("Authorization: Bearer %s\r\n", text);
	} else {
		plain = xasprintf("%s:%s", c->user, c->password);
		text = str_base64(plain, strlen(plain));
		line = xasprintf("Authorization: Basic %s\r\n", text);
		wipe_str(plain);
	}
	wipe_str(text);
	return line;
}

static int
send_request(
    struct qvd_client *c, const struct farm_request *req, struct err *err)
{
	_cleanup_(secret_bufp)
	struct buf out = BUF(REQUEST_MAX);
	_cleanup_(wipe_strp)
	char *auth = credentials(c);
	bool v6 = strchr(c->host, ':') != NULL, ok;

	ok = buf_printf(&out, "GET %s%s%s HTTP/1.1\r\nHost: %s%s%s:%d\r\n%s%s",
		 req->path, req->query != NULL ? "?" : "",
		 req->query != NULL ? req->query : "", v6 ? "[" : "", c->host,
		 v6 ? "]" : "", c->port, AGENT, auth) &&
	     (!req->upgrade ||
		 buf_printf(
		     &out, "Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n")) &&
	     (req->resume == NULL ||
		 buf_printf(&out, "X-QVD-Resume: %s\r\n", req->resume)) &&
	     buf_printf(&out, "Accept: application/json\r\n\r\n");
	if (!ok)
		return err_set(err, ERR_TOO_LARGE,
		    "the parameters of the session are longer than %d KiB",
		    REQUEST_MAX / 1024);
	return conn_write(
	    &c->conn, buf_head(&out), buf_len(&out), req->deadline_ms, err);
}

/* Reads until the answer is complete. *ret_silent: not one byte came. */
static int
read_answer(struct qvd_client *c, const struct farm_request *req,
    struct answer *answer, struct buf *early, bool *ret_silent, struct err *err)
{
	char data[16384];
	size_t n, used, at;
	int r;

	*ret_silent = true;
	for (;;) {
		r = conn_read(
		    &c->conn, data, sizeof(data), &n, req->deadline_ms, err);
		if (r < 0)
			break;
		if (n == 0) {
			r = answer_eof(answer, err);
			break;
		}
		*ret_silent = false;
		for (at = 0; at < n; at += used) {
			r = answer_feed(answer, data + at, n - at, &used, err);
			if (r != ANSWER_INTERIM)
				break;
			if (answer->headers.info[0] != '\0')
				client_event(c, QVD_EVENT_PROGRESS,
				    answer->headers.info, 0);
		}
		at += r >= 0 && at < n ? used : 0;
		if (r == ANSWER_UPGRADED && early != NULL)
			buf_append(early, data + at, n - at);
		if (r < 0 || r == ANSWER_UPGRADED || r == ANSWER_FINAL)
			break;
	}
	explicit_bzero(data, sizeof(data));
	return r < 0 ? r : 0;
}

/* The server's own words, one line, without its final stop. */
static void
refusal_text(const struct answer *answer, char dst[REFUSAL_MAX])
{
	const char *body = buf_head(&answer->body);
	size_t n = buf_len(&answer->body), i;
	char raw[REFUSAL_MAX];

	dst[0] = '\0';
	if (body == NULL || !str_starts(answer->headers.type, "text/plain"))
		return;
	if (n > sizeof(raw) - 1)
		n = sizeof(raw) - 1;
	memcpy(raw, body, n);
	while (n > 0 && strchr(" \t\r\n.", raw[n - 1]) != NULL)
		n--;
	for (i = 0; i < n; i++)
		if (raw[i] == '\r' || raw[i] == '\n' || raw[i] == '\t')
			raw[i] = ' ';
	raw[n] = '\0';
	if (str_is_text(raw, sizeof(raw)))
		str_copy(dst, REFUSAL_MAX, raw);
	else
		str_escape(dst, REFUSAL_MAX, raw, n);
}

static const struct refusal {
	int status;
	enum err_code code;
	const char *sentence; /* NULL: the server's words, or `otherwise` */
	const char *otherwise;
} refusals[] = {
	{ 400, ERR_INVALID, NULL, "the server doesn't understand the request" },
	{ 402, ERR_FORBIDDEN,
	    "no subscription is active for this account; ask your "
	    "administrator",
	    NULL },
	{ 403, ERR_FORBIDDEN, NULL,
	    "the server refuses: this desktop isn't yours, or it is under "
	    "maintenance" },
	{ 404, ERR_NOT_FOUND, NULL,
	    "the server doesn't know this desktop (any more)" },
	{ 408, ERR_TIMEOUT, NULL, "the server gave up waiting" },
	{ 409, ERR_CONFLICT, NULL,
	    "not possible in the desktop's present state" },
	{ 413, ERR_TOO_LARGE, NULL, "the server finds the request too large" },
	{ 422, ERR_PARAMETER, NULL, "the server misses a parameter" },
	{ 426, ERR_UPGRADE,
	    "the server requires a newer client; install the version that "
	    "your administrator offers",
	    NULL },
	{ 502, ERR_NETWORK, NULL, "the server can't reach the desktop" },
	{ 503, ERR_UNAVAILABLE, NULL,
	    "the server can't serve this now; try again later" },
	{ 504, ERR_TIMEOUT, NULL, "the desktop didn't answer in time" },
	{ 505, ERR_PROTOCOL, NULL, "the server speaks another HTTP" },
	{ 507, ERR_NO_SPACE, NULL, "the server has no space left" },
};

static int
refuse(struct qvd_client *c, const struct answer *answer, struct err *err)
{
	const char *id = answer->headers.error, *sentence;
	enum err_code code = ERR_PROTOCOL;
	const struct refusal *row = NULL;
	char text[REFUSAL_MAX];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++)
		if (refusals[i].status == answer->status)
			row = &refusals[i];
	if (row != NULL)
		code = row->code;
	else if (answer->status >= 500)
		code = ERR_INTERNAL;
	if (id[0] != '\0' && str_eq(err_id(err_from_id(id)), id))
		code = err_from_id(id);
	str_copy(c->ref, sizeof(c->ref), answer->headers.ref);
	refusal_text(answer, text);
	if (answer->status == 401)
		return err_set(err, ERR_AUTH, "%s",
		    c->token != NULL
			? "the token is not valid (any more); log in again"
			: "user or password is wrong");
	if (code == ERR_TAKEN_OVER)
		return err_set(err, code,
		    "the session was taken over by another client; it goes on "
		    "there");
	sentence = row != NULL && row->sentence != NULL ? row->sentence
		   : text[0] != '\0'                    ? text
		   : row != NULL
		       ? row->otherwise
		       : "the server answers in a way that this client "
			 "doesn't know";
	return err_set(err, code, "%s%s", sentence,
	    row != NULL ? "" : " (is this a QVD server?)");
}

int
farm_open(struct qvd_client *c, int64_t deadline_ms, struct err *err)
{
	int r;

	if (conn_is_open(&c->conn))
		return 0;
	c->trust.notice[0] = '\0';
	r = conn_open(&c->conn, c->host, c->port, &c->trust, deadline_ms, err);
	if (r == 0 && c->trust.notice[0] != '\0')
		client_event(c, QVD_EVENT_NOTICE, c->trust.notice, 0);
	return r;
}

/* One try on one connection. *ret_stale: the connection had been used, and
 * the server had closed it meanwhile. */
static int
try_request(struct qvd_client *c, const struct farm_request *req,
    struct answer *answer, struct buf *early, bool *ret_stale, struct err *err)
{
	bool used, silent = true;
	int r;

	if ((r = farm_open(c, req->deadline_ms, err)) < 0)
		return r;
	used = !c->conn.fresh;
	r = send_request(c, req, err);
	if (r == 0)
		r = read_answer(c, req, answer, early, &silent, err);
	*ret_stale = r == -ERR_NETWORK && used && silent;
	if (r < 0)
		conn_close(&c->conn);
	else
		c->conn.fresh = false;
	return r;
}

int
farm_request(struct qvd_client *c, const struct farm_request *req,
    struct answer *answer, struct buf *early, struct err *err)
{
	bool stale = false;
	int r;

	c->ref[0] = '\0';
	answer_init(answer);
	r = try_request(c, req, answer, early, &stale, err);
	if (stale) {
		answer_done(answer);
		answer_init(answer);
		r = try_request(c, req, answer, early, &stale, err);
	}
	if (r < 0)
		return r;
	if (answer->status != 101 && !answer->keep_alive)
		conn_close(&c->conn);
	if (answer->status == (req->upgrade ? 101 : 200))
		return 0;
	if (answer->status >= 400)
		return refuse(c, answer, err);
	conn_close(&c->conn);
	return err_set(err, ERR_PROTOCOL,
	    "the server answers with status %d, which QVD servers don't; "
	    "check host and port",
	    answer->status);
}

/* A request whose answer is a JSON value; the caller owns it. */
static int
request_json(
    struct qvd_client *c, const char *path, json_t **ret, struct err *err)
{
	struct farm_request req = { .path = path,
		.deadline_ms = time_now_ms() + c->timeout_ms };
	struct answer answer;
	int r;

	r = farm_request(c, &req, &answer, NULL, err);
	if (r == 0) {
		r = json_parse(
		    buf_len(&answer.body) > 0 ? buf_head(&answer.body) : "",
		    buf_len(&answer.body), ret, err);
		if (r < 0)
			r = err_set(err, ERR_PROTOCOL,
			    "the server's answer is not what a QVD server "
			    "says; check host and port");
	}
	answer_done(&answer);
	return r;
}

int
farm_token(struct qvd_client *c, char **ret_token, struct err *err)
{
	json_t *json = NULL;
	const char *text;
	size_t n;
	int r;

	r = request_json(c, "/qvd/create_auth_token", &json, err);
	if (r < 0)
		return r;
	text = json_get_str(json, "auth_token", "");
	n = strcspn(text, "\r\n"); /* old servers end it with a newline */
	if (n == 0 || n > TOKEN_MAX)
		r = err_set(
		    err, ERR_PROTOCOL, "the server gave no usable token");
	else
		*ret_token = xstrndup(text, n);
	json_decref(json);
	return r;
}

/* Integers, but 0 and 1 also as booleans: servers of several ages. */
static int
flag(const json_t *obj, const char *name)
{
	return json_get_bool(obj, name, false) ||
	       json_get_int(obj, name, 0) != 0;
}

static void
list_freep(struct qvd_list **list)
{
	qvd_list_free(*list);
}

static int
decode_list(json_t *json, struct qvd_list **ret, struct err *err)
{
	_cleanup_(list_freep)
	struct qvd_list *list = new0(struct qvd_list);
	size_t i;
	json_t *row;

	list->json = json;
	if (!json_is_array(json) || json_array_size(json) > LIST_MAX)
		return err_set(err, ERR_PROTOCOL,
		    "the server's list of desktops is not a list of at most "
		    "%d",
		    LIST_MAX);
	list->v = xcalloc(json_array_size(json) + 1, sizeof(*list->v));
	json_array_foreach (json, i, row) {
		struct qvd_vm *vm = &list->v[list->n];

		vm->id = json_get_int(row, "id", -1);
		vm->name = json_get_str(row, "name", "");
		vm->state = json_get_str(row, "state", "");
		vm->blocked = flag(row, "blocked");
		vm->is_application = flag(row, "is_application");
		if (vm->id < 0 || !str_is_text(vm->name, 1024) ||
		    !str_is_text(vm->state, 64))
			return err_set(err, ERR_PROTOCOL,
			    "the server's list of desktops has a row without "
			    "id, name or state");
		list->n++;
	}
	*ret = take_ptr(list);
	return 0;
}

int
farm_list(
    struct qvd_client *c, int kind, struct qvd_list **ret, struct err *err)
{
	json_t *json = NULL;
	int r;

	r = request_json(c,
	    kind == QVD_APPLICATIONS ? "/qvd/list_of_applications"
				     : "/qvd/list_of_vm",
	    &json, err);
	return r < 0 ? r : decode_list(json, ret, err);
}

size_t
qvd_list_count(const struct qvd_list *list)
{
	return list->n;
}

const struct qvd_vm *
qvd_list_get(const struct qvd_list *list, size_t index)
{
	return index < list->n ? &list->v[index] : NULL;
}

void
qvd_list_free(struct qvd_list *list)
{
	if (list == NULL)
		return;
	json_decref(list->json);
	free(list->v);
	free(list);
}
