/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a node needs before anything can start: node.conf, folders, the lock
 * against a second `qvd up`, a certificate. What is there is left alone. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/up.h"
#include "net/tls.h"

#define CERTIFICATE_DAYS 3650

/* An absolute path of a folder that need not exist yet; heap. */
static char *
absolute(const char *path)
{
	char cwd[PATH_MAX];

	if (path[0] == '/' || getcwd(cwd, sizeof(cwd)) == NULL)
		return xstrdup(path);
	return xasprintf("%s/%s", cwd, path);
}

/* Where the daemons are: where they are installed if this program is, else
 * beside it, as in a build's folder of programs. */
static char *
find_programs(void)
{
	char self[PATH_MAX], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	if ((slash = strrchr(self, '/')) == NULL)
		return xstrdup(QVD_LIBEXECDIR);
	*slash = '\0';
	return xstrdup(str_eq(self, QVD_BINDIR) ? QVD_LIBEXECDIR : self);
}

/* The migrations: installed, or those of the tree that this was built of. */
static const char *
find_sql(const char *programs)
{
	return str_eq(programs, QVD_LIBEXECDIR) ? QVD_SQLDIR : QVD_SOURCE_SQL;
}

static int
write_conf(struct up *up, const char *data, const char *run, struct err *err)
{
	const struct up_options *o = &up->options;
	_cleanup_(freep)
	char *programs = find_programs();
	_cleanup_(buf_done)
	struct buf text = BUF(65536);

	buf_printf(&text, "; Made by 'qvd up'; it is not changed when it is "
			  "there. See qvd-node.conf(5).\n[node]\n");
	if (o->name != NULL)
		buf_printf(&text, "name = %s\n", o->name);
	if (o->cgroup != NULL)
		buf_printf(&text, "cgroup = %s\n", o->cgroup);
	if (o->netns != NULL)
		buf_printf(&text, "netns = %s\n", o->netns);
	buf_printf(&text,
	    "\n[database]\nconninfo = host=%s/pg dbname=qvd\n"
	    "\n[tls]\ncert = %s/tls/cert.pem\nkey = %s/tls/key.pem\n"
	    "\n[paths]\nrun = %s\ndata = %s\nprograms = %s\nsql = %s\n",
	    run, data, data, run, data, programs, find_sql(programs));
	if (o->listen != NULL)
		buf_printf(&text, "\n[l7r]\nlisten = %s\n", o->listen);
	log_info("writing %s", up->conf_path);
	return fs_write_file(
	    up->conf_path, buf_head(&text), buf_len(&text), 0644, err);
}

/* An option can't contradict a node.conf that is there. */
static int
check_option(struct up *up, const char *option, const char *want,
    const char *have, struct err *err)
{
	if (want == NULL || str_eq(want, have))
		return 0;
	return err_set(err, ERR_CONFIG,
	    "%s says '%s', %s says '%s'; change the file or leave the option "
	    "out",
	    option, want, up->conf_path, have);
}

static int
check_options(struct up *up, const char *data, const char *run, struct err *err)
{
	const struct up_options *o = &up->options;
	const struct node_conf *c = &up->conf;
	int r;

	if ((r = check_option(up, "--data", o->data != NULL ? data : NULL,
		 c->data_dir, err)) < 0 ||
	    (r = check_option(up, "--run", o->run != NULL ? run : NULL,
		 c->run_dir, err)) < 0 ||
	    (r = check_option(up, "--listen", o->listen, c->listen, err)) < 0 ||
	    (r = check_option(up, "--name", o->name, c->name, err)) < 0 ||
	    (r = check_option(up, "--netns", o->netns, c->netns, err)) < 0)
		return r;
	return check_option(up, "--cgroup", o->cgroup, c->cgroup, err);
}

