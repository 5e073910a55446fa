/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests about roll-outs: begin one, hold it up, let it go on, put the old
 * version back. Each is one transaction; rollout_drive.c does the rest.
 */
#include "api/rollout.h"

#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "api/images.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/rollout.h"
#include "model/rows.h"

#define WATCH_DEFAULT_MS (INT64_C(30) * 60 * 1000)
#define WATCH_MAX_MS     (INT64_C(30) * 24 * 3600 * 1000)
#define CANARY_DEFAULT   5

/* What begins one. */
struct rollout_order {
	int64_t image_id;
	const char *tag;
	int32_t canary_percent;
	const char *vm_group;
	int64_t host_id;
	int64_t watch_ms;
	int64_t soft_ms, hard_ms;
};

static const struct field fields[] = {
	FIELD(struct rollout_order, image_id, I64, .min = 1, .max = INT32_MAX,
	    .doc = "The new version."),
	FIELD(struct rollout_order, tag, STR, .flags = FIELD_NAME,
	    .max = TAG_BYTES_MAX, .doc = "That is to name it in the end."),
	FIELD(struct rollout_order, canary_percent, I32, .min = 1, .max = 100,
	    .doc = "Of the VMs that follow the tag, the first wave."),
	FIELD(struct rollout_order, vm_group, STR, .flags = FIELD_NAME,
	    .max = NAME_BYTES_MAX, .doc = "Its VMs are the first wave."),
	FIELD(struct rollout_order, host_id, I64, .min = 1, .max = INT32_MAX,
	    .doc = "The VMs placed there are the first wave."),
	FIELD(struct rollout_order, watch_ms, I64, .min = 0,
	    .max = WATCH_MAX_MS, .doc = "How long each wave is watched."),
	FIELD(struct rollout_order, soft_ms, I64, .min = 0, .max = WATCH_MAX_MS,
	    .doc = "After joining, who runs the old version is told."),
	FIELD(struct rollout_order, hard_ms, I64, .min = 0, .max = WATCH_MAX_MS,
	    .doc = "After joining, what runs the old version is restarted."),
	FIELD_END,
};

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("osf", STR),
	VIEW("osf_id", I64),
	VIEW("tenant", STR),
	VIEW("tag", STR),
	VIEW("old_version", STR),
	VIEW("old_image_id", I64),
	VIEW("new_version", STR),
	VIEW("new_image_id", I64),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("percent", I32),
	VIEW("vm_group", STR),
	VIEW("host", STR),
	VIEW("members", I64),
	VIEW("vms", I64),
	VIEW("running", I64),
	VIEW("wave", I32),
	VIEW("wave_vms", I64),
	VIEW("wave_at", TIME),
	VIEW("watch_until", TIME),
	VIEW("soft_ms", I64),
	VIEW("hard_ms", I64),
	VIEW("step", STR),
	VIEW("reason", STR),
	VIEW("new", JSON),
	VIEW("old", JSON),
	VIEW("started_by", STR),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "osf_id", "tag", "state", NULL };

#define FIGURES(of)                                                    \
	"to_jsonb(" of ") - '{start_ms,desktop_ms}'::text[] || "       \
	"jsonb_build_object('start_ms', (SELECT percentile_disc(0.5) " \
	"WITHIN GROUP (ORDER BY x) FROM unnest(" of ".start_ms) x), "  \
	"'desktop_ms', (SELECT percentile_disc(0.5) "                  \
	"WITHIN GROUP (ORDER BY x) FROM unnest(" of ".desktop_ms) x))"

