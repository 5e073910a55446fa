/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMs: their rows. What starts and stops them is in vm_run.c. */
#include <string.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/config.h"
#include "model/range.h"
#include "model/rows.h"

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("name", STR),
	VIEW("user", STR),
	VIEW("user_id", I64),
	VIEW("tenant", STR),
	VIEW("osf", STR),
	VIEW("osf_id", I64),
	VIEW("tag", STR),
	VIEW("vm_group", STR),
	VIEW("address", STR),
	VIEW("blocked", BOOL),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("step", STR),
	VIEW("session", STR),
	VIEW("session_at", TIME),
	VIEW("link", STR),
	VIEW("pid", I32),
	VIEW("client_address", STR),
	VIEW("host", STR),
	VIEW("host_id", I64),
	VIEW("image", STR),
	VIEW("image_id", I64),
	VIEW("desired", STR),
	VIEW("desired_at", TIME),
	VIEW("desired_by", STR),
	VIEW("epoch", I64),
	VIEW("expire_soft_at", TIME),
	VIEW("expire_hard_at", TIME),
	VIEW("started_at", TIME),
	VIEW("hibernated_at", TIME),
	VIEW("system_fill", STR),
	VIEW("home_fill", STR),
	VIEW("paused_at", TIME),
	VIEW("error_id", STR),
	VIEW("error", STR),
	VIEW("error_ref", STR),
	VIEW("description", STR),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "user_id", "osf_id", "host_id",
	"tenant_id", "state", NULL };
/* A name without its user fits the VM's or the user's. */
static const struct db_stmt list = { "vm_list",
	"SELECT v.id, v.name, v.user_id, v.osf_id, v.tag, "
	"v.vm_group, host(v.address) AS address, v.blocked, v.desired, "
	"v.desired_at, "
	"v.desired_by, v.expire_soft_at, v.expire_hard_at, v.host_id, v.epoch, "
	"v.description, v.created_at, "
	"u.login AS user, t.name AS tenant, o.name AS osf, h.name AS host, "
	"u.login || '@' || t.name || '/' || v.name AS path, "
	"coalesce(r.state, 'stopped') AS state, r.state_at, r.step, "
	"coalesce(r.session, 'stopped') AS session, r.session_at, "
	"r.started_at, r.hibernated_at, r.system_fill, r.home_fill, "
	"r.paused_at, r.pid, r.error_id, r.error, r.error_ref, r.image_id, "
	"io.name || '/' || i.version AS image, "
	"coalesce(s.state, 'disconnected') AS link, "
	"CASE WHEN s.state <> 'disconnected' THEN s.client_address END "
	"AS client_address "
	"FROM vms v JOIN users u ON u.id = v.user_id "
	"JOIN tenants t ON t.id = u.tenant_id "
	"JOIN osfs o ON o.id = v.osf_id "
	"LEFT JOIN hosts h ON h.id = v.host_id "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"LEFT JOIN images i ON i.id = r.image_id "
	"LEFT JOIN osfs io ON io.id = i.osf_id "
	"LEFT JOIN sessions s ON s.vm_id = v.id "
	"WHERE ($1::int IS NULL OR v.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) "
	"AND ($3::text IS NULL OR u.login = $3::text) "
	"AND ($4::text IS NULL OR v.name = $4::text "
	"OR ($3::text IS NULL AND u.login = $4::text)) "
	"AND $5::text IS NULL "
	"AND ($6::int IS NULL OR v.user_id = $6::int) "
	"AND ($7::int IS NULL OR v.osf_id = $7::int) "
	"AND ($8::int IS NULL OR v.host_id = $8::int) "
	"AND ($9::int IS NULL OR u.tenant_id = $9::int) "
	"AND ($10::text IS NULL OR coalesce(r.state, 'stopped') = $10::text) "
	"ORDER BY t.name, u.login, v.name",
	10 };

static const char *const add[] = { "name", "user_id", "osf_id", "tag",
	"address", "blocked", "description", "vm_group", NULL };
static const char *const set[] = { "name", "tag", "blocked", "description",
	"vm_group", NULL };
static const struct db_stmt update = { "vm_update",
	"UPDATE vms SET name = coalesce($2, name), tag = coalesce($3, tag), "
	"blocked = coalesce($4::bool, blocked), "
	"description = nullif(coalesce($5, description), ''), "
	"vm_group = nullif(coalesce($6, vm_group), '') "
	"WHERE id = $1 RETURNING id",
	6 };
static const struct db_stmt in_use = { "vm_in_use",
	"SELECT 'it is ' || coalesce(CASE WHEN r.state <> 'stopped' "
	"THEN r.state END, 'to be running') || '; stop it first' AS what "
	"FROM vms v LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
	"WHERE v.id = $1 AND (r.state <> 'stopped' OR (v.desired = 'running' "
	"AND (r.epoch IS NULL OR r.epoch < v.epoch)))",
	1 };
static const struct db_stmt del = { "vm_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'vm' "
	"AND object_id = $1) "
	"DELETE FROM vms WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_vms = { "vms", "vm", "VM", view, &list, filters,
	vm_fields, sizeof(struct vm_row), add, NULL, set, &update, &in_use,
	&del, NULL };

/* Add: the address is chosen under a lock, in the same transaction. */

static const struct db_stmt lock_stmt = { "vm_add_lock",
	"SELECT pg_advisory_xact_lock(hashtext('qvd.vms.address'))", 0 };
