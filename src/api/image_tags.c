/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tags: names that move over the versions of an OSF. A tag is never named
 * like a version, so that what a VM follows is one of both. `head` is the
 * newest published image, and moves by itself. The tags that an import was
 * given wait in the property import.tags until the image is published, so
 * that they are moved whoever is there by then. No tag moves to an image before
 * all nodes have it that run and get images (sql: image_awaits).
 */
#include "api/api.h"
#include "api/images.h"
#include "base/log.h"
#include "base/str.h"
#include "model/rows.h"

/* The tags of what was published since, and of what failed; and `head`. */
static const struct db_stmt settle = { "image_settle",
	"WITH due AS (SELECT i.id, i.osf_id, i.state, i.version, p.value "
	"FROM images i JOIN properties p ON p.kind = 'image' "
	"AND p.object_id = i.id AND p.key = 'import.tags' "
	"WHERE i.state = 'failed' OR (i.state = 'published' "
	"AND NOT EXISTS (SELECT FROM image_awaits a "
	"WHERE a.image_id = i.id))), "
	"moved AS (INSERT INTO image_tags (osf_id, tag, image_id) "
	"SELECT DISTINCT ON (osf_id, tag) osf_id, tag, id FROM due, "
	"unnest(string_to_array(due.value, ' ')) AS tag "
	"WHERE due.state = 'published' AND tag <> 'head' AND NOT EXISTS "
	"(SELECT FROM images v WHERE v.osf_id = due.osf_id "
	"AND v.version = tag) ORDER BY osf_id, tag, id DESC "
	"ON CONFLICT (osf_id, tag) DO UPDATE "
	"SET image_id = excluded.image_id, moved_at = now() "
	"WHERE NOT image_tags.fixed RETURNING image_id, tag), "
	"told AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.tagged', image_id, 'tag ' || tag || ' moved to it' "
	"FROM moved), "
	"head AS (INSERT INTO image_tags (osf_id, tag, image_id) "
	"SELECT DISTINCT ON (osf_id) osf_id, 'head', id FROM images "
	"WHERE state = 'published' AND NOT EXISTS (SELECT FROM image_awaits a "
	"WHERE a.image_id = images.id) ORDER BY osf_id, id DESC "
	"ON CONFLICT (osf_id, tag) DO UPDATE "
	"SET image_id = excluded.image_id, moved_at = now() "
	"WHERE image_tags.image_id <> excluded.image_id), "
	"gone AS (DELETE FROM properties p USING due WHERE p.kind = 'image' "
	"AND p.object_id = due.id AND p.key = 'import.tags') "
	"SELECT count(*) AS n FROM due",
	0 };

/* What is more than its OSF keeps: see sql/. */
static const struct db_stmt retain = { "image_retain",
	"SELECT count(*) FROM retain_images()", 0 };

static void
on_settled(const struct db_result *res, const struct err *err, void *arg)
{
	if (res == NULL && err != NULL)
		log_err(LOG_LEVEL_WARN, err, "%s", (const char *)arg);
}

void
images_settle(struct api *api)
{
	static const char settling[] = "move the tags of new images";
	static const char retaining[] = "remove images that no OSF keeps";
	struct db_params p = { .n = 0 };

	db_exec(
	    api->db, &settle, &p, 0, on_settled, (void *)(uintptr_t)settling);
	db_exec(
	    api->db, &retain, &p, 0, on_settled, (void *)(uintptr_t)retaining);
}

void
images_settle_in(struct request *req, step_cb cb)
{
	struct db_params p = { .n = 0 };

	change_exec(req, &settle, &p, cb);
}

static const struct db_stmt tag_stmt = { "image_tag",
	"WITH i AS (SELECT id, osf_id, state, blocked, EXISTS (SELECT "
	"FROM images v WHERE v.osf_id = images.osf_id AND v.version = $2) AS "
	"is_version "
	"FROM images WHERE id = $1 FOR SHARE), "
	"m AS (INSERT INTO image_tags (osf_id, tag, image_id) "
	"SELECT osf_id, $2, id FROM i WHERE state = 'published' "
	"AND NOT blocked AND NOT is_version "
	"AND NOT EXISTS (SELECT FROM image_awaits WHERE image_id = $1) "
	"ON CONFLICT (osf_id, tag) DO UPDATE "
	"SET image_id = excluded.image_id, moved_at = now() "
	"WHERE NOT image_tags.fixed RETURNING image_id), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.tagged', image_id, 'tag ' || $2 || ' moved to it by ' "
	"|| $3 FROM m) "
	"SELECT i.state, i.blocked, i.is_version, EXISTS (SELECT FROM m) AS "
	"done, " IMAGE_AWAITS("$1") " AS awaits FROM i",
	3 };
