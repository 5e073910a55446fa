/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * POST /v1/vms/{id}/console and /screen: a stream of a virtual machine's own
 * device. Who looks at one is noted first; then the house-keeper of this node
 * gives a descriptor, and the connection becomes the stream.
 */
#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/states.h"

#define STREAM_MS 30000

static const struct db_stmt where_stmt = { "vm_stream_where",
	"SELECT h.name, r.state FROM vms v "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"LEFT JOIN hosts h ON h.id = v.host_id WHERE v.id = $1",
	1 };

static void
on_stream(struct request *req, const json_t *result, int fd)
{
	if (fd < 0)
		respond_fail(req, ERR_INTERNAL, "the house-keeper gave none");
	else
		respond_stream(req, fd);
}

static void
on_noted(struct request *req, const struct db_result *res)
{
	const char *op =
	    str_ends(req->route->path, "/screen") ? "vm.screen" : "vm.console";

	node_ask(req, op, json_pack("{sI}", "vm_id", (json_int_t)req->id),
	    STREAM_MS, on_stream);
}

static void
on_where(struct request *req, const struct db_result *res)
{
	const char *state = db_rows(res) > 0 ? db_str(res, 0, "state") : NULL;
	const char *host = db_rows(res) > 0 ? db_str(res, 0, "name") : NULL;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no VM %lld",
		    (long long)req->id);
	else if (host == NULL || state == NULL || str_eq(state, "stopped"))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld doesn't run; start it first ('qvd vm start %lld')",
		    (long long)req->id, (long long)req->id);
	else if (!str_eq(host, req->api->conf.name))
		respond_fail(req, ERR_UNAVAILABLE,
		    "this is '%s', and VM %lld runs on '%s': ask there",
		    req->api->conf.name, (long long)req->id, host);
	else
		change_commit(
		    req, object_text(req, &resource_vms, req->id), on_noted);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &where_stmt, &p, on_where);
}

void
vm_stream(struct request *req)
{
	if (!req->wants_stream)
		respond_fail(req, ERR_INVALID,
		    "this is a stream: ask for it with 'Connection: Upgrade' "
		    "and 'Upgrade: qvd-stream/1'");
	else
		change_begin(req, on_begun);
}
