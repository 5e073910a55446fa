/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists of VMs, saved credentials, tokens. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define TOKEN_LEN 43 /* of 62 characters: 256 bits */

static void
fail_call(struct rpc_call *call, const struct err *err)
{
	struct failure f;

	failure_from_err(&f, err);
	reply_failure(call, &f);
}

/* Integers where old clients unpack integers. */
static json_t *
vm_to_json(const struct db_result *res, int row, bool application)
{
	return json_pack("{s:I, s:s, s:s, s:i, s:i}", "id",
	    (json_int_t)db_i64(res, row, "id"), "state",
	    db_str(res, row, "state"), "name", db_str(res, row, "name"),
	    "blocked", db_bool(res, row, "blocked") ? 1 : 0, "is_application",
	    application ? 1 : 0);
}

static void
reply_list(struct rpc_call *call, const struct db_result *res,
    const struct err *err, bool applications)
{
	json_t *list;
	int i;

	if (err != NULL) {
		fail_call(call, err);
		return;
	}
	list = json_array();
	for (i = 0; i < db_rows(res); i++)
		json_array_append_new(list, vm_to_json(res, i, applications));
	rpc_reply(call, json_pack("{s:o}", "list", list), -1);
}

static void
on_desktops(const struct db_result *res, const struct err *err, void *arg)
{
	reply_list(arg, res, err, false);
}

static void
on_applications(const struct db_result *res, const struct err *err, void *arg)
{
	reply_list(arg, res, err, true);
}

void
op_list(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	bool applications = json_get_bool(args, "applications", false);
	struct db_params p = { 0 };
	const struct login *login;

	closep(&fd);
	if ((login = login_of(w, call, args)) == NULL)
		return;
	db_param_i64(&p, login->user_id);
	db_param_str(&p, applications ? "application" : "desktop");
	if (login->token_vm_id != 0)
		db_param_i64(&p, login->token_vm_id);
	else
		db_param_null(&p);
	db_exec(w->broker->db, &sql_list_vms, &p, 0,
	    applications ? on_applications : on_desktops, call);
}

struct token_op {
	struct broker *broker;
	struct rpc_call *call;
	int64_t user_id;
	bool show;
	char token[TOKEN_LEN + 1];
};

static void
on_token(const struct db_result *res, const struct err *err, void *arg)
{
	struct token_op *op = arg;
	json_t *object;

	if (err != NULL) {
		fail_call(op->call, err);
	} else {
		object = json_pack("{s:I}", "auth_params_id",
		    (json_int_t)db_i64(res, 0, "id"));
		if (op->show)
			json_object_set_new(
			    object, "auth_token", json_string(op->token));
		rpc_reply(op->call, json_pack("{s:o}", "object", object), -1);
		event_write(op->broker,
		    &(struct event){ .name = "user.token-created",
			.user_id = op->user_id,
			.text = op->show ? "a token for the client"
					 : "authentication parameters saved",
			.duration_ms = -1 });
	}
	explicit_bzero(op, sizeof(*op));
	free(op);
}

static void
on_expired(const struct db_result *res, const struct err *err, void *arg)
{
}

/*
 * Only the hash is kept. Saved parameters are a row of the same kind, whose
 * token nobody is told.
 */
static void
make_token(
    struct worker_link *w, struct rpc_call *call, const json_t *args, bool show)
{
	_cleanup_(freep)
	char *params = NULL;
	struct db_params p = { 0 };
	const struct login *login;
	struct token_op *op;
	char hash[HASH_TEXT];
	json_t *object;

	if ((login = login_of(w, call, args)) == NULL)
		return;
	op = new0(struct token_op);
	op->broker = w->broker;
	op->call = call;
	op->user_id = login->user_id;
	op->show = show;
	str_random(op->token, TOKEN_LEN);
	hash_text(hash, op->token);
	object = json_pack("{s:s}", "qvd.vm.user.name", login->login);
	params = json_text(object);
	json_decref(object);
	db_param_str(&p, hash);
	db_param_i64(&p, login->user_id);
	db_param_bool(&p, true);
	db_param_str(&p, params);
	db_param_i64(&p, op->broker->settings.token_ms / 1000);
	db_exec(w->broker->db, &sql_token_new, &p, 0, on_token, op);
	db_exec(w->broker->db, &sql_tokens_expire, NULL, 0, on_expired, NULL);
}

void
op_create_token(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	make_token(arg, call, args, true);
}

void
op_store_auth(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	make_token(arg, call, args, false);
}
