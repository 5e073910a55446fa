/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Images and tags. An import is done by the node's HKD; the tags that it is
 * to get wait in the property import.tags until it is published, so that
 * they are moved whoever is there by then.
 */
#include <string.h>

#include "api/api.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/rows.h"

#define IMPORT_WAIT_MS (INT64_C(60) * 60 * 1000)
#define TAGS_MAX       16

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("osf", STR),
	VIEW("osf_id", I64),
	VIEW("tenant", STR),
	VIEW("version", STR),
	VIEW("tags", JSON),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("progress", I32),
	VIEW("blocked", BOOL),
	VIEW("size_bytes", I64),
	VIEW("vms", I64),
	VIEW("message", STR),
	VIEW("author", STR),
	VIEW("parent_id", I64),
	VIEW("source", STR),
	VIEW("checksum", STR),
	VIEW("error_id", STR),
	VIEW("error", STR),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "osf_id", NULL };
static const struct db_stmt list = { "image_list",
	"SELECT i.*, o.name AS osf, t.name AS tenant, "
	"o.name || '@' || t.name || '/' || i.version AS path, "
	"coalesce((SELECT jsonb_agg(g.tag ORDER BY g.tag) FROM image_tags g "
	"WHERE g.image_id = i.id), '[]') AS tags, "
	"(SELECT count(*) FROM vm_runtimes r WHERE r.image_id = i.id "
	"AND r.state <> 'stopped') AS vms "
	"FROM images i JOIN osfs o ON o.id = i.osf_id "
	"JOIN tenants t ON t.id = o.tenant_id "
	"WHERE ($1::int IS NULL OR i.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) "
	"AND ($3::text IS NULL OR o.name = $3::text) "
	"AND ($4::text IS NULL OR i.version = $4::text) "
	"AND ($5::text IS NULL OR EXISTS (SELECT FROM image_tags g "
	"WHERE g.image_id = i.id AND g.tag = $5::text)) "
	"AND ($6::int IS NULL OR i.osf_id = $6::int) "
	"ORDER BY t.name, o.name, i.id",
	6 };

static const char *const add[] = { "osf_id", "version", "source", "message",
	NULL };
static const char *const set[] = { "message", "blocked", NULL };
static const struct db_stmt update = { "image_update",
	"UPDATE images SET message = nullif(coalesce($2, message), ''), "
	"blocked = coalesce($3::bool, blocked) WHERE id = $1 RETURNING id",
	3 };
static const struct db_stmt in_use = { "image_in_use",
	"SELECT 'VM ' || v.id || ' (' || u.login || '/' || v.name || ') ' || "
	"CASE WHEN r.image_id = $1::int AND r.state <> 'stopped' "
	"THEN 'runs it' ELSE 'follows its tag ' || v.tag END AS what "
	"FROM vms v JOIN users u ON u.id = v.user_id "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"WHERE (r.image_id = $1::int AND r.state <> 'stopped') "
	"OR EXISTS (SELECT FROM image_tags g WHERE g.image_id = $1::int "
	"AND g.osf_id = v.osf_id AND g.tag = v.tag) "
	"OR EXISTS (SELECT FROM images i WHERE i.id = $1::int "
	"AND i.osf_id = v.osf_id AND i.version = v.tag) "
	"UNION ALL "
	"SELECT 'roll-out ' || r.id || ' to the tag ' || r.tag "
	"FROM rollouts r WHERE $1::int IN (r.old_image_id, r.new_image_id) "
	"AND r.state IN ('watching', 'halted') UNION ALL "
	"SELECT 'it is being imported' FROM images WHERE id = $1::int "
	"AND state IN ('new', 'importing')",
	1 };
/* What came from it is said to come from what it came from. */
static const struct db_stmt del = { "image_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'image' "
	"AND object_id = $1), "
	"c AS (UPDATE images SET parent_id = "
	"(SELECT parent_id FROM images WHERE id = $1) WHERE parent_id = $1) "
	"DELETE FROM images WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_images = { "images", "image", "image", view,
	&list, filters, image_fields, sizeof(struct image_row), add, NULL, set,
	&update, &in_use, &del };

/* Import */

/* $1 osf, $2 version or NULL: the date, and a number if that is taken,
 * $3 source, $4 message, $5 author, $6 this node, $7 tags */
