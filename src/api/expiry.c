/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runs that are to give way: their times are set here, their users are told
 * by the node, and when the hard time has come they are restarted here. Woken
 * by NOTIFY and by the next time that is due; all is in rows, so that it may
 * end at any point and be done by any node's API.
 */
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/rows.h"

#define LATER_MAX_MS  (INT64_C(30) * 24 * 3600 * 1000)
#define LOOK_SOON_MS  100
#define LOOK_AGAIN_MS 5000 /* after the database refused something */

/* A run that is over already, or is being replaced, needs no other; a
 * suspended one is forgotten, so that its next start is a new one. */
static const struct db_stmt due_stmt = { "expiry_due",
	"WITH due AS (SELECT v.id, v.desired = 'running' AND r.epoch = v.epoch "
	"AND r.state IN ('starting', 'running') AS runs, "
	"v.desired = 'suspended' AS sleeps FROM vms v "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"WHERE v.expire_hard_at <= clock_timestamp() FOR UPDATE OF v), "
	"u AS (UPDATE vms v SET expire_soft_at = NULL, expire_hard_at = NULL, "
	"expire_rollout_id = NULL, "
	"epoch = v.epoch + coalesce(d.runs, false)::int, desired_at = now(), "
	"desired = CASE WHEN d.sleeps THEN 'stopped' ELSE v.desired END, "
	"desired_by = 'expiry' FROM due d WHERE v.id = d.id "
	"RETURNING v.id, v.user_id, v.host_id, d.runs, d.sleeps) "
	"INSERT INTO events (name, vm_id, user_id, host_id, text) "
	"SELECT 'vm.expired', id, user_id, host_id, 'its time is over: it is ' "
	"|| CASE WHEN sleeps THEN 'not kept suspended any more' ELSE "
	"'restarted, with the image that it gets now' END "
	"FROM u WHERE runs OR sleeps",
	0 };
static const struct db_stmt next_stmt = { "expiry_next",
	"SELECT (extract(epoch FROM min(expire_hard_at) - clock_timestamp()) * "
	"1000)::bigint AS in_ms FROM vms WHERE expire_hard_at IS NOT NULL",
	0 };

static void
look_after(struct api *api, int64_t ms)
{
	timer_start(&api->expiry_timer, ms < LATER_MAX_MS ? ms : LATER_MAX_MS);
}

static void
on_next(const struct db_result *res, const struct err *err, void *arg)
{
	struct api *api = arg;
	int64_t ms;

	if (res == NULL) {
		look_after(api, LOOK_AGAIN_MS);
		return;
	}
	if (db_str(res, 0, "in_ms") == NULL)
		return;
	ms = db_i64(res, 0, "in_ms");
	look_after(api, ms > 0 ? ms + 1 : LOOK_SOON_MS);
}

static void
on_due(const struct db_result *res, const struct err *err, void *arg)
{
	struct api *api = arg;
	struct db_params p = { .n = 0 };

	if (res == NULL) {
		log_err(LOG_LEVEL_WARN, err, "restart the VMs that expired");
		look_after(api, LOOK_AGAIN_MS);
		return;
	}
	db_exec(api->db, &next_stmt, &p, 0, on_next, api);
}

static void
on_timer(void *arg)
{
	struct api *api = arg;
	struct db_params p = { .n = 0 };

	if (db_is_up(api->db) && !err_is_set(&api->schema_err))
		db_exec(api->db, &due_stmt, &p, 0, on_due, api);
}

void
expiry_init(struct api *api)
{
	timer_init(&api->expiry_timer, api->loop, on_timer, api);
}

void
expiry_wake(struct api *api)
{
	look_after(api, LOOK_SOON_MS);
}

/* POST /v1/vms/{id}/expire */

struct times {
	int64_t soft_ms, hard_ms;
	bool never;
};

static const struct field fields[] = {
	FIELD(struct times, soft_ms, I64, .min = 0, .max = LATER_MAX_MS,
	    .doc = "From then on its user is told."),
	FIELD(struct times, hard_ms, I64, .min = 0, .max = LATER_MAX_MS,
	    .doc = "Then it is restarted."),
	FIELD(struct times, never, BOOL, .doc = "Takes both back."),
	FIELD_END,
};
static const char *const members[] = { "soft_ms", "hard_ms", "never", NULL };

/* The body's; what is answered is the VM. */
const struct resource resource_expiries = { .name = "expiries",
	.word = "vm",
	.noun = "VM",
	.fields = fields,
	.size = sizeof(struct times) };

/* vm, soft, hard, by whom */
static const struct db_stmt set_stmt = { "expiry_set",
	"WITH u AS (UPDATE vms v SET "
	"expire_soft_at = now() + $2::bigint * interval '1 ms', "
	"expire_hard_at = now() + $3::bigint * interval '1 ms', "
	"expire_rollout_id = NULL FROM vm_runtimes r WHERE v.id = $1::int AND "
	"r.vm_id = v.id "
	"AND r.state IN ('starting', 'running') RETURNING v.*), "
	"e AS (INSERT INTO events (name, vm_id, user_id, host_id, text) "
	"SELECT 'vm.expiry-set', id, user_id, host_id, CASE "
	"WHEN coalesce(expire_soft_at, expire_hard_at) IS NULL "
	"THEN 'it does not expire any more (' || $4::text || ')' "
	"ELSE 'it expires' || coalesce(', its user is told from ' || "
	"to_char(expire_soft_at, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', '') || "
	"coalesce(', it is restarted at ' || to_char(expire_hard_at, "
	"'YYYY-MM-DD HH24:MI:SS') || ' UTC', '') || ' (' || $4::text || ')' "
	"END FROM u) SELECT id FROM u",
	4 };

static void
on_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_vms, req->id, 200);
}

static void
on_set(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld does not run, so nothing of it can expire",
		    (long long)req->id);
	else
		change_commit(
		    req, object_text(req, &resource_vms, req->id), on_commit);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	change_exec(req, &set_stmt, req->data, on_set);
}

void
vm_expire(struct request *req)
{
	struct times times = { .never = false };
	struct db_params *p = arena_new0(req->arena, struct db_params);
	uint64_t seen;

	if (p == NULL || !resource_decode(req, members, true, &times, &seen))
		return;
	if (times.never == ((seen & 3) != 0)) {
		respond_fail(req, ERR_PARAMETER,
		    "an expiry has soft_ms or hard_ms, or is never");
		return;
	}
	db_param_i64(p, req->id);
	if ((seen & 1) != 0)
		db_param_i64(p, times.soft_ms);
	else
		db_param_null(p);
	if ((seen & 2) != 0)
		db_param_i64(p, times.hard_ms);
	else
		db_param_null(p);
	db_param_str(
	    p, arena_printf(req->arena, "administrator %s", req->actor));
	req->data = p;
	change_begin(req, on_begun);
}
