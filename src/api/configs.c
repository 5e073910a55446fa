/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The farm's settings: rows of `configs` beside the table of keys that there
 * are. */
#include <string.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/config.h"
#include "model/rows.h"

static const char *const type_words[] = {
	[CONFIG_STR] = "text",
	[CONFIG_INT] = "number",
	[CONFIG_BOOL] = "yes/no",
	[CONFIG_DURATION] = "time",
	[CONFIG_NET] = "address/prefix",
	[CONFIG_ADDRESS] = "address",
	[CONFIG_RESOLVERS] = "addresses",
	[CONFIG_NET6] = "address/prefix",
	[CONFIG_EGRESS] = "egress policy",
	[CONFIG_HOME_STORE] = "word",
	[CONFIG_ROOT_STORE] = "word",
	[CONFIG_VM_ACCEL] = "word",
	[CONFIG_VM_MACHINE] = "word",
};

static const struct db_stmt list_stmt = { "config_list",
	"SELECT c.key, c.value, t.name AS tenant, NULL AS host, "
	"c.tenant_id AS rank FROM configs c "
	"LEFT JOIN tenants t ON t.id = c.tenant_id "
	"WHERE c.tenant_id IN (0, $1::int) "
	"AND ($3::text IS NULL OR c.key = $3::text) "
	"UNION ALL SELECT c.key, c.value, NULL, h.name, c.host_id "
	"FROM host_configs c JOIN hosts h ON h.id = c.host_id "
	"WHERE c.host_id = $2::int AND ($3::text IS NULL OR c.key = $3::text) "
	"ORDER BY rank DESC",
	3 };

/* The row of the tenant or host, else the farm's, else the default. */
static json_t *
setting(const struct config_key *k, const struct db_result *res)
{
	json_t *o = json_object();
	int i, n = db_rows(res);
	const char *tenant, *host;

	for (i = 0; i < n; i++)
		if (str_eq(db_str(res, i, "key"), k->key))
			break;
	tenant = i < n ? db_str(res, i, "tenant") : NULL;
	host = i < n ? db_str(res, i, "host") : NULL;
	json_object_set_new(o, "key", json_string(k->key));
	json_object_set_new(
	    o, "value", json_string(i < n ? db_str(res, i, "value") : k->def));
	json_object_set_new(o, "set", json_boolean(i < n));
	json_object_set_new(
	    o, "tenant", tenant != NULL ? json_string(tenant) : json_null());
	json_object_set_new(
	    o, "host", host != NULL ? json_string(host) : json_null());
	json_object_set_new(o, "default", json_string(k->def));
	json_object_set_new(o, "type", json_string(type_words[k->type]));
	json_object_set_new(
	    o, "per_tenant", json_boolean(k->scope == CONFIG_PER_TENANT));
	json_object_set_new(
	    o, "per_host", json_boolean(k->scope == CONFIG_PER_HOST));
	json_object_set_new(o, "doc", json_string(k->doc));
	return o;
}

static void
on_list(struct request *req, const struct db_result *res)
{
	json_t *items = json_array(), *answer = json_object();
	const struct config_key *k;

	for (k = config_keys; k->key != NULL; k++)
		json_array_append_new(items, setting(k, res));
	json_object_set_new(answer, "items", items);
	respond(req, 200, answer);
}

static const struct config_key *
find_key(struct request *req)
{
	const struct config_key *k = config_find(req->word);
	char shown[128];

	if (k == NULL) {
		str_escape(shown, sizeof(shown), req->word, strlen(req->word));
		respond_fail(req, ERR_NOT_FOUND,
		    "there is no setting '%s'; 'qvd config list' lists them",
		    shown);
	}
	return k;
}

static void
on_one(struct request *req, const struct db_result *res)
{
	const struct config_key *k = find_key(req);

	if (k != NULL)
		respond(req, 200, setting(k, res));
}

/* Whose value is meant; both 0: the farm's. */
struct owner {
	int64_t tenant, host;
};

static bool
owner_param(struct request *req, struct db_params *p, struct owner *ret)
{
	static const char *const names[] = { "tenant_id", "host_id", NULL };
	bool there;

	*ret = (struct owner){ .tenant = 0 };
	if (!query_check(req, names) ||
	    !query_i64(req, "tenant_id", 1, INT32_MAX, &ret->tenant, &there) ||
	    !query_i64(req, "host_id", 1, INT32_MAX, &ret->host, &there))
		return false;
	if (ret->tenant != 0 && ret->host != 0) {
		respond_fail(req, ERR_PARAMETER,
		    "a setting is a tenant's or a host's, not both");
		return false;
	}
	db_param_i64(p, ret->tenant);
	db_param_i64(p, ret->host);
	return true;
}

