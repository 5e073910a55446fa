/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "db/migrate.h"

#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "db/db_priv.h"

#define FILE_BYTES_MAX (1024 * 1024)
/* Any number will do, as long as it is always the same. */
#define ADVISORY_LOCK "5707283"

const struct db_stmt db_schema_stmt = { "schema_version",
	"SELECT coalesce(max(number), 0) AS version FROM migrations", 0 };

struct migration {
	PGconn *pg;
	const char *sql_dir;
	void (*on_step)(const char *file, void *arg);
	void *arg;
	int version;
};

static void
clear_resultp(PGresult **res)
{
	PQclear(*res);
}

static void
finishp(PGconn **pg)
{
	PQfinish(*pg);
}

static void
no_notice(void *arg, const char *text)
{
}

static int
run(PGconn *pg, const char *sql, const char *what, struct err *err)
{
	_cleanup_(clear_resultp)
	PGresult *res = PQexec(pg, sql);
	ExecStatusType status = PQresultStatus(res);

	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
		return 0;
	return err_wrap(err, result_err(res, err), "%s", what);
}

/* The roles belong to the whole server: another database of it may be making
 * them at the same time. */
static const char make_roles[] =
    "DO $$ DECLARE r text; BEGIN "
    "FOREACH r IN ARRAY ARRAY['qvd_owner','qvd_l7r','qvd_hkd','qvd_api'] "
    "LOOP IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN "
    "BEGIN EXECUTE format('CREATE ROLE %I LOGIN', r); "
    "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END; "
    "END IF; END LOOP; END $$";

static const char make_schema[] =
    "DO $$ BEGIN "
    "IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'qvd') THEN "
    "CREATE SCHEMA qvd AUTHORIZATION qvd_owner; END IF; END $$";

static const char become_owner[] =
    "DO $$ BEGIN IF current_user <> 'qvd_owner' THEN "
    "EXECUTE 'SET ROLE qvd_owner'; END IF; END $$";

static const char make_table[] =
    "CREATE TABLE IF NOT EXISTS qvd.migrations ("
    "number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, "
    "applied_at timestamptz NOT NULL DEFAULT now())";

static int
prepare(PGconn *pg, struct err *err)
{
	static const struct {
		const char *sql, *what;
	} steps[] = {
		{ "SELECT pg_advisory_lock(" ADVISORY_LOCK ")",
		    "wait for another migration" },
		{ make_roles, "make the roles qvd_owner, qvd_l7r, qvd_hkd, "
			      "qvd_api" },
		{ make_schema, "make the schema qvd" },
		{ become_owner, "become qvd_owner" },
		{ "SET search_path = qvd", "use the schema qvd" },
		{ make_table, "make the table of migrations" },
	};
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(steps); i++)
		if ((r = run(pg, steps[i].sql, steps[i].what, err)) < 0)
			return r;
	return 0;
}

/* The answer's first value, or NULL if it has no row. */
static int
ask(PGconn *pg, const char *sql, int n, const char *const *params, char **ret,
    struct err *err)
{
	_cleanup_(clear_resultp)
	PGresult *res = PQexecParams(pg, sql, n, NULL, params, NULL, NULL, 0);

	if (PQresultStatus(res) != PGRES_TUPLES_OK &&
	    PQresultStatus(res) != PGRES_COMMAND_OK)
		return result_err(res, err);
	*ret = PQntuples(res) > 0 ? xstrdup(PQgetvalue(res, 0, 0)) : NULL;
	return 0;
}

/* True if it is applied already, unchanged. */
static int
is_applied(struct migration *m, const char *file, const char *number,
    const char *sha, bool *ret, struct err *err)
{
	_cleanup_(freep)
	char *was = NULL;
	const char *params[] = { number };
	int r;

	r = ask(m->pg, "SELECT sha256 FROM migrations WHERE number = $1", 1,
	    params, &was, err);
	if (r < 0)
		return r;
	if (was != NULL && !str_eq(was, sha))
		return err_set(err, ERR_CONFLICT,
		    "%s was changed after it was applied to this database; "
		    "put it back, and make a new migration of the change",
		    file);
	*ret = was != NULL;
	return 0;
}

