/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd user: who may log in. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "LOGIN", "login", COLUMN_TEXT },
	{ "TENANT", "tenant", COLUMN_TEXT },
	{ "NAME", "full_name", COLUMN_TEXT },
	{ "VMS", "vms", COLUMN_NUMBER },
	{ "BLOCKED", "blocked", COLUMN_YES },
	{ "PASSWORD", "has_password", COLUMN_YES },
	COLUMN_END,
};

#define PASSWORD_ARG                                                  \
	{                                                             \
		"--password-file", ARG_TEXT, 0,                       \
		    .meta = "FILE",                                   \
		    .doc = "the password's file; - is standard input" \
	}

static const struct arg list_args[] = {
	{ "--tenant", ARG_TENANT, 0, "tenant_id", .doc = "only its users" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "USER", ARG_USER, ARG_REQUIRED | ARG_MANY,
	    .doc = "the user: an id, alice, or alice@tenant" },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "LOGIN", ARG_NAME, ARG_REQUIRED,
	    .doc = "the name to log in with: alice, or alice@tenant" },
	{ "--tenant", ARG_TENANT, 0, "tenant_id",
	    .doc = "the user's tenant; needed if there are several" },
	{ "--full-name", ARG_TEXT, 0, "full_name", .doc = "the person's name" },
	PASSWORD_ARG,
	{ "--ask-password", ARG_FLAG, 0,
	    .doc = "asks for the password on the terminal" },
	ARG_END,
};

static const struct arg set_args[] = {
	{ "USER", ARG_USER, ARG_REQUIRED,
	    .doc = "the user: an id, alice, or alice@tenant" },
	{ "--login", ARG_NAME, 0, "login", .doc = "the new login" },
	{ "--full-name", ARG_TEXT, 0, "full_name", .doc = "the person's name" },
	ARG_END,
};

static const struct arg passwd_args[] = {
	{ "USER", ARG_USER, ARG_REQUIRED,
	    .doc = "the user: an id, alice, or alice@tenant" },
	PASSWORD_ARG,
	{ "--none", ARG_FLAG, 0, .doc = "takes the password away" },
	ARG_END,
};

/* "alice@tenant" as two members. */
static int
body_login(struct cli *cli, const char *name, json_t *body, struct err *err)
{
	const char *at = strchr(name, '@');
	int64_t tenant;
	int r;

	if (at == NULL) {
		json_object_set_new(body, "login", json_string(name));
		return 0;
	}
	json_object_set_new(
	    body, "login", json_stringn(name, (size_t)(at - name)));
	if ((r = api_id(cli, ARG_TENANT, at + 1, &tenant, err)) < 0)
		return r;
	json_object_set_new(body, "tenant_id", json_integer(tenant));
	return 0;
}

static int
body_password(const char *file, json_t *body, struct err *err)
{
	char *password = NULL;
	int r;

	if ((r = password_read(file, "New password: ", &password, err)) < 0)
		return r;
	json_object_set_new(body, "password", json_string(password));
	wipe_str(password);
	if (json_object_get(body, "password") == NULL)
		return err_set(
		    err, ERR_USAGE, "the password is not valid UTF-8 text");
	return 0;
}

static int
run_user_add(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	const char *file = value_get(values, "--password-file");
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0)
		return r;
	r = body_login(cli, value_get(values, "LOGIN"), body, err);
	if (r == 0 && (file != NULL || value_flag(values, "--ask-password")))
		r = body_password(file, body, err);
	if (r < 0) {
		json_decref(body);
		return r;
	}
	r = api_call(cli, "POST", values->noun->path, body, &answer, err);
	if (r < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

static int
run_passwd(struct cli *cli, const struct values *values, struct err *err)
{
	json_t *body;
	int64_t id;
	int r;

	r = api_id(cli, ARG_USER, value_get(values, "USER"), &id, err);
	if (r < 0)
		return r;
	body = json_object();
	if (value_flag(values, "--none"))
		json_object_set_new(body, "password", json_null());
	else
		r = body_password(
		    value_get(values, "--password-file"), body, err);
	if (r < 0) {
		json_decref(body);
		return r;
	}
	return api_call(cli, "PUT",
	    api_path(cli, values->noun, id, "/password"), body, NULL, err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the users" },
	{ "show", run_show, one_args, .summary = "Shows users" },
	{ "add", run_user_add, add_args, "Adds a user",
	    "Without a password the user can't log in yet; see 'user "
	    "passwd'." },
	{ "set", run_set, set_args, .summary = "Changes a user" },
	{ "passwd", run_passwd, passwd_args, "Sets a user's password",
	    "It is asked for on the terminal, or read from a file or "
	    "standard input, one line." },
	{ "block", run_block, one_args,
	    .summary = "Keeps users from logging in" },
	{ "unblock", run_unblock, one_args,
	    .summary = "Lets users log in again" },
	{ "del", run_del, one_args, "Deletes users",
	    "A user who still has VMs is not deleted." },
	{ .verb = NULL },
};

const struct noun noun_user = { "user", "/v1/users", columns, commands,
	"the people who may log in" };
