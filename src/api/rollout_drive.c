/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Moves roll-outs on: reads the figures of all that are watching, lets
 * model/rollout.h decide, and writes what it decides. Woken by NOTIFY (a
 * roll-out changed, or something happened to a run of its new version) and
 * by the end of a wave's time. All that it knows is in rows, and each change
 * is a compare-and-set, so that it may end at any point and another daemon
 * of the farm may be doing the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/images.h"
#include "api/rollout.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "model/rollout.h"

/* A farm that starts its desktops has many events a second. */
#define LOOK_EVERY_MS 300
#define LOOK_AGAIN_MS 5000 /* after the database refused something */

#define WHO_GETS                                                  \
	"FROM rollouts q JOIN images n ON n.id = q.new_image_id " \
	"JOIN images p ON p.id = q.old_image_id "                 \
	"JOIN vms v ON v.osf_id = q.osf_id AND v.tag = q.tag "

const struct db_stmt rollout_widen_stmt = { "rollout_widen",
	"WITH r AS (SELECT r.id, r.below AS old_below, CASE "
	"WHEN $3::int = 100 THEN 2147483648 WHEN $4::bigint = 0 THEN 0 "
	"ELSE (SELECT s.place + 1 FROM (SELECT rollout_place(r.id, v.id) "
	"AS place FROM vms v WHERE v.osf_id = r.osf_id AND v.tag = r.tag) s "
	"ORDER BY s.place OFFSET $4::bigint - 1 LIMIT 1) END AS below "
	"FROM rollouts r WHERE r.id = $1::int AND r.wave = $2::int "
	"AND r.state = 'watching' FOR UPDATE), "
	"joined AS (SELECT v.id, v.user_id, n.version, p.version AS "
	"old " WHO_GETS "JOIN r ON r.id = q.id WHERE NOT rollout_has(q, v) AND "
	"(rollout_place(q.id, v.id) < r.below OR v.vm_group = q.vm_group "
	"OR v.host_id = q.host_id)), "
	"u AS (UPDATE rollouts q SET percent = $3::int, "
	"below = greatest(r.below, r.old_below), wave = q.wave + 1, "
	"wave_at = now(), wave_vms = (SELECT count(*) FROM joined), "
	"wave_event = (SELECT coalesce(max(id), 0) FROM events), "
	"since_event = CASE WHEN q.wave > 0 THEN q.since_event "
	"ELSE (SELECT coalesce(max(id), 0) FROM events) END, step = NULL "
	"FROM r WHERE q.id = r.id RETURNING q.*), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT $5::text, u.new_image_id, 'roll-out ' || u.id || ' to tag ' "
	"|| u.tag || ', ' || $6::text || ': wave ' || u.wave || ', ' || "
	"CASE WHEN u.percent > 0 THEN u.percent || ' %' "
	"WHEN u.vm_group IS NOT NULL THEN 'group ' || u.vm_group "
	"ELSE 'one host' END || ': ' || u.wave_vms || ' more desktops get "
	"version ' || n.version || ' instead of ' || p.version || "
	"' at their next start' FROM u JOIN images n ON n.id = u.new_image_id "
	"JOIN images p ON p.id = u.old_image_id), "
	"v AS (INSERT INTO events (name, vm_id, user_id, text) "
	"SELECT $5::text, j.id, j.user_id, 'it gets version ' || j.version || "
	"' instead of ' || j.old || ' at its next start (roll-out ' || u.id "
	"|| ', ' || $6::text || ')' FROM u, joined j), " ROLLOUT_EXPIRES
	"SELECT id, wave_vms FROM u",
	6 };

const struct db_stmt rollout_halt_stmt = { "rollout_halt",
	"WITH u AS (UPDATE rollouts SET state = 'halted', state_at = now(), "
	"step = NULL, reason = $3::text WHERE id = $1::int "
	"AND ($2::int IS NULL OR wave = $2::int) AND state = 'watching' "
	"RETURNING *), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.rollout-halted', u.new_image_id, 'roll-out ' || u.id "
	"|| ' to tag ' || u.tag || ' halted in wave ' || u.wave || ': ' || "
	"$3::text || '; nobody gets version ' || n.version || ' until it is "
	"resumed' FROM u JOIN images n ON n.id = u.new_image_id), "
	"v AS (INSERT INTO events (name, vm_id, user_id, text) "
	"SELECT 'image.rollout-halted', v.id, v.user_id, 'it gets version ' "
	"|| p.version || ' again at its next start: roll-out ' || q.id || "
	"' halted, because ' || $3::text " WHO_GETS
	"JOIN u ON u.id = q.id WHERE rollout_has(q, v)) "
	"SELECT id FROM u",
	3 };

