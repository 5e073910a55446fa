/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What all kinds of objects have in common: list, get, add, set, delete, by
 * the tables of their struct resource. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"

#define FIELDS_MAX  40
#define IN_USE_MAX  5 /* named in the sentence */
#define FILTERS_MAX 12

const char *
object_text(struct request *req, const struct resource *resource, int64_t id)
{
	return arena_printf(req->arena, "%s %" PRId64, resource->word, id);
}

/* List and get */

static bool
filter_params(
    struct request *req, const struct resource *resource, struct db_params *p)
{
	const char *const *f;

	for (f = resource->filters; *f != NULL; f++) {
		if (!str_ends(*f, "_id")) {
			db_param_str(p, query_str(req, *f));
			continue;
		}
		if (!query_param_i64(req, *f, INT32_MAX, p))
			return false;
	}
	return true;
}

static bool
ref_params(
    struct request *req, const struct resource *resource, struct db_params *p)
{
	const char *text = query_str(req, "ref");
	struct ref ref = { NULL, NULL, NULL, NULL };
	char shown[128];

	if (text != NULL && !ref_parse(req->arena, text, &ref)) {
		str_escape(shown, sizeof(shown), text, strlen(text));
		respond_fail(req, ERR_PARAMETER, "'%s' is no name of a %s",
		    shown, resource->noun);
		return false;
	}
	db_param_str(p, ref.tenant);
	db_param_str(p, ref.owner);
	db_param_str(p, ref.name);
	db_param_str(p, ref.tag);
	return true;
}

static void
on_list(struct request *req, const struct db_result *res)
{
	respond(req, 200, rows_to_json(res, req->route->resource->view));
}

void
resource_list(struct request *req)
{
	const struct resource *resource = req->route->resource;
	const char *names[FILTERS_MAX] = { "ref" };
	struct db_params p = { .n = 0 };
	int i;

	for (i = 0; resource->filters[i] != NULL && i < FILTERS_MAX - 2; i++)
		names[i + 1] = resource->filters[i];
	if (!query_check(req, names))
		return;
	db_param_null(&p);
	if (ref_params(req, resource, &p) && filter_params(req, resource, &p))
		read_exec(req, resource->list, &p, on_list);
}

struct shown {
	const struct resource *resource;
	int64_t id;
	int status;
};

static void
on_object(struct request *req, const struct db_result *res)
{
	struct shown *s = req->data;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no %s %" PRId64,
		    s->resource->noun, s->id);
	else
		respond(req, s->status, row_to_json(res, 0, s->resource->view));
}

void
respond_object(struct request *req, const struct resource *resource, int64_t id,
    int status)
{
	struct db_params p = { .n = 0 };
	struct shown *s = arena_new0(req->arena, struct shown);
	const char *const *f;
	int i;

	if (s == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	*s = (struct shown){ resource, id, status };
	req->data = s;
	db_param_i64(&p, id);
	for (i = 0; i < 4; i++)
		db_param_null(&p);
	for (f = resource->filters; *f != NULL; f++)
		db_param_null(&p);
	read_exec(req, resource->list, &p, on_object);
}

void
resource_get(struct request *req)
{
	respond_object(req, req->route->resource, req->id, 200);
}

/* Bodies */

static const struct field *
find_field(const struct field *fields, const char *name)
{
	for (; fields->name != NULL; fields++)
		if (str_eq(fields->name, name))
			return fields;
	return NULL;
}

bool
resource_decode(struct request *req, const char *const *names, bool partial,
    void *out, uint64_t *ret_seen)
{
	const struct resource *resource = req->route->resource;
	struct field table[FIELDS_MAX];
	const struct field *f;
	struct err err = { 0 };
	int n;

	for (n = 0; names[n] != NULL && n < FIELDS_MAX - 1; n++) {
		f = find_field(resource->fields, names[n]);
		if (f == NULL) {
			respond_fail(req, ERR_INTERNAL, "no field %s.%s",
			    resource->name, names[n]);
			return false;
		}
		table[n] = *f;
		if (partial)
			table[n].flags &= ~FIELD_REQUIRED;
	}
	table[n] = (struct field)FIELD_END;
	*ret_seen = 0;
	if (req->body == NULL)
		req->body = json_object();
	if (json_decode(req->body, table, out, req->arena, ret_seen, &err) <
	    0) {
		respond_err(req, &err);
		return false;
	}
	return true;
}

static void
field_param(const struct field *f, const void *in, struct db_params *p)
{
	const char *at = (const char *)in + f->offset;
	const void *v = at;

	switch (f->type) {
	case FIELD_TYPE_BOOL:
		db_param_bool(p, *(const bool *)v);
		break;
	case FIELD_TYPE_I32:
		db_param_i64(p, *(const int32_t *)v);
		break;
	case FIELD_TYPE_I64:
		if (*(const int64_t *)v == 0 && str_ends(f->name, "_id"))
			db_param_null(p);
		else
			db_param_i64(p, *(const int64_t *)v);
		break;
	case FIELD_TYPE_ENUM:
		db_param_str(p, enum_to_str(f->words, *(const int *)v));
		break;
	case FIELD_TYPE_STR:
	case FIELD_TYPE_JSON:
		db_param_str(p, *(const char *const *)v);
		break;
	case FIELD_TYPE_F64:
	case FIELD_TYPE_TIME:
	case FIELD_TYPE_COUNT_:
		db_param_null(p); /* not in any body */
		break;
	}
}

/* Only what the body had; the rest is NULL, for the statement's default. */
static void
seen_params(struct request *req, const char *const *names, const void *in,
    uint64_t seen, struct db_params *p)
{
	int i;

	for (i = 0; names[i] != NULL; i++) {
		const struct field *f =
		    find_field(req->route->resource->fields, names[i]);

		if ((seen & (UINT64_C(1) << i)) == 0 || f == NULL)
			db_param_null(p);
		else
			field_param(f, in, p);
	}
}

/* Add */

struct change {
	struct db_params p;
	int64_t id;
};

static void
on_added_commit(struct request *req, const struct db_result *res)
{
	struct change *c = req->data;

	respond_object(req, req->route->resource, c->id, 201);
}

static void
on_added(struct request *req, const struct db_result *res)
{
	struct change *c = req->data;

	if (db_rows(res) == 0) {
		respond_fail(req, ERR_INTERNAL, "the new row has no id");
		return;
	}
	c->id = db_i64(res, 0, "id");
	change_commit(req, object_text(req, req->route->resource, c->id),
	    on_added_commit);
}

static void
on_add_begun(struct request *req, const struct db_result *res)
{
	struct change *c = req->data;

	change_exec(req, req->route->resource->insert, &c->p, on_added);
}

void
resource_insert(
    struct request *req, const void *in, uint64_t seen, const char *extra)
{
	const struct resource *resource = req->route->resource;
	struct change *c = arena_new0(req->arena, struct change);

	if (c == NULL) {
		respond_fail(req, ERR_TOO_LARGE, "the request is too long");
		return;
	}
	seen_params(req, resource->add, in, seen, &c->p);
	if (resource->insert->n_params > c->p.n)
		db_param_str(&c->p, extra);
	req->data = c;
	change_begin(req, on_add_begun);
}

void
resource_add(struct request *req)
{
	const struct resource *resource = req->route->resource;
	void *row = arena_alloc(req->arena, resource->size);
	uint64_t seen;

	if (row != NULL &&
	    resource_decode(req, resource->add, false, row, &seen))
		resource_insert(req, row, seen, NULL);
}

/* Set */

static void
on_set_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, req->route->resource, req->id, 200);
}