static int
apply_steps(struct migration *m, const char *file, const char *text,
    const char *const *row, struct err *err)
{
	_cleanup_(freep)
	char *none = NULL;
	int r;

	if ((r = run(m->pg, "BEGIN", file, err)) < 0 ||
	    (r = run(m->pg, text, file, err)) < 0 ||
	    (r = ask(m->pg,
		 "INSERT INTO qvd.migrations (number, name, "
		 "sha256) VALUES ($1, $2, $3)",
		 3, row, &none, err)) < 0)
		return r;
	return run(m->pg, "COMMIT", file, err);
}

static int
apply(struct migration *m, const char *file, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", m->sql_dir, file);
	_cleanup_(freep)
	char *text = NULL, *sha = NULL;
	const char *row[3], *sha_of[1];
	char number[5];
	bool applied;
	int r, n;

	if ((r = fs_read_file(path, FILE_BYTES_MAX, &text, NULL, err)) < 0)
		return r;
	sha_of[0] = text;
	r = ask(m->pg, "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')",
	    1, sha_of, &sha, err);
	if (r < 0)
		return err_wrap(err, r, "%s", file);
	memcpy(number, file, 4);
	number[4] = '\0';
	if (!str_to_int(number, 1, 9999, &n))
		return err_set(err, ERR_CONFIG,
		    "%s: there is no migration "
		    "0000",
		    path);
	r = is_applied(m, file, number, sha, &applied, err);
	if (r < 0)
		return r;
	m->version = n;
	if (applied)
		return 0;
	row[0] = number;
	row[1] = file;
	row[2] = sha;
	if ((r = apply_steps(m, file, text, row, err)) < 0) {
		run(m->pg, "ROLLBACK", "roll back", NULL);
		return err_wrap(err, r, "apply %s", file);
	}
	if (m->on_step != NULL)
		m->on_step(file, m->arg);
	return 0;
}

/* NNNN-name.sql */
static int
is_migration(const struct dirent *d)
{
	return strspn(d->d_name, "0123456789") == 4 && d->d_name[4] == '-' &&
	       str_ends(d->d_name, ".sql");
}

static int
apply_all(struct migration *m, struct err *err)
{
	struct dirent **files;
	int i, n, r = 0;

	n = scandir(m->sql_dir, &files, is_migration, alphasort);
	if (n < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "read the migrations in %s", m->sql_dir);
	for (i = 0; i < n; i++) {
		if (r == 0)
			r = apply(m, files[i]->d_name, err);
		free(files[i]);
	}
	free(files);
	if (n == 0)
		return err_set(err, ERR_CONFIG,
		    "%s holds no migration (NNNN-name.sql)", m->sql_dir);
	return r;
}

/* A database that a newer version made is left alone. */
static int
check_newer(struct migration *m, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	int r, newest = 0;

	r = ask(m->pg, "SELECT coalesce(max(number), 0) FROM migrations", 0,
	    NULL, &text, err);
	if (r < 0)
		return r;
	str_to_int(text, 0, 9999, &newest);
	if (newest > m->version)
		return err_set(err, ERR_CONFLICT,
		    "the database has schema %d, newer than this program's "
		    "%d; use the newer program",
		    newest, m->version);
	return 0;
}

int
db_migrate(const char *conninfo, const char *sql_dir,
    void (*on_step)(const char *file, void *arg), void *arg, int *ret_version,
    struct err *err)
{
	_cleanup_(finishp)
	PGconn *pg = PQconnectdb(conninfo);
	struct migration m = { pg, sql_dir, on_step, arg, 0 };
	int r;

	if (PQstatus(pg) != CONNECTION_OK)
		return conn_err(pg, "connect to the database", err);
	PQsetNoticeProcessor(pg, no_notice, NULL);
	PQsetClientEncoding(pg, "UTF8");
	if ((r = prepare(pg, err)) < 0 || (r = apply_all(&m, err)) < 0 ||
	    (r = check_newer(&m, err)) < 0)
		return err_wrap(err, r, "migrate the database");
	*ret_version = m.version;
	return 0;
}

int
db_schema_check(int version, struct err *err)
{
	if (version > DB_SCHEMA_VERSION)
		return err_set(err, ERR_CONFIG,
		    "the database has schema %d, newer than this program's "
		    "%d; upgrade this node",
		    version, DB_SCHEMA_VERSION);
	if (version < DB_SCHEMA_VERSION - 1 || version < 1)
		return err_set(err, ERR_CONFIG,
		    "the database has schema %d, this program needs %d; run "
		    "'qvd db migrate'",
		    version, DB_SCHEMA_VERSION);
	return 0;
}
