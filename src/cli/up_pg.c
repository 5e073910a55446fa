/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The private PostgreSQL of a farm of one node: a cluster in <data>/pg,
 * reached only over a unix socket in <run>/pg, where the kernel says who
 * asks. It is made, roles and database included, in a folder beside its
 * place and appears there whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <poll.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/up.h"

#define VERSIONS_DIR    "/usr/lib/postgresql"
#define VERSION_MIN     13
#define PROGRAM_TIME_MS (5 * 60 * 1000)
#define ORPHAN_FAST_MS  30000
#define ORPHAN_QUICK_MS 10000

/* The OS users of the daemons are their roles; root is all of them. */
static const char ident_conf[] = "# Written by 'qvd up'.\n"
				 "qvd root qvd_owner\n"
				 "qvd root qvd_l7r\n"
				 "qvd root qvd_hkd\n"
				 "qvd root qvd_api\n"
				 "qvd root postgres\n"
				 "qvd postgres postgres\n"
				 "qvd qvd-l7r qvd_l7r\n"
				 "qvd qvd-hkd qvd_hkd\n"
				 "qvd qvd-api qvd_api\n";
static const char hba_conf[] = "# Written by 'qvd up'.\n"
			       "local all all peer map=qvd\n";
/* One statement a line: the single-user server's syntax. */
static const char bootstrap_sql[] = "CREATE ROLE qvd_owner LOGIN\n"
				    "CREATE ROLE qvd_l7r LOGIN\n"
				    "CREATE ROLE qvd_hkd LOGIN\n"
				    "CREATE ROLE qvd_api LOGIN\n"
				    "CREATE DATABASE qvd OWNER qvd_owner\n";

/* A blocking run of one of PostgreSQL's programs. */
struct program {
	struct loop *loop;
	int status;
	bool timed_out;
};

static void
on_program_end(struct child *child, int status, bool timed_out, void *arg)
{
	struct program *p = arg;

	p->status = status;
	p->timed_out = timed_out;
	loop_stop(p->loop);
}

static int
run_program(struct up *up, const char *name, const char **argv, int in_fd,
    struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", up->pg_bin, name);
	const char *envp[] = { "PATH=/usr/bin:/bin", "HOME=/nonexistent",
		"LC_ALL=C", NULL };
	struct child_spec spec = { .path = path,
		.argv = argv,
		.envp = envp,
		.fds = { in_fd, -1 },
		.n_fds = 2,
		.set_user = true,
		.uid = up->postgres.uid,
		.gid = up->postgres.gid,
		.deadline_ms = PROGRAM_TIME_MS,
		.parent_death_signal = SIGKILL };
	struct program p = { .loop = up->loop };

	argv[0] = path; /* they look for each other beside themselves */
	if (child_spawn(up->loop, &spec, on_program_end, &p, err) == NULL)
		return -(int)err->code;
	loop_run(up->loop);
	return child_status_err(name, p.status, p.timed_out, err);
}

/* The folder of the programs of the cluster's version, or of the newest. */
static int
find_pg(struct up *up, const char *cluster, struct err *err)
{
	_cleanup_(freep)
	char *file = xasprintf("%s/PG_VERSION", cluster);
	_cleanup_(freep)
	char *text = NULL;
	struct dirent *e;
	int version = 0, v;
	DIR *dir;

	if (fs_exists(file)) {
		if (fs_read_file(file, 64, &text, NULL, err) < 0)
			return -(int)err->code;
		text[strcspn(text, "\n")] = '\0';
		str_to_int(text, 1, 999, &version);
	} else if ((dir = opendir(VERSIONS_DIR)) != NULL) {
		while ((e = readdir(dir)) != NULL)
			if (str_to_int(e->d_name, VERSION_MIN, 999, &v) &&
			    v > version)
				version = v;
		closedir(dir);
	}
	up->pg_bin = xasprintf("%s/%d/bin", VERSIONS_DIR, version);
	if (version == 0 || !fs_exists(up->pg_bin))
		return err_set(err, ERR_CONFIG,
		    "PostgreSQL%s is not installed; install the package "
		    "postgresql%s%s",
		    text != NULL ? " of the farm's version" : "",
		    text != NULL ? "-" : "", text != NULL ? text : "");
	return 0;
}

static int
own_folder(struct up *up, const char *path, mode_t mode, struct err *err)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	if (chown(path, up->postgres.uid, up->postgres.gid) < 0 ||
	    chmod(path, mode) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "give %s to postgres", path);
	return 0;
}

static int
bootstrap(struct up *up, const char *dir, struct err *err)
{
	const char *argv[] = { NULL, "--single", "-D", dir, "-c",
		"exit_on_error=on", "-c", "log_checkpoints=off", "postgres",
		NULL };
	_cleanup_(closep)
	int fd = memfd_create("bootstrap.sql", MFD_CLOEXEC);
	ssize_t len = (ssize_t)strlen(bootstrap_sql);

	if (fd < 0 || write(fd, bootstrap_sql, (size_t)len) != len ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "memfd");
	return run_program(up, "postgres", argv, fd, err);
}

