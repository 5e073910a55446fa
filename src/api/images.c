/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Images: their rows, and imports, which the node's HKD does. */
#include <string.h>

#include "api/api.h"
#include "api/images.h"
#include "api/upload_files.h"
#include "base/buf.h"
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
	VIEW("step", STR),
	VIEW("blocked", BOOL),
	VIEW("size_bytes", I64),
	VIEW("vms", I64),
	VIEW("message", STR),
	VIEW("author", STR),
	VIEW("parent_id", I64),
	VIEW("parent", STR),
	VIEW("source", STR),
	VIEW("checksum", STR),
	VIEW("content", STR),
	VIEW("files", I64),
	VIEW("hypervisors", STR),
	VIEW("error_id", STR),
	VIEW("error", STR),
	VIEW("created_at", TIME),
	FIELD_END,
};

/* What the node that imports it does. */
#define STEP                                                         \
	"(SELECT n.step FROM image_nodes n WHERE n.image_id = i.id " \
	"AND n.state = 'importing' LIMIT 1) AS step, "

static const char *const filters[] = { "osf_id", NULL };
static const struct db_stmt list = { "image_list",
	"SELECT i.*, o.name AS osf, t.name AS tenant, " STEP
	"o.name || '@' || t.name || '/' || i.version AS path, "
	"coalesce((SELECT jsonb_agg(g.tag ORDER BY g.tag) FROM image_tags g "
	"WHERE g.image_id = i.id), '[]') AS tags, "
	"(SELECT p.version FROM images p WHERE p.id = i.parent_id) AS parent, "
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
	"vm_id", "hold", "upload_id", NULL };
static const char *const set[] = { "message", "blocked", NULL };
static const struct db_stmt update = { "image_update",
	"UPDATE images SET message = nullif(coalesce($2, message), ''), "
	"blocked = coalesce($3::bool, blocked) WHERE id = $1 RETURNING id",
	3 };
const struct db_stmt image_lock_stmt = { "image_lock",
	"SELECT id FROM images WHERE id = $1 FOR UPDATE", 1 };
static const struct db_stmt in_use = { "image_in_use",
	"SELECT what FROM image_users WHERE image_id = $1", 1 };
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
	&update, &in_use, &del, &image_lock_stmt };

/* Import */

/* $1 osf (NULL: the VM's), $2 version or NULL: the date and a number that
 * nothing of the OSF has or had, $3 source, $4 message, $5 author, $6 this
 * node, $7 tags, $8 VM, $9 hold, $10 upload. A VM's commit comes from the image
 * that it ran from. */
static const struct db_stmt insert = { "image_insert",
	"WITH w AS (SELECT coalesce($1::int, v.osf_id) AS osf_id, v.id, "
	"'/vms/' || u.login || '/' || v.name AS source, r.image_id AS base, "
	"to_char(now(), 'YYYY-MM-DD') AS day "
	"FROM (SELECT 1) one LEFT JOIN vms v ON v.id = $8::int "
	"LEFT JOIN users u ON u.id = v.user_id "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id), "
	"c AS (SELECT w.osf_id, w.day, g AS number, f.version FROM w "
	"JOIN osfs o ON o.id = w.osf_id, generate_series(CASE "
	"WHEN o.version_day = w.day THEN o.version_count ELSE 0 END, 9999) g, "
	"LATERAL (SELECT w.day || '-' || to_char(g, CASE WHEN g < 1000 "
	"THEN 'FM000' ELSE 'FM9999' END) AS version) f "
	"WHERE $2::text IS NULL "
	"AND NOT EXISTS (SELECT FROM images i WHERE i.osf_id = w.osf_id "
	"AND i.version = f.version) "
	"AND NOT EXISTS (SELECT FROM image_tags t WHERE t.osf_id = w.osf_id "
	"AND t.tag = f.version) ORDER BY g LIMIT 1), "
	"o AS (UPDATE osfs SET version_day = c.day, "
	"version_count = c.number + 1 FROM c WHERE osfs.id = c.osf_id), "
	"n AS (INSERT INTO images (osf_id, version, source, message, "
	"author, host_id, parent_id, vm_id, hold, upload_id) SELECT w.osf_id, "
	"coalesce($2::text, (SELECT version FROM c)), coalesce($3, w.source), "
	"nullif($4, ''), $5, (SELECT id FROM hosts WHERE name = $6), "
	"CASE WHEN $8::int IS NOT NULL THEN w.base ELSE "
	"(SELECT image_id FROM image_tags t WHERE t.osf_id = w.osf_id "
	"AND tag = 'head') END, $8::int, coalesce($9::bool, false), $10::int "
	"FROM w RETURNING id), "
	"p AS (INSERT INTO properties (kind, object_id, key, value) "
	"SELECT 'image', id, 'import.tags', $7 FROM n) "
	"SELECT id FROM n",
	10 };