static const struct db_stmt insert = { "image_insert",
	"WITH n AS (INSERT INTO images (osf_id, version, source, message, "
	"author, host_id, parent_id) SELECT $1::int, coalesce($2, (SELECT v "
	"FROM (SELECT g, to_char(now(), 'YYYY-MM-DD') || "
	"CASE g WHEN 1 THEN '' ELSE '-' || g END AS v "
	"FROM generate_series(1, 1000) g) c WHERE NOT EXISTS "
	"(SELECT FROM images i WHERE i.osf_id = $1::int AND i.version = c.v) "
	"ORDER BY g LIMIT 1)), $3, nullif($4, ''), $5, "
	"(SELECT id FROM hosts WHERE name = $6), "
	"(SELECT image_id FROM image_tags WHERE osf_id = $1::int "
	"AND tag = 'head') RETURNING id), "
	"p AS (INSERT INTO properties (kind, object_id, key, value) "
	"SELECT 'image', id, 'import.tags', $7 FROM n) "
	"SELECT id FROM n",
	7 };

/* The tags of what was published since, and of what failed. */
static const struct db_stmt settle = { "image_settle",
	"WITH due AS (SELECT i.id, i.osf_id, i.state, i.version, p.value "
	"FROM images i JOIN properties p ON p.kind = 'image' "
	"AND p.object_id = i.id AND p.key = 'import.tags' "
	"WHERE i.state IN ('published', 'failed')), "
	"moved AS (INSERT INTO image_tags (osf_id, tag, image_id) "
	"SELECT DISTINCT ON (osf_id, tag) osf_id, tag, id FROM due, "
	"unnest(string_to_array(due.value, ' ')) AS tag "
	"WHERE due.state = 'published' ORDER BY osf_id, tag, id DESC "
	"ON CONFLICT (osf_id, tag) DO UPDATE "
	"SET image_id = excluded.image_id, moved_at = now() "
	"WHERE NOT image_tags.fixed RETURNING image_id, tag), "
	"told AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.tagged', image_id, 'tag ' || tag || ' moved to it' "
	"FROM moved WHERE tag <> 'head'), "
	"gone AS (DELETE FROM properties p USING due WHERE p.kind = 'image' "
	"AND p.object_id = due.id AND p.key = 'import.tags') "
	"SELECT count(*) AS n FROM due",
	0 };

static const struct db_stmt look_stmt = { "image_look",
	"SELECT i.state, i.progress, i.error_id, i.error, "
	"EXISTS (SELECT FROM properties p WHERE p.kind = 'image' "
	"AND p.object_id = i.id AND p.key = 'import.tags') AS pending "
	"FROM images i WHERE i.id = $1",
	1 };

static void
on_settled(const struct db_result *res, const struct err *err, void *arg)
{
	if (res == NULL && err != NULL)
		log_err(LOG_LEVEL_WARN, err, "move the tags of new images");
}

void
images_settle(struct api *api)
{
	struct db_params p = { .n = 0 };

	db_exec(api->db, &settle, &p, 0, on_settled, NULL);
}

static int
look(struct request *req, const struct db_result *res, char *text, size_t size,
    struct err *err)
{
	const char *state, *error;
	enum image_state s;

	if (db_rows(res) == 0)
		return err_set(
		    err, ERR_NOT_FOUND, "the image was deleted meanwhile");
	state = db_str(res, 0, "state");
	if (!image_state_from_str(state, &s))
		s = IMAGE_NEW;
	if (s == IMAGE_FAILED) {
		error = db_str(res, 0, "error");
		return err_set(err,
		    err_from_id(db_str(res, 0, "error_id") != NULL
				    ? db_str(res, 0, "error_id")
				    : "image-unusable"),
		    "%s", error != NULL ? error : "the import failed");
	}
	if (s == IMAGE_PUBLISHED && !db_bool(res, 0, "pending"))
		return 1;
	if (db_i64(res, 0, "progress") > 0)
		snprintf(text, size, "%s %lld %%", state,
		    (long long)db_i64(res, 0, "progress"));
	else
		str_copy(text, size, s == IMAGE_NEW ? "waiting" : state);
	return 0;
}

struct import {
	struct image_row row;
	char *tags;
};

static void
on_import_commit(struct request *req, const struct db_result *res)
{
	if (req->wait)
		await_start(
		    req, "qvd_images", &look_stmt, look, IMPORT_WAIT_MS);
	else
		respond_object(req, &resource_images, req->id, 202);
}

