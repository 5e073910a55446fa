/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Garbage of the image store. First what the store has, then which of that
 * the database knows no more (or as failed), then its removal: an image's row
 * is there before anything of it is in the store and never comes back, so
 * that an import beside it is safe in this order, and in no other.
 */
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "hkd/garbage.h"
#include "image/image.h"
#include "json/json.h"

#define GARBAGE_MS (35 * 60 * 1000)
/* When an archive that was made now is garbage. */
#define EXPORTS_MS ((int64_t)(IMAGE_EXPORT_KEEP_S + 10) * 1000)

struct garbage {
	struct list link;
	struct node *node;
	bool dry_run;
	json_t *also; /* dry run: images to be taken for gone */
	struct rpc_request *request;
	garbage_cb done;
	rpc_progress_cb progress; /* NULL: nobody waits */
	void *arg;
};

static const struct db_stmt gone_stmt = { "images_gone",
	"SELECT s.id FROM unnest($1::integer[]) AS s (id) "
	"WHERE NOT EXISTS (SELECT FROM images i WHERE i.id = s.id "
	"AND i.state <> 'failed') LIMIT 10000",
	1 };

static void
garbage_free(struct garbage *c)
{
	list_del(&c->link);
	if (c->request != NULL)
		rpc_request_cancel(c->request);
	db_forget(c->node->db, c);
	json_decref(c->also);
	free(c);
}

static void
end(struct garbage *c, const json_t *result, const struct err *err)
{
	if (c->done != NULL)
		c->done(result, err, c->arg);
	else if (err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_WARN, err, "collect images' garbage");
	garbage_free(c);
}

static void
on_collected(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct garbage *c = arg;

	closep(&fd);
	c->request = NULL;
	if (err == NULL && !c->dry_run) {
		/* Which checkouts are there is to be asked again. */
		map_done(&c->node->trees);
		map_init_str(&c->node->trees);
		if (json_get_int(result, "bytes", 0) > 0)
			log_info("images' garbage: %lld MB in %lld objects "
				 "removed",
			    (long long)json_get_int(result, "bytes", 0) /
				1000000,
			    (long long)json_get_int(result, "objects", 0));
	}
	end(c, result, err);
}

static void
on_progress(const json_t *info, void *arg)
{
	struct garbage *c = arg;

	if (c->progress != NULL)
		c->progress(info, c->arg);
}

static void
on_gone(const struct db_result *res, const struct err *err, void *arg)
{
	struct garbage *c = arg;
	json_t *gone;
	int i;

	if (err != NULL) {
		end(c, NULL, err);
		return;
	}
	gone = c->also != NULL ? json_deep_copy(c->also) : json_array();
	for (i = 0; i < db_rows(res); i++)
		json_array_append_new(gone, json_integer(db_i64(res, i, "id")));
	c->request = rpc_ask(c->node->helper, "image.gc",
	    json_pack("{so sb}", "gone", gone, "dry_run", (int)c->dry_run), -1,
	    GARBAGE_MS, on_collected, c);
	rpc_request_on_progress(c->request, on_progress);
}

static void
on_refs(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct garbage *c = arg;
	const json_t *images = json_object_get(result, "images"), *id;
	_cleanup_(buf_done)
	struct buf ids = { 0 };
	_cleanup_(freep)
	char *text = NULL;
	struct db_params p = { 0 };
	size_t i;

	closep(&fd);
	c->request = NULL;
	if (err != NULL) {
		end(c, NULL, err);
		return;
	}
	buf_init(&ids, 1 << 20);
	buf_append(&ids, "{", 1);
	json_array_foreach (images, i, id)
		buf_printf(&ids, "%s%lld", i > 0 ? "," : "",
		    (long long)json_integer_value(id));
	buf_append(&ids, "}", 1);
	text = buf_take_str(&ids);
	db_param_str(&p, text);
	db_exec(c->node->db, &gone_stmt, &p, 0, on_gone, c);
}

struct garbage *
garbage_start(struct node *node, bool dry_run, const json_t *also,
    garbage_cb done, rpc_progress_cb progress, void *arg)
{
	struct garbage *c = new0(struct garbage);

	c->node = node;
	c->dry_run = dry_run;
	c->also = dry_run && json_is_array(also) ? json_deep_copy(also) : NULL;
	c->done = done;
	c->progress = progress;
	c->arg = arg;
	list_init(&c->link);
	list_add(&node->garbages, &c->link);
	c->request = rpc_ask(
	    node->helper, "image.refs", NULL, -1, GARBAGE_MS, on_refs, c);
	return c;
}

void
garbage_forget(struct garbage *c)
{
	c->done = NULL;
	c->progress = NULL;
}

void
garbage_soon(struct node *node)
{
	if (!timer_active(&node->garbage))
		timer_start(&node->garbage, GARBAGE_SOON_MS);
}

void
garbage_exported(struct node *node)
{
	if (!timer_active(&node->exports))
		timer_start(&node->exports, EXPORTS_MS);
}

void
garbage_on_timer(void *arg)
{
	struct node *node = arg;

	if (node_is_running(node) && db_is_up(node->db))
		garbage_start(node, false, NULL, NULL, NULL, NULL);
}

void
garbage_done(struct node *node)
{
	struct garbage *c;

	LIST_EACH (&node->garbages, c, struct garbage, link)
		garbage_free(c);
}