/* The trigger of the tag ends the roll-out and tells. The roll-out is locked,
 * so that one that is being halted or taken back doesn't move its tag; after
 * the tag, as by whoever moves a tag. */
static const struct db_stmt finish_stmt = { "rollout_finish",
	"WITH r AS (SELECT q.* FROM rollouts q JOIN image_tags t "
	"ON t.osf_id = q.osf_id AND t.tag = q.tag WHERE q.id = $1 "
	"AND q.wave = $2 AND q.state = 'watching' FOR UPDATE OF t, q) "
	"UPDATE image_tags g SET image_id = r.new_image_id, moved_at = now() "
	"FROM r WHERE g.osf_id = r.osf_id AND g.tag = r.tag "
	"AND g.image_id = r.old_image_id",
	2 };

static const struct db_stmt step_stmt = { "rollout_step",
	"UPDATE rollouts SET step = nullif($3, '') WHERE id = $1 AND wave = $2 "
	"AND state = 'watching' AND step IS DISTINCT FROM nullif($3, '')",
	3 };

#define AWAITS IMAGE_AWAITS("r.new_image_id")

static const struct db_stmt look_stmt = { "rollout_watching",
	"SELECT r.id, r.wave, r.percent, r.wave_vms, r.watch_ms, "
	"(extract(epoch FROM clock_timestamp() - r.wave_at) * 1000)::bigint "
	"AS wave_age_ms, " AWAITS " AS awaits, "
	"n.version AS new_version, p.version AS old_version, "
	"(SELECT count(*) FROM vms v WHERE v.osf_id = r.osf_id "
	"AND v.tag = r.tag) AS vms, "
	"(SELECT count(*) FROM rollout_members m WHERE m.rollout_id = r.id) "
	"AS members, "
	"(SELECT count(DISTINCT e.vm_id) FROM events e "
	"WHERE e.image_id = r.new_image_id AND e.id > r.wave_event "
	"AND e.name = 'vm.running') AS wave_starts, "
	"f.starts AS new_starts, f.start_failures AS new_start_failures, "
	"f.crashes AS new_crashes, f.sessions AS new_sessions, "
	"f.session_failures AS new_session_failures, "
	"f.start_ms AS new_start_ms, f.desktop_ms AS new_desktop_ms, "
	"g.starts AS old_starts, g.start_failures AS old_start_failures, "
	"g.crashes AS old_crashes, g.sessions AS old_sessions, "
	"g.session_failures AS old_session_failures, "
	"g.start_ms AS old_start_ms, g.desktop_ms AS old_desktop_ms "
	"FROM rollouts r JOIN images n ON n.id = r.new_image_id "
	"JOIN images p ON p.id = r.old_image_id "
	"CROSS JOIN LATERAL image_figures(r.new_image_id, r.since_event) f "
	"CROSS JOIN LATERAL image_figures(r.old_image_id, 0) g "
	"WHERE r.state = 'watching' ORDER BY r.id",
	0 };

#define SAMPLES_MAX 1000 /* what image_figures() gives at most */
#define ARENA_BYTES ((size_t)64 * 1024 * 1024)

static void look(struct api *api);

static void
look_after(struct api *api, int64_t ms)
{
	int64_t due = time_now_ms() + ms;

	if (timer_active(&api->rollout_timer) && api->rollout_due_ms <= due)
		return;
	api->rollout_due_ms = due;
	timer_start(&api->rollout_timer, ms);
}

static void
on_timer(void *arg)
{
	look(arg);
}

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct api *api = arg;

	/* What was written notifies, and that wakes us. */
	if (res != NULL || !err_is_set(err))
		return;
	log_err(LOG_LEVEL_WARN, err, "move a roll-out on");
	look_after(api, LOOK_AGAIN_MS);
}

/* "{1200,1300}", the numbers of an array. */
static const int64_t *
take_samples(struct arena *arena, const char *text, size_t *ret_n)
{
	int64_t *v = arena_alloc(arena, SAMPLES_MAX * sizeof(*v));
	char *end;

	*ret_n = 0;
	while (v != NULL && text != NULL && *ret_n < SAMPLES_MAX) {
		text += strspn(text, "{,");
		v[*ret_n] = strtoll(text, &end, 10);
		if (end == text)
			break;
		(*ret_n)++;
		text = end;
	}
	return v;
}

