/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What this node's image store is asked: what changed between two images,
 * whether one is whole, an archive of it, and its garbage. */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"

#define WORK_MS    (INT64_C(60) * 60 * 1000)
#define ANSWER_MAX ((off_t)64 * 1024 * 1024)

/* $1: an image, $2: another to compare it with, NULL: its parent. */
static const struct db_stmt pair_stmt = { "image_pair",
	"SELECT i.id, i.checksum, i.state, o.name || '/' || i.version AS name, "
	"$2::int IS NULL AND i.parent_id IS NULL AS alone, "
	"f.id AS from_id, f.checksum AS from_checksum, "
	"fo.name || '/' || f.version AS from_name "
	"FROM images i JOIN osfs o ON o.id = i.osf_id "
	"LEFT JOIN images f ON f.id = coalesce($2::int, i.parent_id) "
	"LEFT JOIN osfs fo ON fo.id = f.osf_id WHERE i.id = $1",
	2 };

/* The image's checksum; NULL: answered. */
static const char *
checksum_of(struct request *req, const struct db_result *res)
{
	const char *checksum;

	if (db_rows(res) == 0) {
		respond_fail(
		    req, ERR_NOT_FOUND, "there is no image %" PRId64, req->id);
		return NULL;
	}
	if ((checksum = db_str(res, 0, "checksum")) == NULL)
		respond_fail(req, ERR_CONFLICT,
		    "image %" PRId64 " has no files yet: it is %s", req->id,
		    db_str(res, 0, "state"));
	return checksum;
}

static void
read_pair(struct request *req, int64_t other, step_cb cb)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	if (other > 0)
		db_param_i64(&p, other);
	else
		db_param_null(&p);
	read_exec(req, &pair_stmt, &p, cb);
}

/* Diff */

struct diff {
	const char *name, *from_name;
	int64_t from_id;
};

/* The document that the store's process wrote into a sealed file. */
static json_t *
read_document(int fd)
{
	struct stat st;
	json_t *doc = NULL;
	void *text;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > ANSWER_MAX)
		return NULL;
	text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return NULL;
	json_parse(text, (size_t)st.st_size, &doc, NULL);
	munmap(text, (size_t)st.st_size);
	return doc;
}

static void
on_diff(struct request *req, const json_t *result, int fd)
{
	struct diff *d = req->data;
	json_t *doc = read_document(fd);

	closep(&fd);
	if (!json_is_object(doc)) {
		json_decref(doc);
		respond_fail(
		    req, ERR_TOO_LARGE, "the list of what changed is too long");
		return;
	}
	json_object_set_new(doc, "to", json_string(d->name));
	json_object_set_new(doc, "from", json_string(d->from_name));
	json_object_set_new(doc, "from_id", json_integer(d->from_id));
	respond(req, 200, doc);
}

