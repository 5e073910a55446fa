/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Users, and their passwords, which are hashed on a thread: yescrypt takes
 * its time. */
#include <string.h>

#include "api/api.h"
#include "auth/auth.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/rows.h"

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("login", STR),
	VIEW("tenant", STR),
	VIEW("tenant_id", I64),
	VIEW("full_name", STR),
	VIEW("blocked", BOOL),
	VIEW("has_password", BOOL),
	VIEW("uid", I32),
	VIEW("vms", I64),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "tenant_id", NULL };
static const struct db_stmt list = { "user_list",
	"SELECT u.id, u.login, u.tenant_id, u.full_name, u.blocked, u.uid, "
	"u.created_at, u.password_hash IS NOT NULL AS has_password, "
	"t.name AS tenant, u.login || '@' || t.name AS path, "
	"(SELECT count(*) FROM vms v WHERE v.user_id = u.id) AS vms "
	"FROM users u JOIN tenants t ON t.id = u.tenant_id "
	"WHERE ($1::int IS NULL OR u.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) AND $3::text IS NULL "
	"AND ($4::text IS NULL OR u.login = $4::text) AND $5::text IS NULL "
	"AND ($6::int IS NULL OR u.tenant_id = $6::int) "
	"ORDER BY t.name, u.login",
	6 };

static const char *const add[] = { "login", "tenant_id", "full_name", "blocked",
	NULL };
static const char *const set[] = { "login", "full_name", "blocked", NULL };
/* Without a tenant: the one named default, or the only one. */
static const struct db_stmt insert = { "user_insert",
	"INSERT INTO users (login, tenant_id, full_name, blocked, "
	"password_hash) VALUES ($1, coalesce($2::int, "
	"(SELECT id FROM tenants WHERE name = 'default'), "
	"(SELECT min(id) FROM tenants HAVING count(*) = 1)), "
	"nullif($3, ''), coalesce($4::bool, false), $5) RETURNING id",
	5 };
static const struct db_stmt update = { "user_update",
	"UPDATE users SET login = coalesce($2, login), "
	"full_name = nullif(coalesce($3, full_name), ''), "
	"blocked = coalesce($4::bool, blocked) WHERE id = $1 RETURNING id",
	4 };
static const struct db_stmt in_use = { "user_in_use",
	"SELECT 'VM ' || id || ' (' || name || ')' AS what FROM vms "
	"WHERE user_id = $1 ORDER BY id",
	1 };
static const struct db_stmt del = { "user_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'user' "
	"AND object_id = $1) "
	"DELETE FROM users WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_users = { "users", "user", "user", view, &list,
	filters, user_fields, sizeof(struct user_row), add, &insert, set,
	&update, &in_use, &del, NULL };

/* A password on its way to a hash. */
struct hashing {
	struct request *req;
	char *password; /* heap; wiped */
	char *hash;
	int r;
	struct err err;
	struct user_row row;
	uint64_t seen;
	void (*done)(struct request *req, struct hashing *h);
};

static void
hash_work(void *arg)
{
	struct hashing *h = arg;

	h->r = auth_hash(h->password, &h->hash, &h->err);
	wipe_str(take_ptr(h->password));
}

static void
hash_done(void *arg)
{
	struct hashing *h = arg;
	struct request *req = h->req;
	char *hash = h->hash;

	req->pending--;
	h->hash = hash != NULL ? arena_strdup(req->arena, hash) : NULL;
	wipe_str(hash);
	if (h->r < 0)
		respond_err(req, &h->err);
	else
		h->done(req, h);
}

/* Takes the password out of the body, so that it is in no log or audit. */
static char *
take_password(struct request *req, bool *ret_null)
{
	json_t *value = json_object_get(req->body, "password");
	const char *text = json_string_value(value);
	char *copy = NULL;

	*ret_null = value == NULL || json_is_null(value);
	if (text != NULL) {
		copy = xstrdup(text);
		explicit_bzero((void *)(uintptr_t)text, strlen(text));
	}
	if (value != NULL)
		json_object_del(req->body, "password");
	return copy;
}

static void
start_hash(struct request *req, struct hashing *h)
{
	h->req = req;
	req->pending++;
	loop_work(req->api->loop, hash_work, hash_done, h);
}

static void
add_hashed(struct request *req, struct hashing *h)
{
	resource_insert(req, &h->row, h->seen, h->hash);
}

void
user_add(struct request *req)
{
	struct hashing *h = arena_new0(req->arena, struct hashing);
	bool none = true;

	if (h == NULL)
		return;
	h->password = take_password(req, &none);
	h->done = add_hashed;
	if (!resource_decode(req, add, false, &h->row, &h->seen)) {
		wipe_str(take_ptr(h->password));
		return;
	}
	if (h->password != NULL)
		start_hash(req, h);
	else if (none)
		resource_insert(req, &h->row, h->seen, NULL);
	else
		respond_fail(req, ERR_PARAMETER, "password is text");
}

static const struct db_stmt password_stmt = { "user_password",
	"UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING id", 2 };

static void
on_password_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_users, req->id, 200);
}

static void
on_password(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no user %lld",
		    (long long)req->id);
	else
		change_commit(req, object_text(req, &resource_users, req->id),
		    on_password_commit);
}

static void
on_password_begun(struct request *req, const struct db_result *res)
{
	struct hashing *h = req->data;
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, h->hash);
	change_exec(req, &password_stmt, &p, on_password);
}

static void
set_hashed(struct request *req, struct hashing *h)
{
	req->data = h;
	change_begin(req, on_password_begun);
}

void
user_password(struct request *req)
{
	struct hashing *h = arena_new0(req->arena, struct hashing);
	bool none = true, there;

	if (h == NULL)
		return;
	there = json_object_get(req->body, "password") != NULL;
	h->password = take_password(req, &none);
	h->done = set_hashed;
	if (!there || json_object_size(req->body) > 0 ||
	    (!none && h->password == NULL)) {
		wipe_str(take_ptr(h->password));
		respond_fail(req, ERR_PARAMETER,
		    "the body is {\"password\": text or null}");
	} else if (h->password != NULL) {
		start_hash(req, h);
	} else {
		set_hashed(req, h);
	}
}
