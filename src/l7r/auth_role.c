/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The role auth: answers the broker's `verify {login, tenant, password
 * (base64), hash}` with {ok}. One question at a time; it may block.
 */
#include <string.h>
#include <unistd.h>

#include "auth/auth.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/roles.h"
#include "net/rpc.h"

struct auth_role {
	struct loop *loop;
	struct rpc *parent;
	struct rpc *broker;
};

int
auth_prepare(struct err *err)
{
	return auth_init(err);
}

static void
op_verify(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	_cleanup_(wipe_strp)
	char *password = NULL;
	const char *encoded = json_get_str(args, "password", NULL);
	struct auth_query query = {
		.tenant = json_get_str(args, "tenant", NULL),
		.login = json_get_str(args, "login", NULL),
		.hash = json_get_str(args, "hash", NULL),
	};
	struct err err = { 0 };
	bool ok;
	size_t n;

	closep(&fd);
	if (encoded != NULL)
		password = str_unbase64(encoded, strlen(encoded), &n);
	query.password = password;
	if (query.tenant == NULL || query.login == NULL || password == NULL)
		err_set(&err, ERR_PROTOCOL, "verify: a member is missing");
	else
		auth_verify(&query, &ok, &err);
	if (err_is_set(&err))
		rpc_fail(call, &err);
	else
		rpc_reply(call, json_pack("{s:b}", "ok", ok), -1);
}

static const struct rpc_op broker_ops[] = {
	{ "verify", op_verify },
	{ .name = NULL },
};

static void
broker_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct auth_role *a = arg;

	rpc_free(rpc);
	if (a->broker == rpc)
		a->broker = NULL;
}

static void
op_peer(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct auth_role *a = arg;

	if (a->broker != NULL)
		rpc_free(a->broker);
	a->broker = rpc_new(a->loop, fd, broker_ops, broker_gone, a);
	rpc_reply(call, NULL, -1);
}

static const struct rpc_op parent_ops[] = {
	{ "peer", op_peer },
	{ .name = NULL },
};

static void
parent_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct auth_role *a = arg;

	loop_stop(a->loop);
}

int
auth_run(int index)
{
	struct auth_role a = { .loop = loop_new() };

	a.parent = rpc_new(a.loop, ROLE_FD, parent_ops, parent_gone, &a);
	loop_run(a.loop);
	rpc_free(a.parent);
	if (a.broker != NULL)
		rpc_free(a.broker);
	loop_free(a.loop);
	return 0;
}