static const struct db_stmt range_stmt = { "vm_add_range",
	"SELECT (SELECT value FROM configs WHERE tenant_id = 0 "
	"AND key = 'vm.network.gateway') AS gateway, "
	"(SELECT value FROM configs WHERE tenant_id = 0 "
	"AND key = 'vm.network.ip.start') AS start",
	0 };
static const struct db_stmt used_stmt = { "vm_add_used",
	"SELECT host(address) AS address FROM vms "
	"WHERE family(address) = 4 ORDER BY vms.address",
	0 };
static const struct db_stmt insert = { "vm_insert",
	"INSERT INTO vms (name, user_id, osf_id, tag, address, blocked, "
	"description, vm_group) SELECT coalesce($1, o.name), $2::int, $3::int, "
	"coalesce($4, 'default'), $5::inet, coalesce($6::bool, false), "
	"nullif($7, ''), nullif($8, '') FROM osfs o JOIN users u ON u.id = "
	"$2::int "
	"WHERE o.id = $3::int AND o.tenant_id = u.tenant_id RETURNING id",
	8 };

struct adding {
	struct vm_row row;
	struct ipv4_net net;
	uint32_t start;
	char address[IPV4_TEXT_MAX];
};

static void
on_add_commit(struct request *req, const struct db_result *res)
{
	respond_object(req, &resource_vms, req->id, 201);
}

static void
on_inserted(struct request *req, const struct db_result *res)
{
	if (db_rows(res) == 0) {
		respond_fail(req, ERR_NOT_FOUND,
		    "there is no such user or OSF, or they are of different "
		    "tenants");
		return;
	}
	req->id = db_i64(res, 0, "id");
	change_commit(
	    req, object_text(req, &resource_vms, req->id), on_add_commit);
}

static void
insert_vm(struct request *req)
{
	struct adding *a = req->data;
	struct db_params p = { .n = 0 };

	db_param_str(&p, a->row.name);
	db_param_i64(&p, a->row.user_id);
	db_param_i64(&p, a->row.osf_id);
	db_param_str(&p, a->row.tag);
	db_param_str(&p, a->address);
	db_param_bool(&p, a->row.blocked);
	db_param_str(&p, a->row.description);
	db_param_str(&p, a->row.vm_group);
	change_exec(req, &insert, &p, on_inserted);
}

static int
pick_address(struct adding *a, const struct db_result *res, struct err *err)
{
	size_t n = (size_t)db_rows(res), i;
	_cleanup_(freep)
	uint32_t *used = xcalloc(n + 1, sizeof(*used));
	struct ipv4_range range;
	uint32_t address;
	int r;

	for (i = 0; i < n; i++)
		ipv4_parse(db_str(res, (int)i, "address"), &used[i], NULL);
	if ((r = ipv4_vm_range(&a->net, a->start, &range, err)) < 0 ||
	    (r = ipv4_pick(&range, used, n, &address, err)) < 0)
		return r;
	ipv4_format(a->address, address);
	return 0;
}

static void
on_used(struct request *req, const struct db_result *res)
{
	struct err err = { 0 };

	if (pick_address(req->data, res, &err) < 0)
		respond_err(req, &err);
	else
		insert_vm(req);
}

/* An address that was asked for must be one of the desktops' network, and
 * not its gateway. */
static int
check_address(struct adding *a, struct err *err)
{
	uint32_t address;
	int r;

	if ((r = ipv4_parse(a->row.address, &address, err)) < 0)
		return r;
	if ((address & a->net.mask) != (a->net.address & a->net.mask) ||
	    address == a->net.address || (address & ~a->net.mask) == 0 ||
	    (address | a->net.mask) == ~0U)
		return err_set(err, ERR_PARAMETER,
		    "%s is no address for a VM in the network of "
		    "vm.network.gateway",
		    a->row.address);
	ipv4_format(a->address, address);
	return 0;
}

static const char *
config_value(const char *key, const char *value)
{
	const struct config_key *k = config_find(key);

	if (value != NULL && config_check(k, value, NULL) == 0)
		return value;
	return k->def;
}

static void
on_range(struct request *req, const struct db_result *res)
{
	const char *gateway =
	    config_value("vm.network.gateway", db_str(res, 0, "gateway"));
	const char *start =
	    config_value("vm.network.ip.start", db_str(res, 0, "start"));
	struct adding *a = req->data;
	struct err err = { 0 };
	struct db_params p = { .n = 0 };
	int r;

	r = ipv4_net_parse(gateway, &a->net, &err);
	if (r == 0 && start[0] != '\0')
		r = ipv4_parse(start, &a->start, &err);
	if (r == 0 && a->row.address != NULL)
		r = check_address(a, &err);
	if (r < 0)
		respond_err(req, &err);
	else if (a->row.address != NULL)
		insert_vm(req);
	else
		change_exec(req, &used_stmt, &p, on_used);
}

static void
on_locked(struct request *req, const struct db_result *res)
{
}

static void
on_add_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	change_exec(req, &lock_stmt, &p, on_locked);
	if (!req->failed)
		change_exec(req, &range_stmt, &p, on_range);
}

void
vm_add(struct request *req)
{
	struct adding *a = arena_new0(req->arena, struct adding);
	uint64_t seen;

	if (a == NULL || !resource_decode(req, add, true, &a->row, &seen))
		return;
	if (a->row.user_id <= 0 || a->row.osf_id <= 0) {
		respond_fail(
		    req, ERR_PARAMETER, "a VM needs user_id and osf_id");
		return;
	}
	req->data = a;
	change_begin(req, on_add_begun);
}