static int64_t
figure(
    const struct db_result *res, int row, const char *whose, const char *what)
{
	char column[64];

	snprintf(column, sizeof(column), "%s_%s", whose, what);
	return db_i64(res, row, column);
}

static void
take_figures(const struct db_result *res, int row, const char *whose,
    struct arena *arena, struct rollout_figures *f)
{
	char column[64];

	f->starts = figure(res, row, whose, "starts");
	f->start_failures = figure(res, row, whose, "start_failures");
	f->crashes = figure(res, row, whose, "crashes");
	f->sessions = figure(res, row, whose, "sessions");
	f->session_failures = figure(res, row, whose, "session_failures");
	snprintf(column, sizeof(column), "%s_start_ms", whose);
	f->start_ms =
	    take_samples(arena, db_str(res, row, column), &f->n_start_ms);
	snprintf(column, sizeof(column), "%s_desktop_ms", whose);
	f->desktop_ms =
	    take_samples(arena, db_str(res, row, column), &f->n_desktop_ms);
}

static void
write_plan(struct api *api, const struct db_result *res, int row,
    const struct rollout_in *in, const struct rollout_plan *plan)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, db_i64(res, row, "id"));
	db_param_i64(&p, db_i64(res, row, "wave"));
	switch (plan->verdict) {
	case ROLLOUT_WAIT:
		db_param_str(&p, plan->text);
		db_exec(api->db, &step_stmt, &p, 0, on_written, api);
		if (plan->wait_ms >= 0)
			look_after(api, plan->wait_ms + 1);
		break;
	case ROLLOUT_HALT:
		log_warn("roll-out %lld halts: %s",
		    (long long)db_i64(res, row, "id"), plan->text);
		db_param_str(&p, plan->text);
		db_exec(api->db, &rollout_halt_stmt, &p, 0, on_written, api);
		break;
	case ROLLOUT_WIDEN:
		db_param_i64(&p, plan->percent);
		db_param_i64(&p, rollout_wave_size(in->vms, plan->percent));
		db_param_str(&p, "image.rollout-widened");
		db_param_str(&p, "because nothing is worse so far");
		db_exec(api->db, &rollout_widen_stmt, &p, 0, on_written, api);
		break;
	case ROLLOUT_FINISH:
		db_exec(api->db, &finish_stmt, &p, 0, on_written, api);
		break;
	}
}

static void
decide(struct api *api, const struct db_result *res, int row)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(ARENA_BYTES);
	struct rollout_in in = {
		.percent = (int)db_i64(res, row, "percent"),
		.vms = db_i64(res, row, "vms"),
		.members = db_i64(res, row, "members"),
		.wave_vms = db_i64(res, row, "wave_vms"),
		.wave_starts = db_i64(res, row, "wave_starts"),
		.wave_age_ms = db_i64(res, row, "wave_age_ms"),
		.watch_ms = db_i64(res, row, "watch_ms"),
		.awaits = db_str(res, row, "awaits"),
		.old_version = db_str(res, row, "old_version"),
		.new_version = db_str(res, row, "new_version"),
	};
	struct rollout_plan plan;

	take_figures(res, row, "new", arena, &in.new);
	take_figures(res, row, "old", arena, &in.old);
	rollout_decide(&in, &plan);
	write_plan(api, res, row, &in, &plan);
}

static void
on_look(const struct db_result *res, const struct err *err, void *arg)
{
	struct api *api = arg;
	int i;

	api->rollout_asking = false;
	if (res == NULL) {
		log_err(LOG_LEVEL_WARN, err, "look at the roll-outs");
		look_after(api, LOOK_AGAIN_MS);
		return;
	}
	for (i = 0; i < db_rows(res); i++)
		decide(api, res, i);
	/* What came meanwhile may be newer than what was read. */
	if (api->rollout_again)
		rollouts_wake(api);
}

static void
look(struct api *api)
{
	struct db_params p = { .n = 0 };

	if (!db_is_up(api->db) || err_is_set(&api->schema_err))
		return; /* on_up wakes us */
	api->rollout_again = false;
	api->rollout_asking = true;
	db_exec(api->db, &look_stmt, &p, 0, on_look, api);
}

void
rollouts_init(struct api *api)
{
	timer_init(&api->rollout_timer, api->loop, on_timer, api);
}

void
rollouts_wake(struct api *api)
{
	if (api->rollout_asking)
		api->rollout_again = true;
	else
		look_after(api, LOOK_EVERY_MS);
}
