/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What libqvdclient shows to the outside: see include/qvd/client.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "client/client_priv.h"

#define TIMEOUT_MS 30000
#define STOP_MS    (5 * 60 * 1000) /* the server itself waits 270 s */

const char *
qvd_client_version(void)
{
	return CLIENT_VERSION;
}

/* The public codes are the exit codes of the table in base/err.h. */
static enum err_code
from_exit_code(int code)
{
	int i;

	for (i = 1; i < ERR_COUNT_; i++)
		if (err_exit_code((enum err_code)i) == code)
			return (enum err_code)i;
	return ERR_INTERNAL;
}

const char *
qvd_code_id(int code)
{
	return err_id(from_exit_code(code));
}

/* A caller of another version has another idea of the struct's size. */
static void
put_error(struct qvd_error *out, const struct err *err, const char *ref)
{
	struct qvd_error e = QVD_ERROR_INIT;
	size_t size;

	if (out == NULL || out->size < offsetof(struct qvd_error, message) + 1)
		return;
	size = out->size < sizeof(e) ? out->size : sizeof(e);
	e.size = out->size;
	e.code = err_exit_code(err->code);
	str_copy(e.id, sizeof(e.id), err_id(err->code));
	str_copy(e.reference, sizeof(e.reference), ref);
	str_copy(e.message, sizeof(e.message), err->msg);
	((char *)&e)[size - 1] = '\0';
	memcpy(out, &e, size);
}

static int
fail(struct qvd_error *out, const struct err *err, const char *ref)
{
	put_error(out, err, ref);
	return -err_exit_code(err->code);
}

/* Ends a public call. A cancellation has been heard. */
static int
finish(
    struct qvd_client *c, int r, const struct err *err, struct qvd_error *out)
{
	uint64_t count;

	if (r == 0)
		return 0;
	if (r == -ERR_CANCELLED && read(c->cancel_fd, &count, 8) < 0)
		count = 0;
	return fail(out, err, c->ref);
}

void
client_event(struct qvd_client *c, int type, const char *text, int pause_ms)
{
	struct qvd_event event = { .size = sizeof(event),
		.type = type,
		.text = text != NULL ? text : "",
		.pause_ms = pause_ms };

	if (c->on_event != NULL)
		c->on_event(&event, c->arg);
}

static char *
copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

static int
check(const struct qvd_client_options *o, struct err *err)
{
	if (o->host == NULL || !str_is_token(o->host, 253) ||
	    strpbrk(o->host, "/@[]") != NULL)
		return err_set(err, ERR_USAGE,
		    "'%.80s' is not the name or address of a server",
		    o->host != NULL ? o->host : "");
	if (o->port < 0 || o->port > 65535)
		return err_set(
		    err, ERR_USAGE, "port %d is not 1 to 65535", o->port);
	if (o->token != NULL)
		return str_is_token(o->token, 4096)
			   ? 0
			   : err_set(err, ERR_USAGE, "the token is not one");
	if (o->user == NULL || !str_is_text(o->user, 256) ||
	    o->user[0] == '\0' || strchr(o->user, ':') != NULL)
		return err_set(err, ERR_USAGE,
		    "a user name is needed: 1 to 256 characters without ':'");
	if (o->password == NULL || strlen(o->password) > 1024)
		return err_set(err, ERR_USAGE,
		    "a password of at most 1024 bytes is needed");
	return 0;
}

int
qvd_client_new(const struct qvd_client_options *options,
    struct qvd_client **ret_client, struct qvd_error *error)
{
	struct qvd_client_options o = { 0 };
	struct err err = { 0 };
	struct qvd_client *c;

	memcpy(
	    &o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	if (check(&o, &err) < 0)
		return fail(error, &err, "");
	c = new0(struct qvd_client);
	c->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->cancel_fd < 0) {
		free(c);
		err_set(&err, ERR_SYSTEM, "too many open files");
		return fail(error, &err, "");
	}
	c->host = copy(o.host);
	c->port = o.port != 0 ? o.port : QVD_PORT;
	c->user = copy(o.user);
	c->password = copy(o.password);
	c->token = copy(o.token);
	c->program_dir =
	    copy(o.program_dir != NULL ? o.program_dir : CLIENT_PROGRAM_DIR);
	c->timeout_ms = o.timeout_ms > 0 ? o.timeout_ms : TIMEOUT_MS;
	c->on_event = o.on_event;
	c->arg = o.arg;
	conn_init(&c->conn, c->cancel_fd);
	trust_init(&c->trust, o.ca_file, o.known_hosts,
	    (o.flags & QVD_TRUST_FIRST_USE) != 0);
	*ret_client = c;
	return 0;
}

void
qvd_client_free(struct qvd_client *c)
{
	if (c == NULL)
		return;
	conn_close(&c->conn);
	trust_done(&c->trust);
	closep(&c->cancel_fd);
	wipe_str(c->password);
	wipe_str(c->token);
	free(c->host);
	free(c->user);
	free(c->program_dir);
	free(c);
}

void
qvd_client_cancel(struct qvd_client *client)
{
	const uint64_t one = 1;
	ssize_t n = write(client->cancel_fd, &one, sizeof(one));

	(void)n; /* fails only if it was cancelled very often already */
}

/* A request of which only success counts. */
static int
simple(struct qvd_client *c, const char *path, const char *query, int ms,
    struct qvd_error *error)
{
	struct farm_request req = {
		.path = path, .query = query, .deadline_ms = time_now_ms() + ms
	};
	struct err err = { 0 };
	struct answer answer;
	int r;

	r = farm_request(c, &req, &answer, NULL, &err);
	answer_done(&answer);
	return finish(c, r, &err, error);
}

int
qvd_client_login(struct qvd_client *client, struct qvd_error *error)
{
	return simple(
	    client, "/qvd/authenticate_user", NULL, client->timeout_ms, error);
}

int
qvd_client_list(struct qvd_client *client, int kind, struct qvd_list **ret_list,
    struct qvd_error *error)
{
	struct err err = { 0 };
	int r;

	if (kind != QVD_DESKTOPS && kind != QVD_APPLICATIONS)
		r = err_set(
		    &err, ERR_USAGE, "lists are of desktops or applications");
	else
		r = farm_list(client, kind, ret_list, &err);
	return finish(client, r, &err, error);
}

int
qvd_client_stop(
    struct qvd_client *client, int64_t vm_id, struct qvd_error *error)
{
	_cleanup_(freep)
	char *query = xasprintf("id=%lld", (long long)vm_id);

	return simple(client, "/qvd/stop_vm", query, STOP_MS, error);
}

int
qvd_client_token(
    struct qvd_client *client, char **ret_token, struct qvd_error *error)
{
	struct err err = { 0 };
	int r = farm_token(client, ret_token, &err);

	return finish(client, r, &err, error);
}

void
qvd_secret_free(char *secret)
{
	wipe_str(secret);
}

int
qvd_client_run(struct qvd_client *client,
    const struct qvd_session_options *options, struct qvd_error *error)
{
	struct qvd_session_options o = { 0 };
	struct err err = { 0 };
	int r;

	memcpy(
	    &o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	client->ref[0] = '\0';
	r = session_run(client, &o, &err);
	return finish(client, r, &err, error);
}