/* Why it can't be: a version that is a tag's name, a VM that isn't there or
 * not at rest. The VM's row is locked, so that none begins meanwhile, and the
 * OSF's, so that no two are given one name. */
static const struct db_stmt check_stmt = { "image_insert_check",
	"WITH l AS (SELECT id FROM osfs WHERE id = coalesce($1::int, "
	"(SELECT osf_id FROM vms WHERE id = $3::int)) FOR NO KEY UPDATE) "
	"SELECT (SELECT count(*) FROM l) AS locked, EXISTS (SELECT FROM "
	"image_tags WHERE osf_id = $1::int "
	"AND tag = $2) AS is_tag, v.id IS NOT NULL AS has_vm, "
	"v.desired = 'stopped' AND r.state = 'stopped' AS at_rest, "
	"r.image_id IS NOT NULL AS has_run, o.root = 'volatile' AS forgets, "
	"u.name AS upload, u.arrived_bytes, u.size_bytes, h.name AS host "
	"FROM (SELECT 1) one LEFT JOIN (SELECT * FROM vms WHERE id = $3::int "
	"FOR UPDATE) v ON true LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"LEFT JOIN osfs o ON o.id = v.osf_id "
	"LEFT JOIN uploads u ON u.id = $4::int "
	"LEFT JOIN hosts h ON h.id = u.host_id",
	4 };

static const struct db_stmt look_stmt = { "image_look",
	"SELECT i.state, i.progress, i.error_id, i.error, " STEP
	"EXISTS (SELECT FROM properties p WHERE p.kind = 'image' "
	"AND p.object_id = i.id AND p.key = 'import.tags') AS "
	"pending, " IMAGE_AWAITS(
	    "i.id") " AS awaits FROM images i WHERE i.id = $1",
	1 };

/* Published, but its tags wait for other nodes; or still on its way. */
static void
say_progress(
    const struct db_result *res, const char *state, char *text, size_t size)
{
	const char *step = db_str(res, 0, "step");
	long long percent = (long long)db_i64(res, 0, "progress");

	if (db_str(res, 0, "awaits") != NULL)
		snprintf(text, size, "%s; its tags wait for %s", state,
		    db_str(res, 0, "awaits"));
	else if (percent > 0 || step != NULL)
		snprintf(text, size, "%s %lld %%%s%s", state, percent,
		    step != NULL ? ": " : "", step != NULL ? step : "");
	else
		str_copy(text, size, state);
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
	if (s == IMAGE_RETIRED)
		return err_set(err, ERR_CONFLICT,
		    "the image was retired before its tags moved; 'qvd image "
		    "publish' offers it again, and moves them");
	if (s == IMAGE_READY ||
	    (s == IMAGE_PUBLISHED && !db_bool(res, 0, "pending")))
		return 1;
	say_progress(res, s == IMAGE_NEW ? "waiting" : state, text, size);
	return 0;
}

struct import {
	struct image_row row;
	uint64_t seen;
	char *tags;
};

static void
param_or_null(struct db_params *p, int64_t value)
{
	if (value > 0)
		db_param_i64(p, value);
	else
		db_param_null(p);
}

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
insert_image(struct request *req)
{
	struct import *in = req->data;
	struct db_params p = { .n = 0 };

	param_or_null(&p, in->row.osf_id);
	db_param_str(&p, in->row.version);
	db_param_str(&p, in->row.source);
	db_param_str(&p, in->row.message);
	db_param_str(&p, req->actor);
	db_param_str(&p, req->api->conf.name);
	db_param_str(&p, in->tags);
	param_or_null(&p, in->row.vm_id);
	db_param_bool(&p, in->row.hold);
	param_or_null(&p, in->row.upload_id);
	change_exec(req, &insert, &p, on_inserted);
}