static const struct db_stmt untag_stmt = { "image_untag",
	"WITH u AS (SELECT 'VM ' || v.id || ' (' || u.login || '/' || v.name "
	"|| ')' AS who FROM images i JOIN vms v ON v.osf_id = i.osf_id "
	"AND v.tag = $2 JOIN users u ON u.id = v.user_id WHERE i.id = $1), "
	"d AS (DELETE FROM image_tags WHERE image_id = $1 AND tag = $2 "
	"AND NOT fixed AND tag <> 'head' AND NOT EXISTS (SELECT FROM u) "
	"RETURNING image_id) "
	"SELECT EXISTS (SELECT FROM d) AS done, (SELECT count(*) FROM u) "
	"AS followers, (SELECT string_agg(who, ', ') FROM "
	"(SELECT who FROM u LIMIT 5) x) AS who, EXISTS (SELECT FROM "
	"image_tags WHERE image_id = $1 AND tag = $2) AS has",
	2 };

static void
on_tag_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_images, req->id, 200);
}

static void
commit_tag(struct request *req)
{
	change_commit(
	    req, object_text(req, &resource_images, req->id), on_tag_commit);
}

static void
on_tagged(struct request *req, const struct db_result *res)
{
	const char *state;

	if (db_rows(res) == 0) {
		respond_fail(req, ERR_NOT_FOUND, "there is no image %lld",
		    (long long)req->id);
		return;
	}
	state = db_str(res, 0, "state");
	if (db_bool(res, 0, "done"))
		commit_tag(req);
	else if (db_str(res, 0, "awaits") != NULL)
		respond_fail(req, ERR_CONFLICT,
		    "the tag can't be moved to image %lld yet: not all nodes "
		    "have it: %s; wait for them (qvd image distribution), or "
		    "block a node that is to be left out",
		    (long long)req->id, db_str(res, 0, "awaits"));
	else if (db_bool(res, 0, "is_version"))
		respond_fail(req, ERR_CONFLICT,
		    "'%s' is a version of the OSF, and a tag is never named "
		    "like one",
		    req->word);
	else if (db_bool(res, 0, "blocked"))
		respond_fail(req, ERR_CONFLICT,
		    "the tag can't be moved to image %lld: it is blocked, and "
		    "no VM would start; unblock it first",
		    (long long)req->id);
	else
		respond_fail(req, ERR_CONFLICT,
		    "the tag can't be moved to image %lld: it is %s%s",
		    (long long)req->id, state,
		    str_eq(state, "published") ? ", but the tag is fixed"
		    : str_eq(state, "ready") || str_eq(state, "retired")
			? " (see 'qvd image publish')"
			: "");
}

static void
on_untagged(struct request *req, const struct db_result *res)
{
	if (db_bool(res, 0, "done"))
		commit_tag(req);
	else if (!db_bool(res, 0, "has") || str_eq(req->word, "head"))
		respond_fail(req, ERR_NOT_FOUND,
		    "image %lld has no tag '%s' that can be removed",
		    (long long)req->id, req->word);
	else if (db_i64(res, 0, "followers") > 0)
		respond_fail(req, ERR_CONFLICT,
		    "%lld VMs follow the tag '%s' and would find no image: "
		    "%s%s; move it to another image instead, or the VMs to "
		    "another tag",
		    (long long)db_i64(res, 0, "followers"), req->word,
		    db_str(res, 0, "who"),
		    db_i64(res, 0, "followers") > 5 ? " ..." : "");
	else
		respond_fail(
		    req, ERR_CONFLICT, "the tag '%s' is fixed", req->word);
}

static void
on_tag_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, req->word);
	db_param_str(&p, req->actor);
	change_exec(req, &tag_stmt, &p, on_tagged);
}

static void
on_untag_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, req->word);
	change_exec(req, &untag_stmt, &p, on_untagged);
}

void
image_tag(struct request *req)
{
	if (!str_is_name(req->word, TAG_BYTES_MAX))
		respond_fail(req, ERR_PARAMETER,
		    "a tag is at most %d of A-Z a-z 0-9 _ . -", TAG_BYTES_MAX);
	else if (str_eq(req->word, "head"))
		respond_fail(req, ERR_CONFLICT,
		    "the tag 'head' moves by itself to the newest image");
	else
		change_begin(req, on_tag_begun);
}

void
image_untag(struct request *req)
{
	change_begin(req, on_untag_begun);
}
