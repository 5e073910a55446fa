/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An image's way: imported (ready), published, retired. What runs stays as it
 * is in each case. Publishing and the tags that were given to the import are
 * one transaction: a VM that starts gets the old image or the new one.
 */
#include "api/api.h"
#include "api/images.h"
#include "base/str.h"

#define USERS_SHOWN "5"

static const struct db_stmt publish_stmt = { "image_publish",
	"WITH i AS (SELECT id, state FROM images WHERE id = $1 FOR UPDATE), "
	"u AS (UPDATE images SET state = 'published', state_at = now(), "
	"hold = false FROM i WHERE images.id = i.id "
	"AND i.state IN ('ready', 'retired') RETURNING images.id), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.published', id, 'published by ' || $2 FROM u) "
	"SELECT i.state, EXISTS (SELECT FROM u) AS done, NULL AS users FROM i",
	2 };

/* Tags but `head` would lead VMs to it. Transfers end; what came of them stays
 * until the image goes, so that they go on if it is published again. */
static const struct db_stmt retire_stmt = { "image_retire",
	"WITH i AS (SELECT id, state FROM images WHERE id = $1 FOR UPDATE), "
	"w AS (SELECT what FROM image_users WHERE image_id = $1 "
	"AND kind IN ('follows', 'rollout') UNION ALL SELECT 'its tag ' || tag "
	"FROM image_tags WHERE image_id = $1 AND tag <> 'head'), "
	"r AS (UPDATE images SET state = 'retired', state_at = now() FROM i "
	"WHERE images.id = i.id AND i.state IN ('ready', 'published') "
	"AND NOT EXISTS (SELECT FROM w) RETURNING images.id), "
	"n AS (DELETE FROM image_nodes USING r WHERE image_id = r.id "
	"AND image_nodes.state IN ('pulling', 'failed')), "
	"e AS (INSERT INTO events (name, image_id, text) "
	"SELECT 'image.retired', id, 'retired by ' || $2 FROM r) "
	"SELECT i.state, EXISTS (SELECT FROM r) AS done, "
	"(SELECT string_agg(what, ', ') FROM (SELECT what FROM w "
	"LIMIT " USERS_SHOWN ") x) AS users FROM i",
	2 };

static const struct db_stmt cancel_stmt = { "image_cancel",
	"WITH i AS (SELECT id, state FROM images WHERE id = $1 FOR UPDATE), "
	"c AS (UPDATE images SET state = 'failed', state_at = now(), "
	"error_id = 'cancelled', error = 'cancelled by ' || $2 FROM i "
	"WHERE images.id = i.id AND i.state IN ('new', 'importing') "
	"RETURNING images.id), "
	"e AS (INSERT INTO events (name, image_id, text, error_id) "
	"SELECT 'image.import-failed', id, 'cancelled by ' || $2, "
	"'cancelled' FROM c) "
	"SELECT i.state, EXISTS (SELECT FROM c) AS done, NULL AS users FROM i",
	2 };

struct step {
	const struct db_stmt *stmt;
	const char *done; /* "published" */
	const char *from; /* what can be */
};

static void
on_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_images, req->id, 200);
}

static void
on_settled(struct request *req, const struct db_result *res)
{
	change_commit(
	    req, object_text(req, &resource_images, req->id), on_commit);
}

static void
on_changed(struct request *req, const struct db_result *res)
{
	const struct step *step = req->data;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no image %lld",
		    (long long)req->id);
	else if (db_bool(res, 0, "done"))
		images_settle_in(req, on_settled);
	else if (db_str(res, 0, "users") != NULL)
		respond_fail(req, ERR_CONFLICT,
		    "image %lld is in use: %s; move the tags and the VMs to "
		    "another image first",
		    (long long)req->id, db_str(res, 0, "users"));
	else
		respond_fail(req, ERR_CONFLICT,
		    "image %lld is %s; only one that is %s can be %s",
		    (long long)req->id, db_str(res, 0, "state"), step->from,
		    step->done);
}

static void
on_locked(struct request *req, const struct db_result *res)
{
	const struct step *step = req->data;
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, req->actor);
	change_exec(req, step->stmt, &p, on_changed);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &image_lock_stmt, &p, on_locked);
}

static void
begin(struct request *req, const struct step *step)
{
	struct step *copy = arena_new0(req->arena, struct step);

	if (copy == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	*copy = *step;
	req->data = copy;
	change_begin(req, on_begun);
}

void
image_publish(struct request *req)
{
	static const struct step step = { &publish_stmt, "published",
		"ready or retired" };

	begin(req, &step);
}

void
image_retire(struct request *req)
{
	static const struct step step = { &retire_stmt, "retired",
		"ready or published" };

	begin(req, &step);
}

void
image_cancel(struct request *req)
{
	static const struct step step = { &cancel_stmt, "cancelled",
		"new or importing" };

	begin(req, &step);
}
