/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * GET /v1/hosts/{id}/usage: what each VM of a node uses, and what there is
 * room for. The house-keeper of this node measures (hkd.sock); names, states
 * and images are the database's.
 */
#include <inttypes.h>
#include <string.h>

#include "api/api.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/room.h"
#include "model/usage.h"
#include "net/rpc.h"

#define USAGE_MS 60000

static const struct field view[] = {
	VIEW("vm_id", I64),
	VIEW("path", STR),
	VIEW("state", STR),
	VIEW("session", STR),
	VIEW("session_at", TIME),
	VIEW("image", STR),
	VIEW("image_id", I64),
	FIELD_END,
};

static const struct db_stmt host_stmt = { "usage_host",
	"SELECT name FROM hosts WHERE id = $1", 1 };
static const struct db_stmt vms_stmt = { "usage_vms",
	"SELECT v.id AS vm_id, "
	"u.login || '@' || t.name || '/' || v.name AS path, "
	"r.state, r.session, r.session_at, r.image_id, "
	"o.name || '/' || i.version AS image "
	"FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id "
	"JOIN users u ON u.id = v.user_id "
	"JOIN tenants t ON t.id = u.tenant_id "
	"LEFT JOIN images i ON i.id = r.image_id "
	"LEFT JOIN osfs o ON o.id = i.osf_id "
	"WHERE r.host_id = $1 AND r.state <> 'stopped' ORDER BY v.id",
	1 };

struct host_usage {
	struct request *req;
	struct rpc *rpc;
	struct rpc_request *ask;
	json_t *rows; /* of the database */
};

static void
usage_end(struct host_usage *u)
{
	struct request *req = u->req;

	rpc_free(u->rpc);
	json_decref(u->rows);
	request_release(req);
}

/* Adds the measured items to a row; what has no processes (yet) has zeros. */
static void
add_items(json_t *row, const json_t *items)
{
	int i;

	for (i = 0; i < USAGE_COUNT_; i++) {
		json_int_t v =
		    json_integer_value(json_array_get(items, (size_t)i));

		if (i == USAGE_VM_ID)
			continue;
		if ((i == USAGE_SYSTEM_FILL || i == USAGE_HOME_FILL) &&
		    (items == NULL || v < 0))
			json_object_set_new(row, usage_to_str(i), json_null());
		else if (i == USAGE_HIBERNATED)
			json_object_set_new(
			    row, usage_to_str(i), json_boolean(v != 0));
		else if (i == USAGE_CPU_PRESSURE || i == USAGE_MEM_PRESSURE ||
			 i == USAGE_IO_PRESSURE)
			json_object_set_new(
			    row, usage_to_str(i), json_real((double)v / 100.0));
		else
			json_object_set_new(
			    row, usage_to_str(i), json_integer(v));
	}
}

static const char *
image_name(const json_t *rows, int64_t image_id)
{
	const json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		if (json_get_int(row, "image_id", 0) == image_id)
			return json_get_str(row, "image", "?");
	return "?";
}

static json_t *
room_json(const json_t *rows, const json_t *node)
{
	size_t n = json_array_size(rows), n_room, i;
	struct room_vm *vms = xcalloc(n + 1, sizeof(*vms));
	struct room *room = xcalloc(n + 1, sizeof(*room));
	json_t *out = json_array(), *row;

	json_array_foreach (rows, i, row) {
		/* What one that just starts uses says nothing. */
		vms[i].awake =
		    str_eq(json_get_str(row, "state", ""), "running") &&
		    !json_get_bool(row, "hibernated", false);
		vms[i].image_id = json_get_int(row, "image_id", 0);
		vms[i].own_bytes = (json_get_int(row, "anon_kb", 0) +
				       json_get_int(row, "swap_kb", 0) +
				       json_get_int(row, "kernel_kb", 0)) *
				   1024;
	}
	n_room = room_by_image(vms, n,
	    room_free_bytes(json_get_int(node, "available_kb", 0) * 1024,
		json_get_int(node, "memory_kb", 0) * 1024),
	    room);
	for (i = 0; i < n_room; i++)
		json_array_append_new(
		    out, json_pack("{sI ss sI sI}", "image_id",
			     (json_int_t)room[i].image_id, "image",
			     image_name(rows, room[i].image_id), "each_bytes",
			     (json_int_t)room[i].each_bytes, "more",
			     (json_int_t)room[i].more));
	free(vms);
	free(room);
	return out;
}

static void
merge(struct host_usage *u, const json_t *result)
{
	json_t *node = json_deep_copy(json_object_get(result, "node"));
	const json_t *measured = json_object_get(result, "vms"), *items;
	struct map by_id;
	json_t *row;
	size_t i;

	map_init(&by_id);
	json_array_foreach (measured, i, items)
		map_set(&by_id,
		    (uint64_t)json_integer_value(
			json_array_get(items, USAGE_VM_ID)),
		    json_array_get(measured, i));
	json_array_foreach (u->rows, i, row)
		add_items(row,
		    map_get(&by_id, (uint64_t)json_get_int(row, "vm_id", 0)));
	map_done(&by_id);
	respond(u->req, 200,
	    json_pack("{so so sO}", "host", node, "room",
		room_json(u->rows, node), "vms", u->rows));
}

static void
on_usage(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct host_usage *u = arg;

	closep(&fd);
	if (err != NULL)
		respond_err(u->req, err);
	else
		merge(u, result);
	usage_end(u);
}

/* Its requests have been answered before. */
static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
}

static void
on_vms(struct request *req, const struct db_result *res)
{
	static const struct rpc_op none[] = { { .name = NULL } };
	_cleanup_(freep)
	char *path = node_conf_run_path(&req->api->conf, "hkd.sock");
	struct host_usage *u;
	struct err err = { 0 };
	json_t *list;
	struct rpc *rpc =
	    rpc_connect(req->api->loop, path, none, on_closed, NULL, &err);

	if (rpc == NULL) {
		respond_fail(req, ERR_UNAVAILABLE,
		    "the house-keeper of this node (qvd-hkd) does not answer "
		    "on '%s': %s",
		    path, err.msg);
		return;
	}
	u = arena_new0(req->arena, struct host_usage);
	u->req = req;
	u->rpc = rpc;
	list = rows_to_json(res, view);
	u->rows = json_incref(json_object_get(list, "items"));
	json_decref(list);
	request_hold(req);
	u->ask = rpc_ask(rpc, "host.usage", NULL, -1, USAGE_MS, on_usage, u);
}

static void
on_host(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	if (db_rows(res) == 0) {
		respond_fail(
		    req, ERR_NOT_FOUND, "there is no host %" PRId64, req->id);
		return;
	}
	if (!str_eq(db_str(res, 0, "name"), req->api->conf.name)) {
		respond_fail(req, ERR_UNAVAILABLE,
		    "what host '%s' uses is known there only; ask its own "
		    "API (this is '%s')",
		    db_str(res, 0, "name"), req->api->conf.name);
		return;
	}
	db_param_i64(&p, req->id);
	read_exec(req, &vms_stmt, &p, on_vms);
}

void
host_usage(struct request *req)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	read_exec(req, &host_stmt, &p, on_host);
}
