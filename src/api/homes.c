/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Homes: what their nodes know of them, and what is to be done with them: a
 * row of `home_jobs`, which wakes the node that has the home. With ?wait=1
 * the answer is held until it has been done. {id} is the VM's.
 */
#include <stddef.h>
#include <string.h>

#include "api/api.h"
#include "base/str.h"
#include "model/states.h"

#define WAIT_MS (INT64_C(4) * 3600 * 1000)

struct home_request {
	const char *name; /* of the snapshot */
	int32_t size_mb;
};

static const struct field fields[] = {
	FIELD(struct home_request, name, STR, .flags = FIELD_NAME, .max = 64),
	FIELD(struct home_request, size_mb, I32, .min = 1, .max = INT32_MAX),
	FIELD_END,
};

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("host", STR),
	VIEW("host_id", I64),
	VIEW("store", STR),
	VIEW("size_mb", I64),
	VIEW("wanted_mb", I32),
	VIEW("used_mb", I64),
	VIEW("snapshot_count", I32),
	VIEW("snapshots", JSON),
	VIEW("seen_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "user_id", "host_id", NULL };
static const struct db_stmt list = { "home_list",
	"SELECT m.vm_id AS id, u.login || '@' || t.name || '/' || v.name "
	"AS path, h.name AS host, m.host_id, m.store, m.size_mb, m.used_mb, "
	"nullif(coalesce(v.home_mb, o.home_mb), 0) AS wanted_mb, "
	"jsonb_array_length(m.snapshots) AS snapshot_count, m.snapshots, "
	"m.seen_at FROM homes m JOIN vms v ON v.id = m.vm_id "
	"JOIN osfs o ON o.id = v.osf_id JOIN users u ON u.id = v.user_id "
	"JOIN tenants t ON t.id = u.tenant_id "
	"JOIN hosts h ON h.id = m.host_id "
	"WHERE ($1::int IS NULL OR v.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) "
	"AND ($3::text IS NULL OR u.login = $3::text) "
	"AND ($4::text IS NULL OR v.name = $4::text) AND $5::text IS NULL "
	"AND ($6::int IS NULL OR v.user_id = $6::int) "
	"AND ($7::int IS NULL OR m.host_id = $7::int) "
	"ORDER BY t.name, u.login, v.name",
	7 };

const struct resource resource_homes = { .name = "homes",
	.word = "home",
	.noun = "known home of a VM",
	.view = view,
	.list = &list,
	.filters = filters,
	.fields = fields,
	.size = sizeof(struct home_request) };

/* The node that has it, or will have it. */
static const struct db_stmt host_stmt = { "home_host",
	"SELECT v.id, h.id AS host_id, h.name AS host, "
	"coalesce(r.state, 'stopped') AS state, "
	"coalesce(m.size_mb, 0) AS size_mb FROM vms v "
	"LEFT JOIN homes m ON m.vm_id = v.id "
	"LEFT JOIN hosts h ON h.id = coalesce(m.host_id, v.host_id) "
	"LEFT JOIN host_runtimes r ON r.host_id = h.id "
	"WHERE v.id = $1 FOR UPDATE OF v",
	1 };
static const struct db_stmt size_stmt = { "home_size",
	"UPDATE vms SET home_mb = $2 WHERE id = $1", 2 };
static const struct db_stmt job_stmt = { "home_job",
	"WITH d AS (DELETE FROM home_jobs WHERE vm_id = $1 AND state IN "
	"('done', 'failed') AND state_at < now() - interval '1 day') "
	"INSERT INTO home_jobs (vm_id, host_id, action, name) "
	"VALUES ($1, $2, $3, $4) RETURNING id",
	4 };
static const struct db_stmt look_stmt = { "home_look",
	"SELECT id, state, error_id, error, error_ref FROM home_jobs "
	"WHERE vm_id = $1 ORDER BY id DESC LIMIT 100",
	1 };

/* The route's last word. */
static const char *
action_of(const struct request *req)
{
	return strrchr(req->route->path, '/') + 1;
}

static int
job_failed(const struct db_result *res, int row, struct err *err)
{
	const char *text = db_str(res, row, "error");
	const char *ref = db_str(res, row, "error_ref");

	return err_set(err, err_from_id(db_str(res, row, "error_id")),
	    "%s, reference %s", text != NULL ? text : "it failed",
	    ref != NULL ? ref : "?");
}

/* req->epoch is the job's id. */
static int
look(struct request *req, const struct db_result *res, char *text, size_t size,
    struct err *err)
{
	const char *state;
	int i;

	for (i = 0; i < db_rows(res); i++)
		if (db_i64(res, i, "id") == req->epoch)
			break;
	if (i == db_rows(res))
		return err_set(
		    err, ERR_NOT_FOUND, "the VM was deleted meanwhile");
	state = db_str(res, i, "state");
	if (str_eq(state, "failed"))
		return job_failed(res, i, err);
	if (str_eq(state, "done"))
		return 1;
	str_copy(text, size,
	    str_eq(state, "new") ? "waiting for its node"
				 : "its node is working on it");
	return 0;
}

static void
on_commit(struct request *req, const struct db_result *res)
{
	if (req->wait)
		await_start(req, "qvd_homes", &look_stmt, look, WAIT_MS);
	else
		respond(req, 202, json_pack("{sI}", "id", (json_int_t)req->id));
}

static void
on_job(struct request *req, const struct db_result *res)
{
	req->epoch = db_i64(res, 0, "id");
	change_commit(req, object_text(req, &resource_vms, req->id), on_commit);
}

static void
nothing(struct request *req, const struct db_result *res)
{
}

static void
add_job(struct request *req, int64_t host_id)
{
	const struct home_request *want = req->data;
	struct db_params p = { .n = 0 }, size = { .n = 0 };

	db_param_i64(&size, req->id);
	db_param_i64(&size, want->size_mb);
	if (want->size_mb > 0)
		change_exec(req, &size_stmt, &size, nothing);
	db_param_i64(&p, req->id);
	db_param_i64(&p, host_id);
	db_param_str(&p, action_of(req));
	db_param_str(&p, want->name);
	if (!req->failed)
		change_exec(req, &job_stmt, &p, on_job);
}

static void
on_host(struct request *req, const struct db_result *res)
{
	const struct home_request *want = req->data;
	int64_t host_id = db_rows(res) > 0 ? db_i64(res, 0, "host_id") : 0;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no VM %lld",
		    (long long)req->id);
	else if (host_id == 0)
		respond_fail(req, ERR_NOT_FOUND,
		    "VM %lld has no home yet; its first start makes it",
		    (long long)req->id);
	else if (!str_eq(db_str(res, 0, "state"), "running"))
		respond_fail(req, ERR_UNAVAILABLE,
		    "the home of VM %lld is on node '%s', which is not "
		    "running; start qvd-hkd there",
		    (long long)req->id, db_str(res, 0, "host"));
	else if (want->size_mb > 0 && want->size_mb < db_i64(res, 0, "size_mb"))
		respond_fail(req, ERR_PARAMETER,
		    "the home of VM %lld has %lld MiB already; it can only "
		    "grow",
		    (long long)req->id, (long long)db_i64(res, 0, "size_mb"));
	else
		add_job(req, host_id);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &host_stmt, &p, on_host);
}

/* The body's one member, where there is one; a name must be there. */
static const char *const members[HOME_ACTION_COUNT_][2] = {
	[HOME_ACTION_SNAPSHOT] = { "name" },
	[HOME_ACTION_RESTORE] = { "name" },
	[HOME_ACTION_FORGET] = { "name" },
	[HOME_ACTION_GROW] = { "size_mb" },
};

void
home_act(struct request *req)
{
	struct home_request *want = arena_new0(req->arena, struct home_request);
	enum home_action action = HOME_ACTION_LOOK;
	uint64_t seen;

	home_action_from_str(action_of(req), &action);
	if (want == NULL ||
	    !resource_decode(req, members[action], true, want, &seen))
		return;
	if (members[action][0] != NULL && action != HOME_ACTION_GROW &&
	    want->name == NULL) {
		respond_fail(req, ERR_PARAMETER,
		    "the body is {\"name\": of the snapshot}");
		return;
	}
	req->data = want;
	change_begin(req, on_begun);
}