static void
on_diff_pair(struct request *req, const struct db_result *res)
{
	const char *to = checksum_of(req, res), *from;
	struct diff *d;

	if (to == NULL)
		return;
	if ((from = db_str(res, 0, "from_checksum")) == NULL) {
		respond_fail(req, ERR_PARAMETER,
		    db_bool(res, 0, "alone")
			? "the image has no parent; say with which image it "
			  "is to be compared"
			: "the image to compare with doesn't exist, or has "
			  "no files");
		return;
	}
	d = arena_new0(req->arena, struct diff);
	if (d == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	d->name = arena_strdup(req->arena, db_str(res, 0, "name"));
	d->from_name = arena_strdup(req->arena, db_str(res, 0, "from_name"));
	d->from_id = db_i64(res, 0, "from_id");
	req->data = d;
	node_ask(req, "image.diff",
	    json_pack("{ss ss}", "from", from, "to", to), WORK_MS, on_diff);
}

void
image_diff(struct request *req)
{
	static const char *const names[] = { "from", "wait", NULL };
	int64_t from = 0;
	bool there;

	if (query_check(req, names) &&
	    query_i64(req, "from", 1, INT32_MAX, &from, &there))
		read_pair(req, from, on_diff_pair);
}

/* Verify */

static void
on_verified(struct request *req, const json_t *result, int fd)
{
	closep(&fd);
	respond_object(req, &resource_images, req->id, 200);
}

static void
on_verify_row(struct request *req, const struct db_result *res)
{
	const char *checksum = checksum_of(req, res);

	if (checksum != NULL)
		node_ask(req, "image.verify",
		    json_pack("{ss}", "checksum", checksum), WORK_MS,
		    on_verified);
}

void
image_verify(struct request *req)
{
	read_pair(req, 0, on_verify_row);
}

/* Export */

static void
on_exported(struct request *req, const json_t *result, int fd)
{
	closep(&fd);
	respond(req, 200, json_deep_copy(result));
}

static void
on_export_row(struct request *req, const struct db_result *res)
{
	const char *checksum = checksum_of(req, res);
	const char *suffix = req->data;
	char own[9];

	if (checksum == NULL)
		return;
	/* Whoever asks takes the file away: each gets its own. */
	str_random(own, sizeof(own) - 1);
	node_ask(req, "image.export",
	    json_pack("{ss ss}", "checksum", checksum, "name",
		arena_printf(req->arena, "%.12s-%s%s", checksum, own, suffix)),
	    WORK_MS, on_exported);
}

void
image_export(struct request *req)
{
	static const char *const suffixes[] = { ".tar", ".tar.gz", ".tar.xz",
		".tar.zst" };
	const char *format = json_get_str(req->body, "format", ".tar");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(suffixes); i++) {
		if (!str_eq(format, suffixes[i]))
			continue;
		req->data = (void *)(uintptr_t)suffixes[i];
		read_pair(req, 0, on_export_row);
		return;
	}
	respond_fail(req, ERR_PARAMETER,
	    "format is one of .tar .tar.gz .tar.xz .tar.zst");
}

/* Garbage */

#define SURPLUS_COLUMNS \
	"s.id, o.name || '/' || s.version AS name, s.size_bytes "

static const struct db_stmt surplus_stmt = { "image_surplus",
	"SELECT " SURPLUS_COLUMNS
	"FROM image_surplus s JOIN osfs o ON o.id = s.osf_id ORDER BY s.id",
	0 };
static const struct db_stmt retain_stmt = { "image_retain_listed",
	"SELECT " SURPLUS_COLUMNS
	"FROM retain_images() s JOIN osfs o ON o.id = s.osf_id ORDER BY s.id",
	0 };

static const struct field surplus_view[] = {
	VIEW("id", I64),
	VIEW("name", STR),
	VIEW("size_bytes", I64),
	FIELD_END,
};

struct gc {
	bool dry_run;
	json_t *answer; /* {"items": [...]} */
};

static void
on_collected(struct request *req, const json_t *result, int fd)
{
	struct gc *gc = req->data;

	closep(&fd);
	json_object_update(gc->answer, (json_t *)(uintptr_t)result);
	json_object_set_new(gc->answer, "dry_run", json_boolean(gc->dry_run));
	respond(req, 200, json_incref(gc->answer));
}

static void
ask_store(struct request *req, const struct db_result *unused)
{
	struct gc *gc = req->data;
	json_t *also = json_array(), *item;
	size_t i;

	json_array_foreach (json_object_get(gc->answer, "items"), i, item)
		json_array_append_new(
		    also, json_integer(json_get_int(item, "id", 0)));
	node_ask(req, "image.gc",
	    json_pack("{sb so}", "dry_run", (int)gc->dry_run, "also", also),
	    WORK_MS, on_collected);
}

static void
on_surplus(struct request *req, const struct db_result *res)
{
	struct gc *gc = req->data;

	gc->answer = rows_to_json(res, surplus_view);
	request_own_json(req, gc->answer);
	if (gc->dry_run)
		ask_store(req, NULL);
	else
		change_commit(req, "images", ask_store);
}

static void
on_gc_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	change_exec(req, &retain_stmt, &p, on_surplus);
}

void
images_gc(struct request *req)
{
	struct gc *gc = arena_new0(req->arena, struct gc);
	struct db_params p = { .n = 0 };

	if (gc == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	gc->dry_run = json_get_bool(req->body, "dry_run", false);
	req->data = gc;
	if (gc->dry_run)
		read_exec(req, &surplus_stmt, &p, on_surplus);
	else
		change_begin(req, on_gc_begun);
}
