/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Putting the old version of a tag back, at once: a roll-out under way is
 * taken back, else the tag moves to what it named before (image_tag_back() in
 * sql/: each time to an older version, never to one that was taken back). One
 * transaction, in which one row decides over every start that comes after it.
 */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/str.h"
#include "model/rows.h"

#define TAG_DEFAULT "default"

struct rollback {
	const char *tag;
	int64_t image_id; /* that the tag's VMs get again */
};

static const struct field fields[] = {
	FIELD(struct rollback, tag, STR, .flags = FIELD_NAME,
	    .max = TAG_BYTES_MAX, .doc = "Whose old version is put back."),
	FIELD_END,
};
static const char *const members[] = { "tag", NULL };

/* The body's; what is answered is the image. */
const struct resource resource_rollbacks = { .name = "rollbacks",
	.word = "osf",
	.noun = "OSF",
	.fields = fields,
	.size = sizeof(struct rollback) };

/* $1 OSF, $2 tag, $3 by whom */
static const struct db_stmt rollout_stmt = { "rollback_rollout",
	"WITH u AS (UPDATE rollouts SET state = 'rolled-back', "
	"state_at = now(), step = NULL, reason = coalesce(reason || '; ', '') "
	"|| 'taken back by ' || $3::text WHERE osf_id = $1::int "
	"AND tag = $2::text AND state IN ('watching', 'halted') RETURNING *), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.rolled-back', u.new_image_id, 'roll-out ' || u.id || "
	"' to tag ' || u.tag || ' is taken back by ' || $3::text || ': "
	"all desktops get version ' || p.version || ' at their next start' "
	"FROM u JOIN images p ON p.id = u.old_image_id), "
	"v AS (INSERT INTO events (name, vm_id, user_id, text) "
	"SELECT 'image.rolled-back', v.id, v.user_id, 'it gets version ' || "
	"p.version || ' at its next start: roll-out ' || q.id || "
	"' is taken back by ' || $3::text "
	"FROM u JOIN rollouts q ON q.id = u.id "
	"JOIN images p ON p.id = q.old_image_id "
	"JOIN vms v ON v.osf_id = q.osf_id AND v.tag = q.tag "
	"WHERE rollout_has(q, v)) "
	"SELECT old_image_id FROM u",
	3 };
static const struct db_stmt look_stmt = { "rollback_look",
	"SELECT g.fixed, o.name AS osf, i.version, p.image_id AS previous, "
	"(SELECT string_agg('version ' || x.version || ' is ' || CASE WHEN "
	"x.blocked THEN 'blocked' ELSE x.state END, ', ' ORDER BY h.id DESC) "
	"FROM image_tag_past h JOIN images x ON x.id = h.image_id "
	"WHERE h.osf_id = g.osf_id AND h.tag = g.tag) AS past "
	"FROM image_tags g JOIN osfs o ON o.id = g.osf_id "
	"JOIN images i ON i.id = g.image_id LEFT JOIN image_tag_previous p "
	"ON p.osf_id = g.osf_id AND p.tag = g.tag "
	"WHERE g.osf_id = $1 AND g.tag = $2 FOR UPDATE OF g",
	2 };
static const struct db_stmt tag_stmt = { "rollback_tag",
	"WITH o AS (SELECT image_id FROM image_tags WHERE osf_id = $1::int "
	"AND tag = $2::text), "
	"g AS MATERIALIZED (SELECT $1::int AS osf_id, $2::text AS tag, "
	"image_tag_back($1::int, $2::text) AS image_id), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.rolled-back', o.image_id, 'tag ' || g.tag || ' is put "
	"back to version ' || p.version || ' by ' || $3::text "
	"FROM o, g JOIN images p ON p.id = g.image_id), "
	"v AS (INSERT INTO events (name, vm_id, user_id, text) "
	"SELECT 'image.rolled-back', v.id, v.user_id, 'it gets version ' || "
	"p.version || ' at its next start: tag ' || g.tag || ' is put back by "
	"' || $3::text FROM g JOIN images p ON p.id = g.image_id "
	"JOIN vms v ON v.osf_id = g.osf_id AND v.tag = g.tag) "
	"SELECT image_id FROM g WHERE image_id IS NOT NULL",
	3 };

static void
on_commit(struct request *req, const struct db_result *res)
{
	struct rollback *b = req->data;

	respond_object(req, &resource_images, b->image_id, 200);
}

static void
commit(struct request *req, int64_t image_id)
{
	struct rollback *b = req->data;

	b->image_id = image_id;
	change_commit(
	    req, object_text(req, &resource_osfs, req->id), on_commit);
}

static void
tag_params(struct request *req, struct db_params *p, bool with_actor)
{
	struct rollback *b = req->data;

	db_param_i64(p, req->id);
	db_param_str(p, b->tag);
	if (with_actor)
		db_param_str(p,
		    arena_printf(req->arena, "administrator %s", req->actor));
}

static void
on_moved(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_CONFLICT,
		    "somebody removed the tag or the version meanwhile; look "
		    "again");
	else
		commit(req, db_i64(res, 0, "image_id"));
}

static int
check_previous(
    const struct rollback *b, const struct db_result *res, struct err *err)
{
	const char *past;

	if (db_rows(res) == 0)
		return err_set(
		    err, ERR_NOT_FOUND, "the OSF has no tag '%s'", b->tag);
	if (db_bool(res, 0, "fixed"))
		return err_set(
		    err, ERR_CONFLICT, "the tag '%s' is fixed", b->tag);
	if (db_str(res, 0, "previous") != NULL)
		return 0;
	past = db_str(res, 0, "past");
	if (past == NULL)
		return err_set(err, ERR_CONFLICT,
		    "nothing good is left to go back to: the tag '%s' of OSF "
		    "'%s' named no version before %s that is still there and "
		    "was not taken back; 'qvd image tag' moves it to another",
		    b->tag, db_str(res, 0, "osf"), db_str(res, 0, "version"));
	return err_set(err, ERR_CONFLICT,
	    "nothing good is left to go back to: of what the tag '%s' of OSF "
	    "'%s' named before %s, %.200s; 'qvd image unblock' or 'publish' "
	    "brings one back, 'qvd image tag' moves the tag to another",
	    b->tag, db_str(res, 0, "osf"), db_str(res, 0, "version"), past);
}

static void
on_looked(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };
	struct err err = { 0 };

	if (check_previous(req->data, res, &err) < 0) {
		respond_err(req, &err);
		return;
	}
	tag_params(req, &p, true);
	change_exec(req, &tag_stmt, &p, on_moved);
}

static void
on_rollout(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	if (db_rows(res) > 0) {
		commit(req, db_i64(res, 0, "old_image_id"));
		return;
	}
	tag_params(req, &p, false);
	change_exec(req, &look_stmt, &p, on_looked);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	tag_params(req, &p, true);
	change_exec(req, &rollout_stmt, &p, on_rollout);
}

void
image_rollback(struct request *req)
{
	struct rollback *b = arena_new0(req->arena, struct rollback);
	uint64_t seen;

	if (b == NULL || !resource_decode(req, members, true, b, &seen))
		return;
	if (b->tag == NULL)
		b->tag = TAG_DEFAULT;
	if (str_eq(b->tag, "head")) {
		respond_fail(req, ERR_CONFLICT,
		    "the tag 'head' moves by itself to the newest image");
		return;
	}
	req->data = b;
	change_begin(req, on_begun);
}
