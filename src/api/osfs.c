/* SPDX-License-Identifier: GPL-3.0-or-later */
/* OSFs. */
#include "api/api.h"
#include "model/rows.h"

static const struct field view[] = {
	VIEW("id", I64),
	VIEW("path", STR),
	VIEW("name", STR),
	VIEW("tenant", STR),
	VIEW("tenant_id", I64),
	VIEW("description", STR),
	VIEW("kind", STR),
	VIEW("hypervisor", STR),
	VIEW("root", STR),
	VIEW("memory_mb", I32),
	VIEW("swap_mb", I32),
	VIEW("cpu_percent", I32),
	VIEW("cpu_weight", I32),
	VIEW("io_weight", I32),
	VIEW("devices", STR),
	VIEW("machine", STR),
	VIEW("accel", STR),
	VIEW("pids_max", I32),
	VIEW("home_mb", I32),
	VIEW("egress", STR),
	VIEW("egress_kbit", I32),
	VIEW("idle_after_s", I32),
	VIEW("keep_images", I32),
	VIEW("images", I64),
	VIEW("vms", I64),
	VIEW("created_at", TIME),
	FIELD_END,
};

static const char *const filters[] = { "tenant_id", NULL };
static const struct db_stmt list = { "osf_list",
	"SELECT o.*, t.name AS tenant, o.name || '@' || t.name AS path, "
	"(SELECT count(*) FROM images i WHERE i.osf_id = o.id) AS images, "
	"(SELECT count(*) FROM vms v WHERE v.osf_id = o.id) AS vms "
	"FROM osfs o JOIN tenants t ON t.id = o.tenant_id "
	"WHERE ($1::int IS NULL OR o.id = $1::int) "
	"AND ($2::text IS NULL OR t.name = $2::text) AND $3::text IS NULL "
	"AND ($4::text IS NULL OR o.name = $4::text) AND $5::text IS NULL "
	"AND ($6::int IS NULL OR o.tenant_id = $6::int) "
	"ORDER BY t.name, o.name",
	6 };

static const char *const add[] = { "name", "tenant_id", "description", "kind",
	"hypervisor", "root", "memory_mb", "swap_mb", "cpu_percent",
	"cpu_weight", "pids_max", "home_mb", "egress", "egress_kbit",
	"idle_after_s", "keep_images", "io_weight", "devices", "machine",
	"accel", NULL };
static const char *const set[] = { "name", "description", "kind", "hypervisor",
	"root", "memory_mb", "swap_mb", "cpu_percent", "cpu_weight", "pids_max",
	"home_mb", "egress", "egress_kbit", "idle_after_s", "keep_images",
	"io_weight", "devices", "machine", "accel", NULL };
static const struct db_stmt insert = { "osf_insert",
	"INSERT INTO osfs (name, tenant_id, description, kind, hypervisor, "
	"root, memory_mb, swap_mb, cpu_percent, cpu_weight, pids_max, "
	"home_mb, egress, egress_kbit, idle_after_s, "
	"keep_images, io_weight, devices, machine, accel) VALUES ($1, "
	"coalesce($2::int, "
	"(SELECT id FROM tenants WHERE name = 'default'), "
	"(SELECT min(id) FROM tenants HAVING count(*) = 1)), "
	"nullif($3, ''), coalesce($4, 'desktop'), coalesce($5, 'lxc'), "
	"coalesce($6, 'persistent'), coalesce($7::int, 1024), "
	"coalesce($8::int, 0), coalesce($9::int, 0), "
	"coalesce($10::int, 100), coalesce($11::int, 2048), "
	"coalesce($12::int, 0), nullif($13, ''), nullif($14::int, -1), "
	"coalesce($15::int, 0), nullif($16::int, -1), "
	"coalesce($17::int, 100), nullif($18, ''), coalesce($19, 'node'), "
	"coalesce($20, 'node')) RETURNING id",
	20 };
static const struct db_stmt update = { "osf_update",
	"UPDATE osfs SET name = coalesce($2, name), "
	"description = nullif(coalesce($3, description), ''), "
	"kind = coalesce($4, kind), hypervisor = coalesce($5, hypervisor), "
	"root = coalesce($6, root), "
	"memory_mb = coalesce($7::int, memory_mb), "
	"swap_mb = coalesce($8::int, swap_mb), "
	"cpu_percent = coalesce($9::int, cpu_percent), "
	"cpu_weight = coalesce($10::int, cpu_weight), "
	"pids_max = coalesce($11::int, pids_max), "
	"home_mb = coalesce($12::int, home_mb), "
	"egress = nullif(coalesce($13, egress), ''), "
	"egress_kbit = nullif(coalesce($14::int, egress_kbit), -1), "
	"idle_after_s = coalesce($15::int, idle_after_s), "
	"keep_images = nullif(coalesce($16::int, keep_images), -1), "
	"io_weight = coalesce($17::int, io_weight), "
	"devices = nullif(coalesce($18, devices), ''), "
	"machine = coalesce($19, machine), accel = coalesce($20, accel) "
	"WHERE id = $1 RETURNING id",
	20 };
static const struct db_stmt in_use = { "osf_in_use",
	"SELECT 'VM ' || v.id || ' (' || u.login || '/' || v.name || ')' "
	"AS what FROM vms v JOIN users u ON u.id = v.user_id "
	"WHERE v.osf_id = $1 "
	"UNION ALL "
	"SELECT 'image ' || id || ' (' || version || ')' FROM images "
	"WHERE osf_id = $1",
	1 };
static const struct db_stmt del = { "osf_del",
	"WITH p AS (DELETE FROM properties WHERE kind = 'osf' "
	"AND object_id = $1) "
	"DELETE FROM osfs WHERE id = $1 RETURNING id",
	1 };

const struct resource resource_osfs = { "osfs", "osf", "OSF", view, &list,
	filters, osf_fields, sizeof(struct osf_row), add, &insert, set, &update,
	&in_use, &del, NULL };