static void
on_inserted(struct request *req, const struct db_result *res)
{
	req->id = db_i64(res, 0, "id");
	change_commit(
	    req, object_text(req, &resource_images, req->id), on_import_commit);
}

static void
on_import_begun(struct request *req, const struct db_result *res)
{
	struct import *in = req->data;
	struct db_params p = { .n = 0 };

	db_param_i64(&p, in->row.osf_id);
	db_param_str(&p, in->row.version);
	db_param_str(&p, in->row.source);
	db_param_str(&p, in->row.message);
	db_param_str(&p, req->actor);
	db_param_str(&p, req->api->conf.name);
	db_param_str(&p, in->tags);
	change_exec(req, &insert, &p, on_inserted);
}

/* "head" and the tags of the body, separated by spaces; NULL: answered. */
static char *
take_tags(struct request *req)
{
	json_t *list_ = json_object_get(req->body, "tags"), *tag;
	_cleanup_(buf_done)
	struct buf text;
	size_t i;

	buf_init(&text, TAGS_MAX * (TAG_BYTES_MAX + 1) + 8);
	buf_printf(&text, "head");
	if (list_ != NULL && !json_is_array(list_)) {
		respond_fail(req, ERR_PARAMETER, "tags is a list of names");
		return NULL;
	}
	json_array_foreach (list_, i, tag) {
		const char *s = json_string_value(tag);

		if (s == NULL || !str_is_name(s, TAG_BYTES_MAX) ||
		    i >= TAGS_MAX) {
			respond_fail(req, ERR_PARAMETER,
			    "tags is a list of at most %d names, each at "
			    "most %d of A-Z a-z 0-9 _ . -",
			    TAGS_MAX, TAG_BYTES_MAX);
			return NULL;
		}
		buf_printf(&text, " %s", s);
	}
	if (list_ != NULL)
		json_object_del(req->body, "tags");
	return arena_strndup(req->arena, buf_head(&text), buf_len(&text));
}

void
image_add(struct request *req)
{
	struct import *in = arena_new0(req->arena, struct import);
	uint64_t seen;

	if (in == NULL || (in->tags = take_tags(req)) == NULL ||
	    !resource_decode(req, add, true, &in->row, &seen))
		return;
	if (in->row.osf_id <= 0 || in->row.source == NULL ||
	    in->row.source[0] != '/') {
		respond_fail(req, ERR_PARAMETER,
		    "an image needs osf_id, and source: an absolute path "
		    "on this node");
		return;
	}
	req->data = in;
	change_begin(req, on_import_begun);
}

/* Tags */

static const struct db_stmt tag_stmt = { "image_tag",
	"WITH i AS (SELECT id, osf_id, state FROM images WHERE id = $1), "
	"m AS (INSERT INTO image_tags (osf_id, tag, image_id) "
	"SELECT osf_id, $2, id FROM i WHERE state = 'published' "
	"ON CONFLICT (osf_id, tag) DO UPDATE "
	"SET image_id = excluded.image_id, moved_at = now() "
	"WHERE NOT image_tags.fixed RETURNING image_id), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.tagged', image_id, 'tag ' || $2 || ' moved to it by ' "
	"|| $3 FROM m) "
	"SELECT i.state, EXISTS (SELECT FROM m) AS done FROM i",
	3 };
static const struct db_stmt untag_stmt = { "image_untag",
	"DELETE FROM image_tags WHERE image_id = $1 AND tag = $2 "
	"AND NOT fixed RETURNING image_id",
	2 };

static void
on_tag_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_images, req->id, 200);
}

static void
on_tagged(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no image %lld",
		    (long long)req->id);
	else if (!db_bool(res, 0, "done"))
		respond_fail(req, ERR_CONFLICT,
		    "the tag can't be moved to image %lld: it is %s%s",
		    (long long)req->id, db_str(res, 0, "state"),
		    str_eq(db_str(res, 0, "state"), "published")
			? ", but the tag is fixed"
			: "");
	else
		change_commit(req, object_text(req, &resource_images, req->id),
		    on_tag_commit);
}

static void
on_untagged(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND,
		    "image %lld has no tag '%s' that can be removed",
		    (long long)req->id, req->word);
	else
		change_commit(req, object_text(req, &resource_images, req->id),
		    on_tag_commit);
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
