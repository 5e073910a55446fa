/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A private PostgreSQL for tests: own directory under /tmp, unix socket only,
 * run as the OS user postgres. Test programs only; one cluster a program.
 */
#ifndef UNIT_DB_PG_H
#define UNIT_DB_PG_H

#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"

#define PG_BIN "/usr/lib/postgresql/15/bin/"

struct pg {
	char dir[64];
	char conninfo[128];
};

static inline int
pg_run(const char *const *argv)
{
	static const char *const as_postgres[] = { "/usr/bin/setpriv",
		"--reuid=postgres", "--regid=postgres", "--clear-groups" };
	const char *all[32];
	size_t n = 0, i;
	int status;
	pid_t pid;

	for (i = 0; i < ARRAY_SIZE(as_postgres); i++)
		all[n++] = as_postgres[i];
	for (i = 0; argv[i] != NULL && n < ARRAY_SIZE(all) - 1; i++)
		all[n++] = argv[i];
	all[n] = NULL;
	pid = fork();
	if (pid == 0) {
		union {
			const char **in;
			char **out;
		} u = { .in = all };

		if (freopen("/dev/null", "w", stdout) == NULL ||
		    freopen("/dev/null", "w", stderr) == NULL || chdir("/") < 0)
			_exit(126);
		execv(all[0], u.out);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline int
pg_start(const struct pg *pg)
{
	char opts[256], data[80], log[80];
	const char *argv[] = { PG_BIN "pg_ctl", "-D", data, "-w", "-s", "-l",
		log, "-o", opts, "start", NULL };

	snprintf(data, sizeof(data), "%s/data", pg->dir);
	snprintf(log, sizeof(log), "%s/log", pg->dir);
	snprintf(opts, sizeof(opts),
	    "-c listen_addresses='' -c unix_socket_directories=%s "
	    "-c fsync=off -c shared_buffers=32MB",
	    pg->dir);
	return pg_run(argv);
}

/* False (with the reason printed) where it can't be: then skip. */
static inline bool
pg_make(struct pg *pg)
{
	char data[80];
	const char *argv[] = { PG_BIN "initdb", "-D", data, "-A", "trust", "-U",
		"postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8",
		NULL };

	if (geteuid() != 0 || access(PG_BIN "initdb", X_OK) < 0) {
		print_message("# skipped: needs root and PostgreSQL 15\n");
		return false;
	}
	str_copy(pg->dir, sizeof(pg->dir), "/tmp/qvd-unit-pg-XXXXXX");
	if (mkdtemp(pg->dir) == NULL || chmod(pg->dir, 0777) < 0)
		return false;
	snprintf(data, sizeof(data), "%s/data", pg->dir);
	snprintf(pg->conninfo, sizeof(pg->conninfo),
	    "host=%s dbname=postgres user=postgres", pg->dir);
	assert_int_equal(pg_run(argv), 0);
	assert_int_equal(pg_start(pg), 0);
	return true;
}

static inline void
pg_stop(const struct pg *pg)
{
	char data[80];
	const char *argv[] = { PG_BIN "pg_ctl", "-D", data, "-w", "-s", "-m",
		"immediate", "stop", NULL };

	snprintf(data, sizeof(data), "%s/data", pg->dir);
	pg_run(argv);
}

static inline void
pg_kill(const struct pg *pg)
{
	_cleanup_(freep)
	char *text = NULL;
	char path[96];
	int pid = 0;

	snprintf(path, sizeof(path), "%s/data/postmaster.pid", pg->dir);
	assert_int_equal(fs_read_file(path, 4096, &text, NULL, NULL), 0);
	text[strcspn(text, "\n")] = '\0';
	assert_true(str_to_int(text, 2, INT32_MAX, &pid));
	kill(pid, SIGKILL);
}

static inline void
pg_free(const struct pg *pg)
{
	if (pg->dir[0] == '\0')
		return;
	pg_stop(pg);
	fs_remove_tree(pg->dir, NULL);
}

#endif