/* A name without an id is the newest roll-out of that OSF (and tag). */
static const struct db_stmt list = { "rollout_list",
	"SELECT r.*, o.name AS osf, t.name AS tenant, h.name AS host, "
	"o.name || '@' || t.name || ':' || r.tag AS path, "
	"p.version AS old_version, n.version AS new_version, "
	"(SELECT count(*) FROM rollout_members m WHERE m.rollout_id = r.id) "
	"AS members, (SELECT count(*) FROM vms v WHERE v.osf_id = r.osf_id "
	"AND v.tag = r.tag) AS vms, "
	"(SELECT count(*) FROM vm_runtimes x WHERE x.image_id = "
	"r.new_image_id AND x.state = 'running') AS running, "
	"CASE WHEN r.state = 'watching' THEN r.wave_at + r.watch_ms * "
	"interval '1 ms' END AS watch_until, " FIGURES("f") " AS new, " FIGURES(
	    "g") " AS old "
		 "FROM rollouts r JOIN osfs o ON o.id = r.osf_id "
		 "JOIN tenants t ON t.id = o.tenant_id "
		 "JOIN images n ON n.id = r.new_image_id "
		 "JOIN images p ON p.id = r.old_image_id "
		 "LEFT JOIN hosts h ON h.id = r.host_id "
		 "CROSS JOIN LATERAL image_figures(r.new_image_id, "
		 "r.since_event) f "
		 "CROSS JOIN LATERAL image_figures(r.old_image_id, 0) g "
		 "WHERE ($1::int IS NULL OR r.id = $1::int) "
		 "AND ($2::text IS NULL OR t.name = $2::text) "
		 "AND ($3::text IS NULL OR o.name = $3::text) "
		 "AND ($4::text IS NULL OR o.name = $4::text) "
		 "AND ($5::text IS NULL OR r.tag = $5::text) "
		 "AND (coalesce($3::text, $4::text) IS NULL OR r.id = (SELECT "
		 "max(z.id) "
		 "FROM rollouts z WHERE z.osf_id = r.osf_id "
		 "AND ($5::text IS NULL OR z.tag = $5::text))) "
		 "AND ($6::int IS NULL OR r.osf_id = $6::int) "
		 "AND ($7::text IS NULL OR r.tag = $7::text) "
		 "AND ($8::text IS NULL OR r.state = $8::text) ORDER BY r.id",
	8 };

/* By place in `add`. */
#define SEEN_CANARY 4u
#define SEEN_SOFT   64u
#define SEEN_HARD   128u
static const char *const add[] = { "image_id", "tag", "canary_percent",
	"vm_group", "host_id", "watch_ms", "soft_ms", "hard_ms", NULL };

const struct resource resource_rollouts = { "rollouts", "rollout", "roll-out",
	view, &list, filters, fields, sizeof(struct rollout_order), add, NULL,
	NULL, NULL, NULL, NULL, NULL };

static void
commit_rollout(struct request *req, step_cb cb)
{
	change_commit(req, object_text(req, &resource_rollouts, req->id), cb);
}

static void
on_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_rollouts, req->id, 200);
}

static const char *
by_whom(struct request *req)
{
	const char *by =
	    arena_printf(req->arena, "by administrator %s", req->actor);

	return by != NULL ? by : "by an administrator";
}

/* Begin */

#define AWAITS_IMAGE IMAGE_AWAITS("i.id")

/* $1 image, $2 tag, $3 group, $4 host */
static const struct db_stmt begin_look = { "rollout_begin_look",
	"SELECT i.osf_id, i.version, i.state, i.blocked, o.name AS "
	"osf, " AWAITS_IMAGE " AS awaits, "
	"g.image_id AS old_image_id, g.fixed, "
	"(SELECT r.id FROM rollouts r WHERE r.osf_id = i.osf_id AND "
	"r.tag = $2::text AND r.state IN ('watching', 'halted')) AS other, "
	"(SELECT count(*) FROM vms v WHERE v.osf_id = i.osf_id "
	"AND v.tag = $2::text) AS vms, "
	"(SELECT count(*) FROM vms v WHERE v.osf_id = i.osf_id "
	"AND v.tag = $2::text AND (v.vm_group = $3::text "
	"OR v.host_id = $4::int)) AS chosen "
	"FROM images i JOIN osfs o ON o.id = i.osf_id "
	"LEFT JOIN image_tags g ON g.osf_id = i.osf_id AND g.tag = $2::text "
	"WHERE i.id = $1::int",
	4 };
/* The tag may have moved since it was looked at, and the image may have been
 * retired; both are locked, so that neither happens before there is a roll-out
 * that forbids it or ends by it. */
static const struct db_stmt insert = { "rollout_insert",
	"INSERT INTO rollouts (osf_id, tag, old_image_id, new_image_id, "
	"vm_group, host_id, watch_ms, started_by, soft_ms, hard_ms) "
	"SELECT g.osf_id, g.tag, g.image_id, i.id, $3, $4::int, $5, $6, "
	"$7::bigint, $8::bigint "
	"FROM images i JOIN image_tags g ON g.osf_id = i.osf_id "
	"WHERE i.id = $1::int AND g.tag = $2 AND g.image_id <> i.id "
	"AND i.state = 'published' AND NOT i.blocked AND NOT EXISTS "
	"(SELECT FROM image_awaits a WHERE a.image_id = i.id) "
	"FOR UPDATE OF g FOR SHARE OF i RETURNING id",
	8 };

struct beginning {
	struct rollout_order order;
	bool has_soft, has_hard;
	int64_t vms;
	bool by_choice; /* of a group or a host */
};

static void
param_if(struct db_params *p, bool is_there, int64_t value)
{
	if (is_there)
		db_param_i64(p, value);
	else
		db_param_null(p);
}

