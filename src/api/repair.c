/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Repairing a host: its house-keeper does it, and is asked on hkd.sock; so
 * this API can ask only for its own node. */
#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/rpc.h"

#define REPAIR_MS (INT64_C(600) * 1000)

static const struct db_stmt host_stmt = { "repair_host",
	"SELECT name FROM hosts WHERE id = $1", 1 };

struct repair {
	struct request *req;
	struct rpc *rpc;
	bool dry;
};

static void
on_repaired(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct repair *rp = arg;
	struct request *req = rp->req;

	closep(&fd);
	rpc_free(rp->rpc);
	req->pending--;
	if (err != NULL)
		respond_err(req, err);
	else
		respond(req, 200, json_deep_copy(result));
}

/* The request was answered, or will be. */
static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
}

static const struct rpc_op none[] = { { .name = NULL } };

static void
ask(struct request *req, const struct db_result *res)
{
	struct repair *rp = req->data;
	_cleanup_(freep)
	char *path = node_conf_run_path(&req->api->conf, "hkd.sock");
	struct err err = { 0 };

	rp->rpc = rpc_connect(req->api->loop, path, none, on_closed, rp, &err);
	if (rp->rpc == NULL) {
		respond_fail(req, ERR_UNAVAILABLE,
		    "the house-keeper of '%s' doesn't run: %s",
		    req->api->conf.name, err.msg);
		return;
	}
	req->pending++;
	rpc_ask(rp->rpc, "host.repair",
	    json_pack("{sb}", "dry_run", (int)rp->dry), -1, REPAIR_MS,
	    on_repaired, rp);
}

static void
on_host(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no host %lld",
		    (long long)req->id);
	else if (!str_eq(db_str(res, 0, "name"), req->api->conf.name))
		respond_fail(req, ERR_UNAVAILABLE,
		    "this is '%s'; run 'qvd host repair' on '%s' itself",
		    req->api->conf.name, db_str(res, 0, "name"));
	else
		change_commit(
		    req, object_text(req, &resource_hosts, req->id), ask);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &host_stmt, &p, on_host);
}

void
host_repair(struct request *req)
{
	static const char *const names[] = { "dry_run", NULL };
	struct repair *rp = arena_new0(req->arena, struct repair);
	const char *dry = query_str(req, "dry_run");

	if (rp == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	if (!query_check(req, names))
		return;
	if (dry != NULL && !str_to_bool(dry, &rp->dry)) {
		respond_fail(req, ERR_PARAMETER, "dry_run is yes or no");
		return;
	}
	rp->req = req;
	req->data = rp;
	change_begin(req, on_begun);
}
