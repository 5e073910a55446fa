/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sessions (who is in which VM) and the timeline. */
#include <inttypes.h>

#include "api/api.h"
#include "base/str.h"
#include "json/json.h"

static const struct field session_view[] = {
	VIEW("vm_id", I64),
	VIEW("path", STR),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("session", STR),
	VIEW("host", STR),
	VIEW("user_id", I64),
	VIEW("client_address", STR),
	VIEW("client", STR),
	VIEW("generation", I64),
	FIELD_END,
};

static const struct db_stmt session_stmt = { "session_list",
	"SELECT s.vm_id, u.login || '@' || t.name || '/' || v.name AS path, "
	"s.state, s.state_at, coalesce(r.session, 'stopped') AS session, "
	"h.name AS host, s.user_id, s.client_address, s.client, "
	"s.generation FROM sessions s JOIN vms v ON v.id = s.vm_id "
	"JOIN users u ON u.id = v.user_id "
	"JOIN tenants t ON t.id = u.tenant_id "
	"LEFT JOIN vm_runtimes r ON r.vm_id = s.vm_id "
	"LEFT JOIN hosts h ON h.id = s.host_id "
	"WHERE $1::bool OR s.state <> 'disconnected' "
	"ORDER BY t.name, u.login, v.name",
	1 };

static void
on_sessions(struct request *req, const struct db_result *res)
{
	respond(req, 200, rows_to_json(res, session_view));
}

void
session_list(struct request *req)
{
	static const char *const names[] = { "all", NULL };
	const char *text = query_str(req, "all");
	struct db_params p = { .n = 0 };
	bool all = false;

	if (!query_check(req, names))
		return;
	if (text != NULL && !str_to_bool(text, &all)) {
		respond_fail(req, ERR_PARAMETER, "all is yes or no");
		return;
	}
	db_param_bool(&p, all);
	read_exec(req, &session_stmt, &p, on_sessions);
}

/*
 * The session gets a new generation: the broker whose client holds it hears
 * that and closes the client. Its key is forgotten, so that a client that
 * reconnects by itself is told that the session is no longer its own.
 * vm, by whom
 */
const struct db_stmt session_disconnect_stmt = { "session_disconnect",
	"WITH s AS (SELECT vm_id, user_id, host_id FROM sessions "
	"WHERE vm_id = $1 AND state <> 'disconnected' FOR UPDATE), "
	"n AS (UPDATE sessions SET generation = generation + 1, "
	"state = 'disconnected', state_at = now(), key_hash = NULL "
	"WHERE vm_id = (SELECT vm_id FROM s) RETURNING vm_id), "
	"e AS (INSERT INTO events (name, vm_id, user_id, host_id, text) "
	"SELECT 'session.disconnected', vm_id, user_id, host_id, "
	"'the client was closed by administrator ' || $2 FROM s) "
	"SELECT vm_id FROM n",
	2 };

static void
on_disconnect_commit(struct request *req, const struct db_result *res)
{
	respond(req, 200, json_object());
}

static void
on_disconnected(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0)
		respond_fail(req, ERR_CONFLICT,
		    "nobody is connected to VM %" PRId64, req->id);
	else
		change_commit(req, object_text(req, &resource_vms, req->id),
		    on_disconnect_commit);
}

static void
on_disconnect_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, req->actor);
	change_exec(req, &session_disconnect_stmt, &p, on_disconnected);
}

void
session_disconnect(struct request *req)
{
	change_begin(req, on_disconnect_begun);
}

/* Events */

#define EVENTS_DEFAULT 100
#define EVENTS_MAX     10000

static const struct field event_view[] = {
	VIEW("id", I64),
	VIEW("at", TIME),
	VIEW("name", STR),
	VIEW("vm_id", I64),
	VIEW("user_id", I64),
	VIEW("host_id", I64),
	VIEW("image_id", I64),
	VIEW("vm", STR),
	VIEW("user", STR),
	VIEW("host", STR),
	VIEW("image", STR),
	VIEW("text", STR),
	VIEW("duration_ms", I64),
	VIEW("error_id", STR),
	VIEW("ref", STR),
	FIELD_END,
};

/* The newest, oldest of them first; names where the objects still exist. */
static const struct db_stmt event_stmt = { "event_list",
	"SELECT e.*, u.login AS user, h.name AS host, "
	"vu.login || '/' || v.name AS vm, o.name || '/' || i.version AS image "
	"FROM (SELECT * FROM events "
	"WHERE ($1::int IS NULL OR vm_id = $1::int) "
	"AND ($2::int IS NULL OR user_id = $2::int) "
	"AND ($3::int IS NULL OR host_id = $3::int) "
	"AND ($4::int IS NULL OR image_id = $4::int) "
	"AND ($5::text IS NULL OR ref = $5::text) "
	"AND ($6::bigint IS NULL OR id <= $6::bigint) "
	"ORDER BY id DESC LIMIT $7::int) e "
	"LEFT JOIN users u ON u.id = e.user_id "
	"LEFT JOIN hosts h ON h.id = e.host_id "
	"LEFT JOIN vms v ON v.id = e.vm_id "
	"LEFT JOIN users vu ON vu.id = v.user_id "
	"LEFT JOIN images i ON i.id = e.image_id "
	"LEFT JOIN osfs o ON o.id = i.osf_id ORDER BY e.id",
	7 };

static void
on_events(struct request *req, const struct db_result *res)
{
	respond(req, 200, rows_to_json(res, event_view));
}

static bool
limit_param(struct request *req, struct db_params *p)
{
	int64_t limit = EVENTS_DEFAULT;
	bool there;

	if (!query_i64(req, "limit", 1, EVENTS_MAX, &limit, &there))
		return false;
	db_param_i64(p, limit);
	return true;
}

void
event_list(struct request *req)
{
	static const char *const names[] = { "vm_id", "user_id", "host_id",
		"image_id", "ref", "until", "limit", NULL };
	struct db_params p = { .n = 0 };
	int i;

	if (!query_check(req, names))
		return;
	for (i = 0; i < 4; i++)
		if (!query_param_i64(req, names[i], INT32_MAX, &p))
			return;
	db_param_str(&p, query_str(req, "ref"));
	if (query_param_i64(req, "until", INT64_MAX, &p) &&
	    limit_param(req, &p))
		read_exec(req, &event_stmt, &p, on_events);
}

/* GET /v1/vms/{id}/events and so on: also of what is deleted. */
void
resource_events(struct request *req)
{
	static const char *const names[] = { "until", "limit", NULL };
	static const struct resource *const columns[] = { &resource_vms,
		&resource_users, &resource_hosts, &resource_images };
	struct db_params p = { .n = 0 };
	int i, known = 0;

	if (!query_check(req, names))
		return;
	for (i = 0; i < 4; i++) {
		if (req->route->resource == columns[i]) {
			db_param_i64(&p, req->id);
			known = 1;
		} else {
			db_param_null(&p);
		}
	}
	db_param_null(&p);
	if (!known)
		respond_fail(req, ERR_NOT_FOUND, "there are no events of a %s",
		    req->route->resource->noun);
	else if (query_param_i64(req, "until", INT64_MAX, &p) &&
		 limit_param(req, &p))
		read_exec(req, &event_stmt, &p, on_events);
}