/* The import reads the upload's file. */
static void
insert_upload(struct request *req, const struct db_result *res)
{
	struct import *in = req->data;
	const char *name = db_str(res, 0, "upload"), *host;
	long long id = in->row.upload_id;

	if (name == NULL) {
		respond_fail(req, ERR_NOT_FOUND, "there is no upload %lld", id);
		return;
	}
	host = db_str(res, 0, "host");
	if (!str_eq(host, req->api->conf.name)) {
		respond_fail(req, ERR_CONFLICT,
		    "upload %lld is on host %s; import it there", id, host);
	} else if (db_i64(res, 0, "arrived_bytes") <
		   db_i64(res, 0, "size_bytes")) {
		respond_fail(req, ERR_CONFLICT,
		    "upload %lld is not whole: %lld of %lld bytes have "
		    "arrived; 'qvd upload add FILE' goes on with it",
		    id, (long long)db_i64(res, 0, "arrived_bytes"),
		    (long long)db_i64(res, 0, "size_bytes"));
	} else {
		in->row.source = arena_printf(req->arena,
		    "%s/" UPLOAD_FOLDER "/%s", req->api->conf.data_dir,
		    upload_file_name(req->arena, id, name));
		insert_image(req);
	}
}

static void
on_checked(struct request *req, const struct db_result *res)
{
	struct import *in = req->data;
	long long vm = in->row.vm_id;

	if (db_bool(res, 0, "is_tag"))
		respond_fail(req, ERR_CONFLICT,
		    "'%s' is a tag of the OSF, and a version is never named "
		    "like one",
		    in->row.version);
	else if (in->row.upload_id > 0)
		insert_upload(req, res);
	else if (vm == 0)
		insert_image(req);
	else if (!db_bool(res, 0, "has_vm"))
		respond_fail(req, ERR_NOT_FOUND, "there is no VM %lld", vm);
	else if (db_bool(res, 0, "forgets"))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld has nothing to commit: its OSF's root is "
		    "volatile and forgets changes at each stop",
		    vm);
	else if (!db_bool(res, 0, "has_run"))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld has nothing to commit: it has not run, or its "
		    "image is gone",
		    vm);
	else if (!db_bool(res, 0, "at_rest"))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld runs; stop it first ('qvd vm stop %lld'), so "
		    "that its files are whole",
		    vm, vm);
	else
		insert_image(req);
}

static void
on_import_begun(struct request *req, const struct db_result *res)
{
	struct import *in = req->data;
	struct db_params p = { .n = 0 };

	param_or_null(&p, in->row.osf_id);
	db_param_str(&p, in->row.version);
	param_or_null(&p, in->row.vm_id);
	param_or_null(&p, in->row.upload_id);
	change_exec(req, &check_stmt, &p, on_checked);
}

/* "head" and the tags of the body, separated by spaces; NULL: answered. */
static char *
take_tags(struct request *req)
{
	json_t *list_ = json_object_get(req->body, "tags"), *tag;
	_cleanup_(buf_done)
	struct buf text = BUF(TAGS_MAX * (TAG_BYTES_MAX + 1) + 8);
	size_t i;

	buf_printf(&text, "head"); /* so that there is one to wait for */
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

static bool
has_one_source(const struct image_row *row)
{
	if (row->vm_id > 0)
		return row->source == NULL && row->upload_id <= 0;
	if (row->osf_id <= 0)
		return false;
	return row->upload_id > 0
		   ? row->source == NULL
		   : row->source != NULL && row->source[0] == '/';
}

void
image_add(struct request *req)
{
	struct import *in = arena_new0(req->arena, struct import);

	if (in == NULL || (in->tags = take_tags(req)) == NULL ||
	    !resource_decode(req, add, true, &in->row, &in->seen))
		return;
	if (!has_one_source(&in->row)) {
		respond_fail(req, ERR_PARAMETER,
		    "an image needs osf_id, and either source, an absolute "
		    "path on this node, or upload_id; or it needs vm_id, and "
		    "none of them");
		return;
	}
	req->data = in;
	change_begin(req, on_import_begun);
}