static int
make_cluster(struct up *up, const char *cluster, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s.new", cluster);
	const char *argv[] = { NULL, "-D", dir, "-U", "postgres", "-A", "peer",
		"-E", "UTF8", "--locale=C.UTF-8", NULL };
	int r;

	log_info("making the database in %s", cluster);
	if ((r = fs_remove_tree(dir, err)) < 0 ||
	    (r = own_folder(up, dir, 0700, err)) < 0 ||
	    (r = run_program(up, "initdb", argv, -1, err)) < 0 ||
	    (r = bootstrap(up, dir, err)) < 0)
		return err_wrap(err, r, "make the database");
	if (rename(dir, cluster) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", dir);
	return 0;
}

static int
write_conf(struct up *up, const char *cluster, const char *name,
    const char *text, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", cluster, name);
	int r;

	if ((r = fs_write_file(path, text, strlen(text), 0600, err)) < 0)
		return r;
	if (chown(path, up->postgres.uid, up->postgres.gid) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "give %s to postgres", path);
	return 0;
}

/* Whether the pid is a server of this cluster: its folder is its cwd. */
static bool
serves(pid_t pid, const char *cluster)
{
	char link[64], cwd[PATH_MAX], real[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/cwd", (int)pid);
	n = readlink(link, cwd, sizeof(cwd) - 1);
	if (n < 0 || realpath(cluster, real) == NULL)
		return false;
	cwd[n] = '\0';
	return str_eq(cwd, real);
}

static bool
wait_end(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/*
 * We hold the farm's lock, so a server that still serves the cluster lost
 * its `qvd up` and is ending, or was forgotten: it is ended. A lock file
 * whose pid is somebody else by now would keep PostgreSQL from starting.
 */
static int
end_orphan(const char *cluster, struct err *err)
{
	_cleanup_(freep)
	char *file = xasprintf("%s/postmaster.pid", cluster);
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(closep)
	int pidfd = -1;
	int pid;

	if (!fs_exists(file) || fs_read_file(file, 4096, &text, NULL, err) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	if (!str_to_int(text, 1, INT_MAX, &pid))
		return 0; /* PostgreSQL says what is wrong with it */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || !serves(pid, cluster)) {
		if (unlink(file) < 0 && errno != ENOENT)
			return err_errno(
			    err, ERR_SYSTEM, errno, "remove %s", file);
		return 0;
	}
	log_warn("ending a PostgreSQL that was left behind, pid %d", pid);
	kill(pid, SIGINT);
	if (wait_end(pidfd, ORPHAN_FAST_MS))
		return 0;
	kill(pid, SIGQUIT);
	if (wait_end(pidfd, ORPHAN_QUICK_MS))
		return 0;
	return err_set(err, ERR_CONFLICT,
	    "PostgreSQL, pid %d, still serves %s and doesn't end", pid,
	    cluster);
}

/* Nobody serves the cluster now. Its socket's lock file names a pid as well,
 * and a killed server that nobody has reaped yet still seems to live. */
static int
drop_socket(struct up *up, struct err *err)
{
	static const char *const names[] = { "pg/.s.PGSQL.5432.lock",
		"pg/.s.PGSQL.5432" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(freep)
		char *path = node_conf_run_path(&up->conf, names[i]);

		if (unlink(path) < 0 && errno != ENOENT)
			return err_errno(
			    err, ERR_SYSTEM, errno, "remove %s", path);
	}
	return 0;
}

int
pg_prepare(struct up *up, struct err *err)
{
	_cleanup_(freep)
	char *cluster = node_conf_data_path(&up->conf, "pg");
	_cleanup_(freep)
	char *sockets = node_conf_run_path(&up->conf, "pg");
	int r;

	if ((r = proc_find_user("postgres", &up->postgres, err)) < 0 ||
	    (r = find_pg(up, cluster, err)) < 0)
		return r;
	if (!fs_exists(cluster) && (r = make_cluster(up, cluster, err)) < 0)
		return r;
	if ((r = write_conf(up, cluster, "pg_ident.conf", ident_conf, err)) <
		0 ||
	    (r = write_conf(up, cluster, "pg_hba.conf", hba_conf, err)) < 0)
		return r;
	return own_folder(up, sockets, 0755, err);
}

struct child *
pg_spawn(struct up *up, child_cb cb, void *arg, struct err *err)
{
	_cleanup_(freep)
	char *cluster = node_conf_data_path(&up->conf, "pg");
	_cleanup_(freep)
	char *sockets =
	    xasprintf("unix_socket_directories=%s/pg", up->conf.run_dir);
	_cleanup_(freep)
	char *path = xasprintf("%s/postgres", up->pg_bin);
	const char *argv[] = { path, "-D", cluster, "-c", sockets, "-c",
		"listen_addresses=", "-c", "max_connections=200", "-c",
		"log_line_prefix=%m postgres[%p] ", "-c",
		"log_min_messages=log", "-c", "log_checkpoints=off", NULL };
	const char *envp[] = { "PATH=/usr/bin:/bin", "HOME=/nonexistent",
		"LC_ALL=C", NULL };
	/* INT is its fast shutdown: what it wrote is whole even when we are
	 * killed. */
	struct child_spec spec = { .path = path,
		.argv = argv,
		.envp = envp,
		.set_user = true,
		.uid = up->postgres.uid,
		.gid = up->postgres.gid,
		.parent_death_signal = SIGINT };

	if (end_orphan(cluster, err) < 0 || drop_socket(up, err) < 0)
		return NULL;
	return child_spawn(up->loop, &spec, cb, arg, err);
}
