/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Migrations against a real PostgreSQL: roles, schema, order, refusals, and
 * what each role may do. */
#include "pg.h"

#include <libpq-fe.h>

#include "db/migrate.h"

static struct pg pg;
static int steps;

static void
count_step(const char *file, void *arg)
{
	steps++;
}

static int
setup(void **state)
{
	return 0;
}

static int
teardown(void **state)
{
	pg_free(&pg);
	return 0;
}

/* "" for success, else the SQLSTATE. */
static char *
try_as(const char *role, const char *sql)
{
	char info[256];
	static char code[8];
	PGconn *c;
	PGresult *res;

	snprintf(info, sizeof(info),
	    "host=%s dbname=postgres user=%s options='-c search_path=qvd'",
	    pg.dir, role);
	c = PQconnectdb(info);
	if (PQstatus(c) != CONNECTION_OK)
		fail_msg("%s", PQerrorMessage(c));
	res = PQexec(c, sql);
	code[0] = '\0';
	if (PQresultStatus(res) != PGRES_COMMAND_OK &&
	    PQresultStatus(res) != PGRES_TUPLES_OK)
		str_copy(code, sizeof(code),
		    PQresultErrorField(res, PG_DIAG_SQLSTATE));
	PQclear(res);
	PQfinish(c);
	return code;
}

#define DENIED "42501"

/* What each role may do, and what not. */
static const struct {
	const char *role, *sql, *code;
} tries[] = {
	{ "qvd_api",
	    "INSERT INTO tenants (name, idmap_slot) "
	    "VALUES ('t', 0)",
	    "" },
	{ "qvd_api",
	    "INSERT INTO users (tenant_id, login) "
	    "SELECT id, 'u' FROM tenants",
	    "" },
	{ "qvd_api",
	    "INSERT INTO hosts (name, address) "
	    "VALUES ('n1', '')",
	    "" },
	{ "qvd_api",
	    "INSERT INTO audit (actor, action) "
	    "VALUES ('root', 'x')",
	    "" },
	{ "qvd_api", "INSERT INTO vm_runtimes DEFAULT VALUES", DENIED },
	{ "qvd_api", "SELECT * FROM tokens", DENIED },
	{ "qvd_hkd", "SELECT id, login, uid FROM users", "" },
	{ "qvd_hkd", "SELECT password_hash FROM users", DENIED },
	{ "qvd_hkd",
	    "INSERT INTO host_runtimes (host_id) "
	    "SELECT id FROM hosts",
	    "" },
	{ "qvd_hkd", "UPDATE vms SET desired = 'stopped'", DENIED },
	{ "qvd_hkd",
	    "INSERT INTO events (name, text) "
	    "VALUES ('host.started', 'x')",
	    "" },
	{ "qvd_hkd", "DELETE FROM events", DENIED },
	{ "qvd_l7r", "SELECT password_hash FROM users", "" },
	{ "qvd_l7r",
	    "SELECT FROM vms, sessions, vm_runtimes "
	    "FOR UPDATE OF vms, sessions",
	    "" },
	{ "qvd_l7r", "UPDATE vms SET name = 'x'", DENIED },
	{ "qvd_l7r", "UPDATE vm_runtimes SET state = 'stopped'", DENIED },
	{ "qvd_l7r",
	    "INSERT INTO users (tenant_id, login) "
	    "VALUES (1, 'x')",
	    DENIED },
	{ "qvd_l7r", "SELECT max(number) FROM migrations", "" },
	{ "qvd_hkd", "SELECT max(number) FROM migrations", "" },
	{ "qvd_api", "SELECT max(number) FROM migrations", "" },
	{ "qvd_l7r", "CREATE TABLE qvd.mine ()", DENIED },
};

static void
test_privileges(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tries); i++) {
		const char *code = try_as(tries[i].role, tries[i].sql);

		if (!str_eq(code, tries[i].code))
			fail_msg("%s: %s: '%s' instead of '%s'", tries[i].role,
			    tries[i].sql, code, tries[i].code);
	}
}

static void
write_sql(const char *name, const char *text)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/sql/%s", pg.dir, name);
	struct err err;

	assert_ok(fs_write_file(path, text, strlen(text), 0644, &err));
}

static void
test_migrate(void **state)
{
	_cleanup_(freep)
	char *dir = NULL;
	int version = 0;
	struct err err;

	if (!pg_make(&pg))
		skip();
	assert_ok(
	    db_migrate(pg.conninfo, SQL_DIR, count_step, NULL, &version, &err));
	assert_int_equal(version, DB_SCHEMA_VERSION);
	assert_int_equal(steps, version);
	assert_ok(
	    db_migrate(pg.conninfo, SQL_DIR, count_step, NULL, &version, &err));
	assert_int_equal(steps, version);
	test_privileges();

	/* A newer database; then a file changed after the fact. */
	dir = xasprintf("%s/sql", pg.dir);
	assert_ok(fs_mkdirs(dir, 0755, &err));
	assert_err(db_migrate(pg.conninfo, dir, NULL, NULL, &version, &err),
	    CONFIG, "holds no migration");
	write_sql("0001-farm.sql", "CREATE TABLE x ();");
	assert_err(db_migrate(pg.conninfo, dir, NULL, NULL, &version, &err),
	    CONFLICT, "0001-farm.sql was changed after it was applied");
}

static void
test_failed_migration(void **state)
{
	_cleanup_(freep)
	char *dir = NULL, *info = NULL;
	int version = 0;
	struct err err;

	if (pg.dir[0] == '\0')
		skip();
	assert_string_equal(try_as("postgres", "CREATE DATABASE second"), "");
	info = xasprintf("host=%s dbname=second user=postgres", pg.dir);
	dir = xasprintf("%s/sql", pg.dir);
	write_sql("0001-farm.sql", "CREATE TABLE x (a integer);");
	write_sql("0002-bad.sql", "CREATE TABLE y (); CREATE TABLE x ();");
	steps = 0;
	assert_err(db_migrate(info, dir, count_step, NULL, &version, &err),
	    INTERNAL, "apply 0002-bad.sql: ");
	assert_int_equal(steps, 1);
	/* Nothing of it is there; put right, it is applied. */
	write_sql("0002-bad.sql", "CREATE TABLE y ();");
	assert_ok(db_migrate(info, dir, count_step, NULL, &version, &err));
	assert_int_equal(steps, 2);
	assert_int_equal(version, 2);
	/* A program that knows only the first refuses this database. */
	write_sql("0002-bad.sql", "");
	_cleanup_(freep)
	char *second = xasprintf("%s/0002-bad.sql", dir);
	unlink(second);
	assert_err(db_migrate(info, dir, NULL, NULL, &version, &err), CONFLICT,
	    "newer than this program's 1");
}

static void
test_check(void **state)
{
	struct err err;

	assert_ok(db_schema_check(DB_SCHEMA_VERSION, &err));
	assert_err(
	    db_schema_check(DB_SCHEMA_VERSION + 1, &err), CONFIG, "upgrade");
	assert_err(db_schema_check(0, &err), CONFIG, "qvd db migrate");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migrate),
		cmocka_unit_test(test_failed_migration),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
