/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Uploads: sources of images that come from where the administrator is, in
 * pieces. A row says how many bytes have arrived, and the next piece begins
 * there, so an upload goes on after anything that broke it off. What was
 * written is trusted by nobody: the import compares the whole with the SHA-256
 * that was told first. A row that goes takes its file with it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/upload_files.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/rows.h"

#define LOOK_MS (INT64_C(60) * 60 * 1000)

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("name", STR),
	VIEW("host", STR),
	VIEW("size_bytes", I64),
	VIEW("arrived_bytes", I64),
	VIEW("progress", I64),
	VIEW("sha256", STR),
	VIEW("author", STR),
	VIEW("created_at", TIME),
	VIEW("touched_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "host_id", NULL };
static const struct db_stmt list = { "upload_list",
	"SELECT u.*, h.name AS host, "
	"u.arrived_bytes * 100 / u.size_bytes AS progress "
	"FROM uploads u JOIN hosts h ON h.id = u.host_id "
	"WHERE ($1::int IS NULL OR u.id = $1::int) "
	"AND $2::text IS NULL AND $3::text IS NULL "
	"AND ($4::text IS NULL OR u.name = $4::text) AND $5::text IS NULL "
	"AND ($6::int IS NULL OR u.host_id = $6::int) ORDER BY u.id",
	6 };

static const char *const add[] = { "name", "size_bytes", "sha256", NULL };
/* $1 name, $2 size, $3 sum, $4 this node, $5 who. */
static const struct db_stmt insert = { "upload_insert",
	"INSERT INTO uploads (name, size_bytes, sha256, host_id, author) "
	"VALUES ($1, $2, $3, (SELECT id FROM hosts WHERE name = $4), $5) "
	"ON CONFLICT (host_id, sha256, name) DO UPDATE SET touched_at = now() "
	"RETURNING id, name, size_bytes, arrived_bytes",
	5 };
static const struct db_stmt lock = { "upload_lock",
	"SELECT id FROM uploads WHERE id = $1 FOR UPDATE", 1 };
static const struct db_stmt in_use = { "upload_in_use",
	"SELECT 'image ' || i.id || ' (' || o.name || '/' || i.version || "
	"') is made of it' AS what FROM images i JOIN osfs o "
	"ON o.id = i.osf_id WHERE i.upload_id = $1 "
	"AND i.state IN ('new', 'importing')",
	1 };
static const struct db_stmt del = { "upload_del",
	"DELETE FROM uploads WHERE id = $1 RETURNING id", 1 };

const struct resource resource_uploads = { "uploads", "upload", "upload", view,
	&list, filters, upload_fields, sizeof(struct upload_row), add, NULL,
	NULL, NULL, &in_use, &del, &lock };

/* Begin, or go on */

struct upload {
	struct upload_row row;
	struct err err; /* why it can't be */
};

static const struct db_stmt have_stmt = { "upload_have",
	"UPDATE uploads SET arrived_bytes = $2 WHERE id = $1 RETURNING id", 2 };
static const struct db_stmt forget_stmt = { "upload_forget",
	"DELETE FROM uploads WHERE id = $1 AND arrived_bytes = 0", 1 };

static void
on_ready(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_uploads, req->id, 200);
}

static void
on_forgotten(struct request *req, const struct db_result *res)
{
	const struct upload *up = req->data;

	respond_err(req, &up->err);
}

/* The row is there for good before its file is made: files without a row are
 * swept. The file may have lost what the row knew, in a crash. */
static void
on_add_commit(struct request *req, const struct db_result *res)
{
	struct upload *up = req->data;
	const char *file = upload_file_name(req->arena, req->id, up->row.name);
	struct db_params p = { .n = 0 };
	int64_t have;

	db_param_i64(&p, req->id);
	if (upload_reserve(req->api->upload_dir, file, up->row.size_bytes,
		&have, &up->err) < 0) {
		read_exec(req, &forget_stmt, &p, on_forgotten);
	} else if (have < up->row.arrived_bytes) {
		db_param_i64(&p, have);
		read_exec(req, &have_stmt, &p, on_ready);
	} else {
		on_ready(req, NULL);
	}
}

static void
on_added(struct request *req, const struct db_result *res)
{
	struct upload *up = req->data;

	req->id = db_i64(res, 0, "id");
	up->row.size_bytes = db_i64(res, 0, "size_bytes");
	up->row.arrived_bytes = db_i64(res, 0, "arrived_bytes");
	change_commit(
	    req, object_text(req, &resource_uploads, req->id), on_add_commit);
}

static void
on_add_begun(struct request *req, const struct db_result *res)
{
	const struct upload *up = req->data;
	struct db_params p = { .n = 0 };

	db_param_str(&p, up->row.name);
	db_param_i64(&p, up->row.size_bytes);
	db_param_str(&p, up->row.sha256);
	db_param_str(&p, req->api->conf.name);
	db_param_str(&p, req->actor);
	change_exec(req, &insert, &p, on_added);
}

void
upload_add(struct request *req)
{
	struct upload *up = arena_new0(req->arena, struct upload);
	uint64_t seen;

	if (up == NULL || !resource_decode(req, add, false, &up->row, &seen))
		return;
	req->data = up;
	change_begin(req, on_add_begun);
}

/* A piece. Not in the audit, which would have a line for each. */

static const struct db_stmt look_stmt = { "upload_look",
	"SELECT u.name, u.size_bytes, u.arrived_bytes, h.name AS host "
	"FROM uploads u JOIN hosts h ON h.id = u.host_id WHERE u.id = $1",
	1 };
