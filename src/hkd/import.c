/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Images on their way into the store: a row in state 'new' that this host
 * may import is claimed by one update (of several hosts one wins), imported
 * and checked out by the helper, and published. A daemon that is restarted
 * begins again what it had claimed. The result is written even if the
 * database was away meanwhile.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/node.h"
#include "json/json.h"
#include "model/states.h"

#define IMPORT_MS   (2 * 60 * 60 * 1000)
#define CHECKOUT_MS (30 * 60 * 1000)
#define PROGRESS_MS 500

struct import {
	struct list link;
	struct node *node;
	int64_t image_id;
	char *name; /* "demo@1" */
	struct rpc_request *request;
	int64_t since_ms, progress_ms;
	char *checksum;
	int64_t size_bytes;
	bool ended; /* the row is to be written */
	bool writing;
	struct err err;
};

#define CLAIM_COLUMNS                                             \
	"SELECT c.id, c.source, c.author, c.message, c.version, " \
	"o.name AS osf FROM c JOIN osfs o ON o.id = c.osf_id"

static const struct db_stmt claim_stmt = { "image_claim",
	"WITH c AS (UPDATE images SET state = 'importing', "
	"state_at = now(), progress = 0 WHERE state = 'new' "
	"AND (host_id IS NULL OR host_id = $1) RETURNING *), "
	"n AS (INSERT INTO image_nodes (image_id, host_id, state) "
	"SELECT id, $1, 'importing' FROM c ON CONFLICT (image_id, host_id) "
	"DO UPDATE SET state = 'importing', state_at = now()) " CLAIM_COLUMNS,
	1 };
static const struct db_stmt again_stmt = { "image_again",
	"WITH c AS (SELECT i.* FROM images i JOIN image_nodes n "
	"ON n.image_id = i.id WHERE n.host_id = $1 "
	"AND n.state = 'importing' AND i.state = 'importing') " CLAIM_COLUMNS,
	1 };
static const struct db_stmt progress_stmt = { "image_progress",
	"UPDATE images SET progress = $2 WHERE id = $1 "
	"AND state = 'importing' AND progress IS DISTINCT FROM $2",
	2 };
static const struct db_stmt end_stmt = { "image_end",
	"WITH n AS (UPDATE image_nodes SET state = $3, state_at = now() "
	"WHERE image_id = $1 AND host_id = $2) "
	"UPDATE images SET state = $4, state_at = now(), "
	"checksum = $5, size_bytes = $6, "
	"progress = CASE WHEN $4 = 'published' THEN 100 ELSE progress END, "
	"error_id = $7, error = $8 WHERE id = $1",
	8 };

static void
import_free(struct import *im)
{
	list_del(&im->link);
	if (im->request != NULL)
		rpc_request_cancel(im->request);
	db_forget(im->node->db, im);
	free(im->name);
	free(im->checksum);
	free(im);
}

static void
on_end_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct import *im = arg;

	im->writing = false;
	if (err != NULL && err->code == ERR_DATABASE) {
		node_retry_later(im->node);
		return;
	}
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err,
		    "write the end of the import "
		    "of %s",
		    im->name);
	import_free(im);
}

static void
write_end(struct import *im)
{
	bool bad = err_is_set(&im->err);
	struct db_params p = { 0 };

	if (im->writing)
		return;
	im->writing = true;
	db_param_i64(&p, im->image_id);
	db_param_i64(&p, im->node->host_id);
	db_param_str(&p, bad ? "failed" : "present");
	db_param_str(&p, bad ? "failed" : "published");
	db_param_str(&p, im->checksum);
	if (im->checksum != NULL)
		db_param_i64(&p, im->size_bytes);
	else
		db_param_null(&p);
	db_param_str(&p, bad ? err_id(im->err.code) : NULL);
	db_param_str(&p, bad ? im->err.msg : NULL);
	db_exec(im->node->db, &end_stmt, &p, 0, on_end_written, im);
}