int
up_configure(struct up *up, struct err *err)
{
	const struct up_options *o = &up->options;
	_cleanup_(freep)
	char *data = absolute(o->data != NULL ? o->data : "/var/lib/qvd");
	_cleanup_(freep)
	char *run = NULL;
	_cleanup_(freep)
	char *pg = NULL;
	_cleanup_(freep)
	char *folder = NULL;
	int r;

	if (o->run != NULL)
		run = absolute(o->run);
	else
		run = o->data != NULL ? xasprintf("%s/run", data)
				      : xstrdup("/run/qvd");
	if (o->conf != NULL)
		up->conf_path = absolute(o->conf);
	else
		up->conf_path = o->data != NULL
				    ? xasprintf("%s/node.conf", data)
				    : xstrdup("/etc/qvd/node.conf");
	if (!fs_exists(up->conf_path)) {
		folder = xstrndup(up->conf_path,
		    (size_t)(strrchr(up->conf_path, '/') - up->conf_path));
		if ((r = fs_mkdirs(folder, 0755, err)) < 0 ||
		    (r = write_conf(up, data, run, err)) < 0)
			return r;
	}
	if ((r = node_conf_load(up->conf_path, &up->conf, err)) < 0 ||
	    (r = check_options(up, data, run, err)) < 0)
		return r;
	pg = node_conf_run_path(&up->conf, "pg");
	up->private_pg = strstr(up->conf.database, pg) != NULL;
	up->services[SERVICE_PG].wanted = up->private_pg;
	return 0;
}

int
up_lock(struct up *up, struct err *err)
{
	_cleanup_(freep)
	char *path = node_conf_data_path(&up->conf, "up.lock");

	up->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (up->lock_fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	if (flock(up->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, ERR_CONFLICT,
		    "another 'qvd up' runs the farm in %s; end it first",
		    up->conf.data_dir);
	return 0;
}

int
up_folders(struct up *up, struct err *err)
{
	/* PostgreSQL's socket path may have 107 bytes. */
	static const size_t run_max = 80;
	struct proc_user user;
	int r;

	/* Missing users are better said now than by a failing daemon. */
	if ((up->services[SERVICE_API].wanted &&
		(r = proc_find_user("qvd-api", &user, err)) < 0) ||
	    (up->services[SERVICE_HKD].wanted &&
		(r = proc_find_user("qvd-hkd", &user, err)) < 0) ||
	    (up->services[SERVICE_L7R].wanted &&
		(r = proc_find_user("qvd-l7r", &user, err)) < 0))
		return r;
	if (strlen(up->conf.run_dir) > run_max)
		return err_set(err, ERR_CONFIG,
		    "%s is too long for sockets in it: at most %zu bytes",
		    up->conf.run_dir, run_max);
	if ((r = fs_mkdirs(up->conf.data_dir, 0755, err)) < 0)
		return r;
	return fs_mkdirs(up->conf.run_dir, 0755, err);
}

static int
make_certificate(struct up *up, struct err *err)
{
	char host[256] = "";
	const char *names[] = { up->conf.name, host, "localhost", "127.0.0.1",
		"::1", NULL };
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	int r;

	if (gethostname(host, sizeof(host) - 1) < 0 || host[0] == '\0' ||
	    str_eq(host, up->conf.name))
		str_copy(host, sizeof(host), "qvd.local");
	log_info("making a self-signed certificate in %s", up->conf.cert);
	r = tls_self_signed(names, CERTIFICATE_DAYS, &cert, &key, err);
	if (r < 0 ||
	    (r = fs_write_file(up->conf.key, key, strlen(key), 0600, err)) < 0)
		return r;
	return fs_write_file(up->conf.cert, cert, strlen(cert), 0644, err);
}

int
up_certificate(struct up *up, struct err *err)
{
	bool cert = fs_exists(up->conf.cert), key = fs_exists(up->conf.key);
	const char *slash = strrchr(up->conf.key, '/');
	_cleanup_(freep)
	char *folder = NULL;
	int r;

	if (cert && key)
		return 0;
	if (cert)
		return err_set(err, ERR_CONFIG,
		    "%s is there, but its key %s is not; put the key there, "
		    "or remove the certificate to get a new one",
		    up->conf.cert, up->conf.key);
	if (slash == NULL || up->conf.cert[0] != '/')
		return err_set(err, ERR_CONFIG,
		    "%s: cert and key of [tls] must be absolute paths",
		    up->conf_path);
	folder = xstrndup(up->conf.key, (size_t)(slash - up->conf.key));
	if ((r = fs_mkdirs(folder, 0755, err)) < 0)
		return r;
	return make_certificate(up, err);
}