static const struct db_stmt arrived_stmt = { "upload_arrived",
	"UPDATE uploads SET arrived_bytes = $3, touched_at = now() "
	"WHERE id = $1 AND arrived_bytes = $2 RETURNING id",
	3 };

struct piece {
	int64_t offset;
};

static void
on_arrived(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_CONFLICT,
		    "somebody else sends upload %" PRId64 ", too", req->id);
	else
		respond_object(req, &resource_uploads, req->id, 200);
}

/* False, and answered: it is none that can come now. */
static bool
check_piece(struct request *req, const struct db_result *res)
{
	const struct piece *piece = req->data;
	const char *host;

	if (db_rows(res) == 0) {
		respond_fail(
		    req, ERR_NOT_FOUND, "there is no upload %" PRId64, req->id);
		return false;
	}
	host = db_str(res, 0, "host");
	if (!str_eq(host, req->api->conf.name))
		respond_fail(req, ERR_CONFLICT,
		    "upload %" PRId64 " is on host %s; send it there", req->id,
		    host);
	else if (piece->offset != db_i64(res, 0, "arrived_bytes"))
		respond_fail(req, ERR_CONFLICT,
		    "of upload %" PRId64 " %" PRId64
		    " bytes have arrived; the next piece begins there",
		    req->id, db_i64(res, 0, "arrived_bytes"));
	else if ((int64_t)req->bytes_len >
		 db_i64(res, 0, "size_bytes") - piece->offset)
		respond_fail(req, ERR_PARAMETER,
		    "upload %" PRId64 " has only %" PRId64 " bytes", req->id,
		    db_i64(res, 0, "size_bytes"));
	return !req->answered;
}

static void
on_looked(struct request *req, const struct db_result *res)
{
	const struct piece *piece = req->data;
	struct db_params p = { .n = 0 };
	struct err err;

	if (!check_piece(req, res))
		return;
	if (upload_write(req->api->upload_dir,
		upload_file_name(req->arena, req->id, db_str(res, 0, "name")),
		piece->offset, req->bytes, req->bytes_len, &err) < 0) {
		respond_err(req, &err);
		return;
	}
	db_param_i64(&p, req->id);
	db_param_i64(&p, piece->offset);
	db_param_i64(&p, piece->offset + (int64_t)req->bytes_len);
	read_exec(req, &arrived_stmt, &p, on_arrived);
}

void
upload_put(struct request *req)
{
	struct piece *piece = arena_new0(req->arena, struct piece);
	static const char *const names[] = { "offset", NULL };
	struct db_params p = { .n = 0 };
	bool there;

	if (piece == NULL || !query_check(req, names) ||
	    !query_i64(
		req, "offset", 0, UPLOAD_BYTES_MAX, &piece->offset, &there))
		return;
	if (!there || req->bytes_len == 0) {
		respond_fail(req, ERR_PARAMETER,
		    "a piece needs ?offset=BYTES, and 1 to %zu bytes as body",
		    UPLOAD_PIECE_BYTES_MAX);
		return;
	}
	req->data = piece;
	db_param_i64(&p, req->id);
	read_exec(req, &look_stmt, &p, on_looked);
}

/* What nobody needs */

static const struct db_stmt surplus_stmt = { "upload_surplus",
	"DELETE FROM uploads u USING upload_surplus s WHERE u.id = s.id", 0 };
static const struct db_stmt ids_stmt = { "upload_ids",
	"SELECT u.id FROM uploads u JOIN hosts h ON h.id = u.host_id "
	"WHERE h.name = $1",
	1 };

static void
on_settled(const struct db_result *res, const struct err *err, void *arg)
{
	if (res == NULL && err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_WARN, err, "remove uploads");
}

void
uploads_settle(struct api *api)
{
	struct db_params p = { .n = 0 };

	db_exec(api->db, &surplus_stmt, &p, 0, on_settled, NULL);
}

/* Files that were there before the rows were asked for: a file is made after
 * its row. */
struct sweep {
	struct api *api;
	int64_t *ids;
	size_t n;
};

static void
on_rows(const struct db_result *res, const struct err *err, void *arg)
{
	struct sweep *sweep = arg;
	struct err bad;
	size_t i;

	for (i = 0; res != NULL && i < sweep->n; i++)
		if (!db_has_id(res, sweep->ids[i]) &&
		    upload_remove(sweep->api->upload_dir, sweep->ids[i], &bad) <
			0)
			log_err(LOG_LEVEL_WARN, &bad, "remove an upload");
	if (res == NULL && err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_WARN, err, "look for uploads");
	free(sweep->ids);
	free(sweep);
}

void
uploads_sweep(struct api *api)
{
	struct sweep *sweep = new0(struct sweep);
	struct db_params p = { .n = 0 };
	struct err err;

	sweep->api = api;
	if (upload_ids(api->upload_dir, &sweep->ids, &sweep->n, &err) < 0)
		log_err(LOG_LEVEL_WARN, &err, "look for uploads");
	if (sweep->n == 0) {
		free(sweep->ids);
		free(sweep);
		return;
	}
	db_param_str(&p, api->conf.name);
	db_exec(api->db, &ids_stmt, &p, 0, on_rows, sweep);
}

static void
on_timer(void *arg)
{
	struct api *api = arg;

	timer_start(&api->upload_timer, LOOK_MS);
	if (db_is_up(api->db) && !err_is_set(&api->schema_err))
		uploads_settle(api);
}

void
uploads_init(struct api *api)
{
	timer_init(&api->upload_timer, api->loop, on_timer, api);
	timer_start(&api->upload_timer, LOOK_MS);
}
