/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd db: the farm's schema, for whoever runs PostgreSQL. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "db/migrate.h"
#include "model/node_conf.h"

#define STATUS_TIME_MS 5000

static void
on_step(const char *file, void *arg)
{
	struct cli *cli = arg;

	if (!cli->quiet && !cli->json)
		printf("applied %s\n", file);
}

/* How to reach the database as the user that --user names. The string is the
 * caller's. */
static int
find_database(struct cli *cli, const struct values *values,
    struct node_conf *ret_conf, char **ret_conninfo, struct err *err)
{
	const char *user = value_get(values, "--user");
	int r = node_conf_load(cli->conf, ret_conf, err);

	if (r < 0)
		return r;
	*ret_conninfo =
	    node_conf_conninfo(ret_conf, user != NULL ? user : "qvd_owner");
	return 0;
}

static int
run_migrate(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(node_conf_done)
	struct node_conf conf = { 0 };
	_cleanup_(freep)
	char *conninfo = NULL;
	int version = 0, r;

	if ((r = find_database(cli, values, &conf, &conninfo, err)) < 0)
		return r;
	r = db_migrate(conninfo, conf.sql_dir, on_step, cli, &version, err);
	if (r < 0)
		return r;
	if (cli->json)
		printf("{\"schema\": %d}\n", version);
	else
		printf("the database has schema %d\n", version);
	return 0;
}

struct status {
	struct loop *loop;
	struct timer timer;
	int version; /* -1: no answer */
	struct err err;
};

static void
on_version(const struct db_result *res, const struct err *err, void *arg)
{
	struct status *s = arg;

	if (res != NULL)
		s->version = (int)db_i64(res, 0, "version");
	else
		s->err = *err;
	loop_stop(s->loop);
}

static void
on_status_up(struct db *db, void *arg)
{
	db_exec(db, &db_schema_stmt, NULL, 0, on_version, arg);
}

static void
on_status_down(struct db *db, const struct err *err, void *arg)
{
	struct status *s = arg;

	s->err = *err;
	loop_stop(s->loop);
}

static void
on_status_timeout(void *arg)
{
	struct status *s = arg;

	err_set(&s->err, ERR_TIMEOUT, "the database doesn't answer");
	loop_stop(s->loop);
}

static int
ask_version(const char *conninfo, int *ret, struct err *err)
{
	static const struct db_callbacks cbs = { .on_up = on_status_up,
		.on_down = on_status_down };
	struct db_conf conf = { .conninfo = conninfo,
		.program = "qvd db status" };
	struct status s = { .version = -1 };
	struct db *db;

	s.loop = loop_new();
	timer_init(&s.timer, s.loop, on_status_timeout, &s);
	timer_start(&s.timer, STATUS_TIME_MS);
	db = db_new(s.loop, &conf, &cbs, &s);
	loop_run(s.loop);
	timer_done(&s.timer);
	db_free(db);
	loop_free(s.loop);
	if (s.version < 0) {
		*err = s.err;
		return -(int)s.err.code;
	}
	*ret = s.version;
	return 0;
}

static int
run_status(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(node_conf_done)
	struct node_conf conf = { 0 };
	_cleanup_(freep)
	char *conninfo = NULL;
	int version = 0, r;

	if ((r = find_database(cli, values, &conf, &conninfo, err)) < 0)
		return r;
	if ((r = ask_version(conninfo, &version, err)) < 0)
		return r;
	if (cli->json)
		printf("{\"schema\": %d, \"program\": %d}\n", version,
		    DB_SCHEMA_VERSION);
	else
		printf("the database has schema %d; this program knows %d%s\n",
		    version, DB_SCHEMA_VERSION,
		    version < DB_SCHEMA_VERSION ? ": run 'qvd db migrate'"
						: "");
	return db_schema_check(version, err);
}

static const struct arg args[] = {
	{ "--user", ARG_TEXT, 0, .meta = "ROLE",
	    .doc = "the database user (default qvd_owner); to make the "
		   "roles the first time, one who may" },
	ARG_END,
};

static const struct command commands[] = {
	{ "migrate", run_migrate, args,
	    "Brings the database to the schema of this program",
	    "Uses [database] of node.conf. 'qvd up' does it by itself." },
	{ "status", run_status, args,
	    .summary = "Tells the schema's version; fails if it doesn't fit" },
	{ .verb = NULL },
};

const struct noun noun_db = { "db", NULL, NULL, commands,
	"the farm's database schema" };