static void
scope_params(const struct rollout_order *order, struct db_params *p)
{
	db_param_i64(p, order->image_id);
	db_param_str(p, order->tag);
	db_param_str(p, order->vm_group);
	param_if(p, order->host_id != 0, order->host_id);
}

static int
check_image(const struct db_result *res, struct err *err)
{
	if (db_rows(res) == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no such image");
	if (!str_eq(db_str(res, 0, "state"), "published"))
		return err_set(err, ERR_CONFLICT,
		    "version %s is %s; only a published one can be rolled out",
		    db_str(res, 0, "version"), db_str(res, 0, "state"));
	if (db_bool(res, 0, "blocked"))
		return err_set(err, ERR_CONFLICT,
		    "version %s is blocked; unblock it first",
		    db_str(res, 0, "version"));
	if (db_str(res, 0, "awaits") != NULL)
		return err_set(err, ERR_CONFLICT,
		    "version %s can't be rolled out yet: not all nodes have "
		    "it: %.600s; wait for them (qvd image distribution), or "
		    "block a node that is to be left out",
		    db_str(res, 0, "version"), db_str(res, 0, "awaits"));
	return 0;
}

static int
check_tag(const struct rollout_order *order, const struct db_result *res,
    struct err *err)
{
	const char *osf = db_str(res, 0, "osf");

	if (str_eq(order->tag, "head") || db_bool(res, 0, "fixed"))
		return err_set(err, ERR_CONFLICT,
		    "the tag '%s' can't be moved by a roll-out", order->tag);
	if (db_str(res, 0, "old_image_id") == NULL)
		return err_set(err, ERR_NOT_FOUND,
		    "OSF '%s' has no tag '%s'; 'qvd image tag' makes one, and "
		    "nobody follows it yet",
		    osf, order->tag);
	if (db_i64(res, 0, "old_image_id") == order->image_id)
		return err_set(err, ERR_CONFLICT,
		    "the tag '%s' names version %s already", order->tag,
		    db_str(res, 0, "version"));
	if (db_str(res, 0, "other") != NULL)
		return err_set(err, ERR_CONFLICT,
		    "roll-out %s to the tag '%s' is under way; wait for its "
		    "end, or take it back with 'qvd image rollback %s'",
		    db_str(res, 0, "other"), order->tag, osf);
	if (db_i64(res, 0, "vms") == 0)
		return err_set(err, ERR_CONFLICT,
		    "no VM follows the tag '%s' of OSF '%s': move it with "
		    "'qvd image tag'",
		    order->tag, osf);
	return 0;
}

static void
on_begun_wave(struct request *req, const struct db_result *res)
{
	commit_rollout(req, on_commit);
}

static void
on_inserted(struct request *req, const struct db_result *res)
{
	struct beginning *b = req->data;
	struct db_params p = { .n = 0 };
	int percent = b->by_choice ? 0 : b->order.canary_percent;

	if (db_rows(res) == 0) {
		respond_fail(req, ERR_CONFLICT,
		    "somebody moved the tag, or retired or blocked the "
		    "version, or a node came that lacks it, meanwhile; look "
		    "again");
		return;
	}
	req->id = db_i64(res, 0, "id");
	db_param_i64(&p, req->id);
	db_param_i64(&p, 0);
	db_param_i64(&p, percent);
	db_param_i64(&p, rollout_wave_size(b->vms, percent));
	db_param_str(&p, "image.rollout-started");
	db_param_str(&p, arena_printf(req->arena, "started %s", by_whom(req)));
	change_exec(req, &rollout_widen_stmt, &p, on_begun_wave);
}

static void
on_begin_looked(struct request *req, const struct db_result *res)
{
	struct beginning *b = req->data;
	struct db_params p = { .n = 0 };
	struct err err = { 0 };

	if (check_image(res, &err) < 0 || check_tag(&b->order, res, &err) < 0) {
		respond_err(req, &err);
		return;
	}
	if (b->by_choice && db_i64(res, 0, "chosen") == 0) {
		respond_fail(req, ERR_CONFLICT,
		    "no VM that follows the tag '%s' is %s", b->order.tag,
		    b->order.vm_group != NULL ? "in that group"
					      : "placed on that host");
		return;
	}
	b->vms = db_i64(res, 0, "vms");
	scope_params(&b->order, &p);
	db_param_i64(&p, b->order.watch_ms);
	db_param_str(&p, req->actor);
	param_if(&p, b->has_soft, b->order.soft_ms);
	param_if(&p, b->has_hard, b->order.hard_ms);
	change_exec(req, &insert, &p, on_inserted);
}

static void
on_begin(struct request *req, const struct db_result *res)
{
	struct beginning *b = req->data;
	struct db_params p = { .n = 0 };

	scope_params(&b->order, &p);
	change_exec(req, &begin_look, &p, on_begin_looked);
}

void
rollout_add(struct request *req)
{
	struct beginning *b = arena_new0(req->arena, struct beginning);
	uint64_t seen;

	if (b == NULL)
		return;
	b->order.canary_percent = CANARY_DEFAULT;
	b->order.watch_ms = WATCH_DEFAULT_MS;
	if (!resource_decode(req, add, true, &b->order, &seen))
		return;
	b->has_soft = (seen & SEEN_SOFT) != 0;
	b->has_hard = (seen & SEEN_HARD) != 0;
	b->by_choice = b->order.vm_group != NULL || b->order.host_id != 0;
	if (b->order.image_id == 0 || b->order.tag == NULL)
		respond_fail(
		    req, ERR_PARAMETER, "a roll-out needs image_id and tag");
	else if ((b->order.vm_group != NULL) + (b->order.host_id != 0) +
		     ((seen & SEEN_CANARY) != 0) >
		 1)
		respond_fail(req, ERR_PARAMETER,
		    "the first wave is a percentage, a group or a host, not "
		    "several of them");
	else {
		req->data = b;
		change_begin(req, on_begin);
	}
}

/* Hold up and go on */

static const struct db_stmt resume_stmt = { "rollout_resume",
	"WITH u AS (UPDATE rollouts SET state = 'watching', state_at = now(), "
	"reason = NULL, wave_at = now(), "
	"wave_event = (SELECT coalesce(max(id), 0) FROM events), "
	"since_event = (SELECT coalesce(max(id), 0) FROM events) "
	"WHERE id = $1::int AND state = 'halted' RETURNING *), "
	"joined AS (SELECT m.vm_id AS id FROM rollout_members m "
	"WHERE m.rollout_id = $1::int), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.rollout-resumed', new_image_id, 'roll-out ' || id || "
	"' to tag ' || tag || ' goes on, resumed ' || $2::text FROM "
	"u), " ROLLOUT_EXPIRES "SELECT id FROM u",
	2 };

#define AWAITS_NEW IMAGE_AWAITS("r.new_image_id")

static const struct db_stmt widen_look = { "rollout_widen_look",
	"SELECT r.state, r.wave, r.percent, " AWAITS_NEW " AS awaits, "
	"(SELECT count(*) FROM vms v "
	"WHERE v.osf_id = r.osf_id AND v.tag = r.tag) AS vms "
	"FROM rollouts r WHERE r.id = $1 FOR UPDATE OF r",
	1 };

static void
on_changed(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_CONFLICT,
		    "roll-out %lld is not in a state for that; see 'qvd "
		    "rollout show %lld'",
		    (long long)req->id, (long long)req->id);
	else
		commit_rollout(req, on_commit);
}