static void
end(struct import *im, const struct err *err)
{
	struct event event = { .name = "image.published",
		.image_id = im->image_id,
		.duration_ms = time_now_ms() - im->since_ms };
	char ref[REF_LEN + 1];

	im->ended = true;
	if (err == NULL) {
		store_event(im->node, &event, "image %s is published: %lld MB",
		    im->name, (long long)(im->size_bytes / 1000000));
		log_info("image %s is published", im->name);
	} else {
		im->err.code = err->code;
		str_escape(im->err.msg, sizeof(im->err.msg), err->msg,
		    strlen(err->msg));
		ref_make(ref);
		event.name = "image.import-failed";
		event.error_id = err_id(err->code);
		event.ref = ref;
		store_event(im->node, &event, "import of image %s: %s",
		    im->name, im->err.msg);
		log_err(LOG_LEVEL_ERROR, &im->err,
		    "import of image %s, reference %s", im->name, ref);
	}
	write_end(im);
}

static void
on_checked_out(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct import *im = arg;

	closep(&fd);
	im->request = NULL;
	end(im, err);
}

static void
on_imported(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct import *im = arg;
	const char *checksum;

	closep(&fd);
	im->request = NULL;
	if (err != NULL) {
		end(im, err);
		return;
	}
	checksum = json_get_str(result, "checksum", "");
	im->checksum = xstrdup(checksum);
	im->size_bytes = json_get_int(result, "size_bytes", 0);
	/* Published means: a desktop can start at once. */
	im->request = rpc_ask(im->node->helper, "image.checkout",
	    json_pack("{ss ss}", "checksum", checksum, "root_store",
		root_store_to_str(im->node->settings.root_store)),
	    -1, CHECKOUT_MS, on_checked_out, im);
}

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
}

static void
on_progress(const json_t *info, void *arg)
{
	struct import *im = arg;
	int64_t now = time_now_ms();
	struct db_params p = { 0 };

	if (now - im->progress_ms < PROGRESS_MS || !db_is_up(im->node->db))
		return;
	im->progress_ms = now;
	db_param_i64(&p, im->image_id);
	db_param_i64(&p, json_get_int(info, "percent", 0));
	db_exec(im->node->db, &progress_stmt, &p, 0, ignore, im);
}

static struct import *
find(const struct node *node, int64_t image_id)
{
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		if (im->image_id == image_id)
			return im;
	return NULL;
}

static void
set_text(json_t *args, const char *name, const char *value)
{
	if (value != NULL)
		json_object_set_new(args, name, json_string(value));
}

static void
begin(struct node *node, const struct db_result *res, int row)
{
	struct import *im = new0(struct import);
	json_t *args = json_object();
	const struct event event = { .name = "image.import-started",
		.image_id = db_i64(res, row, "id"),
		.duration_ms = -1 };

	im->node = node;
	im->image_id = event.image_id;
	im->since_ms = time_now_ms();
	im->name = xasprintf(
	    "%s@%s", db_str(res, row, "osf"), db_str(res, row, "version"));
	list_init(&im->link);
	list_add(&node->imports, &im->link);
	store_event(node, &event, "import of image %s from %.300s", im->name,
	    db_str(res, row, "source"));
	log_info("importing image %s", im->name);
	json_object_set_new(args, "image_id", json_integer(im->image_id));
	set_text(args, "source", db_str(res, row, "source"));
	set_text(args, "author", db_str(res, row, "author"));
	set_text(args, "message", db_str(res, row, "message"));
	set_text(args, "version", db_str(res, row, "version"));
	im->request = rpc_ask(
	    node->helper, "image.import", args, -1, IMPORT_MS, on_imported, im);
	rpc_request_on_progress(im->request, on_progress);
}

static void
on_claimed(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	int i;

	if (err != NULL) {
		if (err->code != ERR_DATABASE)
			log_err(LOG_LEVEL_ERROR, err, "claim images");
		return; /* asked again when the database is back */
	}
	for (i = 0; i < db_rows(res) && node_is_running(node); i++)
		if (find(node, db_i64(res, i, "id")) == NULL)
			begin(node, res, i);
}

void
imports_claim(struct node *node)
{
	struct db_params p = { 0 };
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		if (im->ended)
			write_end(im);
	db_param_i64(&p, node->host_id);
	db_exec(node->db, &claim_stmt, &p, 0, on_claimed, node);
	db_exec(node->db, &again_stmt, &p, 0, on_claimed, node);
}

void
imports_done(struct node *node)
{
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		import_free(im);
}
