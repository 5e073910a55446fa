/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tenants and hosts. */
#include "api/api.h"
#include "model/rows.h"

static const char *const no_filters[] = { NULL };

static const struct field tenant_view[] = {
	VIEW("id", I64),
	VIEW("name", STR),
	VIEW("description", STR),
	VIEW("blocked", BOOL),
	VIEW("users", I64),
	VIEW("vms", I64),
	VIEW("idmap_slot", I32),
	VIEW("egress", STR),
	VIEW("egress_kbit", I32),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const struct db_stmt tenant_list = { "tenant_list",
	"SELECT t.*, "
	"(SELECT count(*) FROM users u WHERE u.tenant_id = t.id) AS users, "
	"(SELECT count(*) FROM vms v JOIN users u ON u.id = v.user_id "
	"WHERE u.tenant_id = t.id) AS vms "
	"FROM tenants t WHERE ($1::int IS NULL OR t.id = $1::int) "
	"AND $2::text IS NULL AND $3::text IS NULL "
	"AND ($4::text IS NULL OR t.name = $4::text) "
	"AND $5::text IS NULL ORDER BY t.name",
	5 };

static const char *const tenant_add[] = { "name", "description", "blocked",
	"egress", "egress_kbit", NULL };
/* With a range of host user ids that no tenant has, nor had lately. */
static const struct db_stmt tenant_insert = { "tenant_insert",
	"INSERT INTO tenants (name, description, blocked, egress, "
	"egress_kbit, idmap_slot) "
	"VALUES ($1, nullif($2, ''), coalesce($3::bool, false), "
	"nullif($4, ''), nullif($5::int, -1), "
	"pick_idmap_slot()) RETURNING id",
	5 };
static const struct db_stmt tenant_update = { "tenant_update",
	"UPDATE tenants SET name = coalesce($2, name), "
	"description = nullif(coalesce($3, description), ''), "
	"blocked = coalesce($4::bool, blocked), "
	"egress = nullif(coalesce($5, egress), ''), "
	"egress_kbit = nullif(coalesce($6::int, egress_kbit), -1) "
	"WHERE id = $1 RETURNING id",
	6 };
static const struct db_stmt tenant_in_use = { "tenant_in_use",
	"SELECT 'user ' || login AS what FROM users WHERE tenant_id = $1 "
	"UNION ALL "
	"SELECT 'OSF ' || name FROM osfs WHERE tenant_id = $1",
	1 };
static const struct db_stmt tenant_del = { "tenant_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'tenant' "
	"AND object_id = $1), "
	"c AS (DELETE FROM configs WHERE tenant_id = $1) "
	"DELETE FROM tenants WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_tenants = { "tenants", "tenant", "tenant",
	tenant_view, &tenant_list, no_filters, tenant_fields,
	sizeof(struct tenant_row), tenant_add, &tenant_insert, tenant_add,
	&tenant_update, &tenant_in_use, &tenant_del, NULL };

static const struct field host_view[] = {
	VIEW("id", I64),
	VIEW("name", STR),
	VIEW("address", STR),
	VIEW("blocked", BOOL),
	VIEW("state", STR),
	VIEW("state_at", TIME),
	VIEW("lease_until", TIME),
	VIEW("vms", I64),
	VIEW("running", I64),
	VIEW("cpus", I32),
	VIEW("memory_bytes", I64),
	VIEW("version", STR),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const struct db_stmt host_list = { "host_list",
	"SELECT h.*, coalesce(r.state, 'stopped') AS state, r.state_at, "
	"r.lease_until, r.memory_bytes, r.cpus, r.version, "
	"(SELECT count(*) FROM vms v WHERE v.host_id = h.id) AS vms, "
	"(SELECT count(*) FROM vm_runtimes m WHERE m.host_id = h.id "
	"AND m.state <> 'stopped') AS running "
	"FROM hosts h LEFT JOIN host_runtimes r ON r.host_id = h.id "
	"WHERE ($1::int IS NULL OR h.id = $1::int) "
	"AND $2::text IS NULL AND $3::text IS NULL "
	"AND ($4::text IS NULL OR h.name = $4::text) "
	"AND $5::text IS NULL ORDER BY h.name",
	5 };

static const char *const host_add[] = { "name", "address", "blocked", NULL };
static const char *const host_set[] = { "address", "blocked", NULL };
static const struct db_stmt host_insert = { "host_insert",
	"INSERT INTO hosts (name, address, blocked) "
	"VALUES ($1, $2, coalesce($3::bool, false)) RETURNING id",
	3 };
static const struct db_stmt host_update = { "host_update",
	"UPDATE hosts SET address = coalesce($2, address), "
	"blocked = coalesce($3::bool, blocked) WHERE id = $1 RETURNING id",
	3 };
static const struct db_stmt host_in_use = { "host_in_use",
	"SELECT 'it is ' || state AS what FROM host_runtimes "
	"WHERE host_id = $1 AND state <> 'stopped' "
	"UNION ALL "
	"SELECT 'VM ' || v.id || ' (' || u.login || '/' || v.name || ')' "
	"FROM vms v JOIN users u ON u.id = v.user_id WHERE v.host_id = $1 "
	"UNION ALL "
	"SELECT 'the last run of VM ' || vm_id FROM vm_runtimes "
	"WHERE host_id = $1 AND vm_id NOT IN "
	"(SELECT id FROM vms WHERE host_id = $1)",
	1 };
static const struct db_stmt host_del = { "host_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'host' "
	"AND object_id = $1) "
	"DELETE FROM hosts WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_hosts = { "hosts", "host", "host", host_view,
	&host_list, no_filters, host_fields, sizeof(struct host_row), host_add,
	&host_insert, host_set, &host_update, &host_in_use, &host_del, NULL };