void
config_list(struct request *req)
{
	struct db_params p = { .n = 0 };
	struct owner owner;

	if (!owner_param(req, &p, &owner))
		return;
	db_param_null(&p);
	read_exec(req, &list_stmt, &p, on_list);
}

static void
show(struct request *req)
{
	struct db_params p = { .n = 0 };
	struct owner owner;

	if (!owner_param(req, &p, &owner))
		return;
	db_param_str(&p, req->word);
	read_exec(req, &list_stmt, &p, on_one);
}

void
config_get(struct request *req)
{
	if (find_key(req) != NULL)
		show(req);
}

static const struct db_stmt set_stmt = { "config_set",
	"INSERT INTO configs (tenant_id, key, value) "
	"SELECT $1::int, $2, $3 WHERE $1::int = 0 "
	"OR EXISTS (SELECT FROM tenants WHERE id = $1::int) "
	"ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value "
	"RETURNING key",
	3 };
static const struct db_stmt unset_stmt = { "config_unset",
	"DELETE FROM configs WHERE tenant_id = $1 AND key = $2", 2 };

static const struct db_stmt host_set_stmt = { "config_host_set",
	"INSERT INTO host_configs (host_id, key, value) "
	"SELECT id, $2, $3 FROM hosts WHERE id = $1::int "
	"ON CONFLICT (host_id, key) DO UPDATE SET value = excluded.value "
	"RETURNING key",
	3 };
static const struct db_stmt host_unset_stmt = { "config_host_unset",
	"DELETE FROM host_configs WHERE host_id = $1 AND key = $2", 2 };

struct setting {
	struct owner owner;
	const char *value; /* NULL: unset */
};

static void
on_commit(struct request *req, const struct db_result *res)
{
	show(req);
}

static void
on_written(struct request *req, const struct db_result *res)
{
	struct setting *s = req->data;

	if (s->value != NULL && db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no %s %lld",
		    s->owner.host != 0 ? "host" : "tenant",
		    (long long)(s->owner.host != 0 ? s->owner.host
						   : s->owner.tenant));
	else
		change_commit(req,
		    arena_printf(req->arena, "config %s", req->word),
		    on_commit);
}

static void
on_begun(struct request *req, const struct db_result *res)
{
	struct setting *s = req->data;
	struct db_params p = { .n = 0 };
	bool host = s->owner.host != 0, set = s->value != NULL;

	db_param_i64(&p, host ? s->owner.host : s->owner.tenant);
	db_param_str(&p, req->word);
	if (set)
		db_param_str(&p, s->value);
	change_exec(req,
	    host ? (set ? &host_set_stmt : &host_unset_stmt)
		 : (set ? &set_stmt : &unset_stmt),
	    &p, on_written);
}

static bool
check_scope(
    struct request *req, const struct config_key *k, const struct owner *owner)
{
	if (owner->tenant != 0 && k->scope != CONFIG_PER_TENANT)
		respond_fail(req, ERR_PARAMETER,
		    "%s is the same for all tenants", k->key);
	else if (owner->host != 0 && k->scope != CONFIG_PER_HOST)
		respond_fail(
		    req, ERR_PARAMETER, "%s is the same on all hosts", k->key);
	else
		return true;
	return false;
}

static void
change(struct request *req, const char *value)
{
	struct setting *s = arena_new0(req->arena, struct setting);
	const struct config_key *k = find_key(req);
	struct db_params unused = { .n = 0 };
	struct err err = { 0 };

	if (k == NULL || s == NULL || !owner_param(req, &unused, &s->owner))
		return;
	if (value != NULL && config_check(k, value, &err) < 0) {
		respond_err(req, &err);
		return;
	}
	if (!check_scope(req, k, &s->owner))
		return;
	s->value = value;
	req->data = s;
	change_begin(req, on_begun);
}

void
config_set(struct request *req)
{
	const char *value = json_get_str(req->body, "value", NULL);

	if (value == NULL || json_object_size(req->body) != 1)
		respond_fail(
		    req, ERR_PARAMETER, "the body is {\"value\": text}");
	else
		change(req, value);
}

void
config_unset(struct request *req)
{
	change(req, NULL);
}