static void
on_halt(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_null(&p);
	db_param_str(&p, arena_printf(req->arena, "halted %s", by_whom(req)));
	change_exec(req, &rollout_halt_stmt, &p, on_changed);
}

static void
on_resume(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, by_whom(req));
	change_exec(req, &resume_stmt, &p, on_changed);
}

static void
on_widen_looked(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };
	int percent;

	if (db_rows(res) == 0 || db_i64(res, 0, "percent") == 100) {
		respond_fail(req, ERR_CONFLICT,
		    "roll-out %lld has no further wave", (long long)req->id);
		return;
	}
	if (db_str(res, 0, "awaits") != NULL) {
		respond_fail(req, ERR_CONFLICT,
		    "the next wave of roll-out %lld waits until all nodes have "
		    "the new version: %.600s",
		    (long long)req->id, db_str(res, 0, "awaits"));
		return;
	}
	percent = rollout_next_percent((int)db_i64(res, 0, "percent"));
	db_param_i64(&p, req->id);
	db_param_i64(&p, db_i64(res, 0, "wave"));
	db_param_i64(&p, percent);
	db_param_i64(&p, rollout_wave_size(db_i64(res, 0, "vms"), percent));
	db_param_str(&p, "image.rollout-widened");
	db_param_str(&p, arena_printf(req->arena, "widened %s", by_whom(req)));
	change_exec(req, &rollout_widen_stmt, &p, on_changed);
}

static void
on_widen(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &widen_look, &p, on_widen_looked);
}

void
rollout_halt(struct request *req)
{
	change_begin(req, on_halt);
}

void
rollout_resume(struct request *req)
{
	change_begin(req, on_resume);
}

void
rollout_widen(struct request *req)
{
	change_begin(req, on_widen);
}
