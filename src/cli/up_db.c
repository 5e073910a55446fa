/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `qvd up` does in the farm's database, as its owner. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/up.h"
#include "db/migrate.h"

/* A new farm gets the tenant of logins that name none. Nobody serves this
 * host's VMs yet, whatever an earlier run, which may have been killed, has left
 * in its row. */
static const struct db_stmt host_stmt = { "up_host",
	"WITH h AS (INSERT INTO qvd.hosts (name, address) VALUES ($1, $2) "
	"ON CONFLICT (name) DO UPDATE SET name = excluded.name "
	"RETURNING id), "
	"r AS (UPDATE qvd.host_runtimes SET state = 'stopped', "
	"state_at = now() WHERE host_id = (SELECT id FROM h) "
	"AND state <> 'stopped'), "
	"t AS (INSERT INTO qvd.tenants (name, idmap_slot) "
	"SELECT 'default', 0 WHERE NOT EXISTS (SELECT FROM qvd.tenants) "
	"ON CONFLICT DO NOTHING) "
	"SELECT id FROM h",
	2 };
static const struct db_stmt probe_stmt = { "up_probe",
	"SELECT 1 AS yes FROM qvd.host_runtimes "
	"WHERE host_id = $1 AND state = 'running'",
	1 };
static const struct db_stmt stop_stmt = { "up_stop_vms",
	"UPDATE qvd.vms SET desired = 'stopped', desired_at = now(), "
	"desired_by = 'the end of qvd up' "
	"WHERE host_id = $1 AND (desired = 'running' OR (desired = 'suspended' "
	"AND EXISTS (SELECT FROM qvd.vm_runtimes r WHERE r.vm_id = vms.id "
	"AND r.state IN ('starting', 'running'))))",
	1 };
static const struct db_stmt left_stmt = { "up_left_vms",
	"SELECT count(*) AS n FROM qvd.vm_runtimes WHERE host_id = $1 "
	"AND state NOT IN ('stopped', 'zombie', 'suspended')",
	1 };

static void
host_params(struct up *up, struct db_params *p)
{
	*p = (struct db_params){ .n = 0 };
	db_param_i64(p, up->host_id);
}

static void
on_host(const struct db_result *res, const struct err *err, void *arg)
{
	struct up *up = arg;

	if (res == NULL) {
		up_fail(up, err);
		return;
	}
	up->host_id = db_i64(res, 0, "id");
	up_prepared(up);
}

static void
on_migrated(const char *file, void *arg)
{
	log_info("database: applied %s", file);
}

static void
on_up(struct db *db, void *arg)
{
	struct up *up = arg;
	_cleanup_(freep)
	char *conninfo = NULL;
	struct db_params p = { .n = 0 };
	struct err err = { 0 };
	int version;

	if (up->phase == UP_STOP_VMS)
		up_db_stop_vms(up);
	if (up->prepared || up->phase != UP_STARTING)
		return;
	conninfo = node_conf_conninfo(&up->conf, "qvd_owner");
	if (db_migrate(conninfo, up->conf.sql_dir, on_migrated, NULL, &version,
		&err) < 0) {
		up_fail(up, &err);
		return;
	}
	db_param_str(&p, up->conf.name);
	db_param_str(&p, "127.0.0.1");
	db_exec(db, &host_stmt, &p, 0, on_host, up);
}

static void
on_left(const struct db_result *res, const struct err *err, void *arg)
{
	struct up *up = arg;

	up->asking = false;
	if (up->phase != UP_STOP_VMS)
		return;
	if (res == NULL) {
		log_err(LOG_LEVEL_WARN, err, "stop the desktops");
	} else {
		up_desktops_left(up, db_i64(res, 0, "n"));
	}
}

static void
ask_left(struct up *up)
{
	struct db_params p;

	host_params(up, &p);
	db_exec(up->db, &left_stmt, &p, 0, on_left, up);
}

static void
on_notify(struct db *db, const char *channel, const char *payload, void *arg)
{
	struct up *up = arg;

	if (up->phase == UP_STOP_VMS)
		ask_left(up);
}

static void
on_stop_sent(const struct db_result *res, const struct err *err, void *arg)
{
	struct up *up = arg;

	if (res == NULL)
		log_err(LOG_LEVEL_WARN, err, "stop the desktops");
	else
		ask_left(up);
}

void
up_db_stop_vms(struct up *up)
{
	struct db_params p;

	host_params(up, &p);
	db_exec(up->db, &stop_stmt, &p, 0, on_stop_sent, up);
}

static void
on_probe(const struct db_result *res, const struct err *err, void *arg)
{
	struct up *up = arg;

	up->asking = false;
	if (res != NULL && db_rows(res) > 0)
		up->hkd_running = true;
}

void
up_db_probe(struct up *up)
{
	struct db_params p;

	if (up->asking)
		return;
	up->asking = true;
	host_params(up, &p);
	db_exec(up->db, &probe_stmt, &p, 0, on_probe, up);
}

static void
on_down(struct db *db, const struct err *err, void *arg)
{
	struct up *up = arg;

	/* A private server is just starting, or its end is already told. */
	if (!up->private_pg)
		log_err(LOG_LEVEL_WARN, err, "database");
}

int
up_db_open(struct up *up, struct err *err)
{
	static const char *const channels[] = { "qvd_vm_runtimes", NULL };
	static const struct db_callbacks cbs = {
		.on_up = on_up, .on_down = on_down, .on_notify = on_notify
	};
	_cleanup_(freep)
	char *conninfo = node_conf_conninfo(&up->conf, "qvd_owner");
	struct db_conf conf = {
		.conninfo = conninfo, .program = "qvd up", .channels = channels
	};

	up->db = db_new(up->loop, &conf, &cbs, up);
	return 0;
}