/* The change has found its row, or there is none. */
static void
commit_found(struct request *req, const struct db_result *res, step_cb next)
{
	const struct resource *resource = req->route->resource;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no %s %" PRId64,
		    resource->noun, req->id);
	else
		change_commit(req, object_text(req, resource, req->id), next);
}

static void
on_set(struct request *req, const struct db_result *res)
{
	commit_found(req, res, on_set_commit);
}

static void
on_set_begun(struct request *req, const struct db_result *res)
{
	struct change *c = req->data;

	change_exec(req, req->route->resource->update, &c->p, on_set);
}

void
resource_set(struct request *req)
{
	const struct resource *resource = req->route->resource;
	void *row = arena_alloc(req->arena, resource->size);
	struct change *c = arena_new0(req->arena, struct change);
	uint64_t seen;

	if (row == NULL || c == NULL ||
	    !resource_decode(req, resource->set, true, row, &seen))
		return;
	if (seen == 0) {
		respond_fail(req, ERR_PARAMETER, "nothing to change");
		return;
	}
	db_param_i64(&c->p, req->id);
	seen_params(req, resource->set, row, seen, &c->p);
	req->data = c;
	change_begin(req, on_set_begun);
}

/* Delete */

static void
on_del_commit(struct request *req, const struct db_result *res)
{
	respond(req, 200, json_object());
}

static void
on_deleted(struct request *req, const struct db_result *res)
{
	commit_found(req, res, on_del_commit);
}

static void
delete_row(struct request *req)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, req->route->resource->del, &p, on_deleted);
}

static void
say_in_use(struct request *req, const struct db_result *res)
{
	_cleanup_(buf_done)
	struct buf list = BUF(700);
	int i, n = db_rows(res);

	for (i = 0; i < n && i < IN_USE_MAX; i++)
		buf_printf(
		    &list, "%s%s", i > 0 ? ", " : "", db_str(res, i, "what"));
	if (n > IN_USE_MAX)
		buf_printf(&list, " and %d more", n - IN_USE_MAX);
	respond_fail(req, ERR_CONFLICT, "%s %" PRId64 " is in use: %.*s",
	    req->route->resource->noun, req->id, (int)buf_len(&list),
	    buf_head(&list));
}

static void
on_in_use(struct request *req, const struct db_result *res)
{
	if (db_rows(res) > 0)
		say_in_use(req, res);
	else
		delete_row(req);
}

static void
on_del_locked(struct request *req, const struct db_result *res)
{
	const struct resource *resource = req->route->resource;
	struct db_params p = { .n = 0 };

	if (resource->in_use == NULL) {
		delete_row(req);
		return;
	}
	db_param_i64(&p, req->id);
	change_exec(req, resource->in_use, &p, on_in_use);
}

static void
on_del_begun(struct request *req, const struct db_result *res)
{
	const struct resource *resource = req->route->resource;
	struct db_params p = { .n = 0 };

	if (resource->lock == NULL) {
		on_del_locked(req, res);
		return;
	}
	db_param_i64(&p, req->id);
	change_exec(req, resource->lock, &p, on_del_locked);
}

void
resource_del(struct request *req)
{
	change_begin(req, on_del_begun);
}
