/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The role parent: reads the node's configuration and certificate, binds the
 * port (one SO_REUSEPORT socket a worker, kept open here, so that clients
 * that come while a worker is being restarted wait in its queue), starts the
 * other roles, links them with each other, and starts again whoever ends. At
 * USR2 all are replaced: workers drain. Never reads a byte of a client or of
 * the database.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "l7r/roles.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "model/node_conf.h"
#include "net/listen.h"
#include "net/rpc.h"
#include "net/tls.h"

#define PEM_MAX          (256 * 1024)
#define BACKOFF_MIN_MS   50
#define BACKOFF_MAX_MS   10000
#define STEADY_MS        10000 /* lived so long: the next pause is short again */
#define STOP_MS          5000  /* for the children to end by themselves */
#define HKD_SOCKET       "hkd.sock"
#define EMPTY_DIRECTORY  "empty"
#define WORKER_INDEX_END 10000 /* as --index */

/* A process of a role, over all its restarts. */
struct proc {
	struct list link; /* on parent->drained, once it is replaced */
	struct parent *parent;
	const struct role *role;
	int index;
	int listen_fd; /* workers; -1 */
	struct child *child;
	struct rpc *rpc;
	struct timer restart;
	int64_t backoff_ms;
	int64_t started_ms;
	bool renewed; /* ends because it is to be started anew */
};

struct parent {
	struct loop *loop;
	const struct node_conf *conf;
	const char *program;
	char *empty; /* directory */
	char *cert_pem, *key_pem;
	struct proc **procs; /* the broker first */
	int n_procs, n_workers;
	struct list drained; /* workers that keep their relays, no more */
	int n_drained;
	int next_worker; /* index: no two that live have the same */
	struct sigwatch term, intr, hup, usr2;
	struct timer stop;
	bool stopping;
	int code;
};

static const struct rpc_op no_ops[] = { { .name = NULL } };

static void proc_start(struct proc *p);
static void restart_due(void *arg);

static int
read_key(const char *path, char **ret, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "key file '%s' of [tls] in node.conf", path);
	if ((st.st_mode & 0007) != 0)
		return err_set(err, ERR_CONFIG,
		    "key file '%s' can be read by everyone (mode %04o); run: "
		    "chmod 600 %s",
		    path, (unsigned)st.st_mode & 07777, path);
	return fs_read_file(path, PEM_MAX, ret, NULL, err);
}

/* Reads certificate and key and takes them if they fit together. */
static int
read_tls(struct parent *par, struct err *err)
{
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	struct tls_ctx *ctx;
	int r;

	if ((r = fs_read_file(par->conf->cert, PEM_MAX, &cert, NULL, err)) <
		0 ||
	    (r = read_key(par->conf->key, &key, err)) < 0)
		return r;
	if ((ctx = tls_ctx_new_server(cert, key, NULL, err)) == NULL)
		return err_wrap(err, -(int)err->code, "'%s' and '%s'",
		    par->conf->cert, par->conf->key);
	tls_ctx_unref(ctx);
	freep(&par->cert_pem);
	wipe_strp(&par->key_pem);
	par->cert_pem = take_ptr(cert);
	par->key_pem = take_ptr(key);
	return 0;
}

static void
tell_tls(struct proc *p)
{
	rpc_tell(p->rpc, "tls",
	    json_pack("{s:s, s:s}", "cert", p->parent->cert_pem, "key",
		p->parent->key_pem),
	    -1);
}

static void
tell_setup(struct proc *p)
{
	const struct node_conf *conf = p->parent->conf;
	_cleanup_(freep)
	char *conninfo = NULL;
	_cleanup_(freep)
	char *hkd = NULL;

	if (p->listen_fd >= 0) {
		rpc_tell(p->rpc, "setup", NULL,
		    fcntl(p->listen_fd, F_DUPFD_CLOEXEC, 0));
		tell_tls(p);
	} else if (str_eq(p->role->name, "broker")) {
		conninfo = node_conf_conninfo(conf, "qvd_l7r");
		hkd = node_conf_run_path(conf, HKD_SOCKET);
		rpc_tell(p->rpc, "setup",
		    json_pack("{s:s, s:s, s:s, s:i}", "host", conf->name,
			"conninfo", conninfo, "hkd", hkd, "workers",
			p->parent->n_workers + p->parent->n_drained),
		    -1);
	}
}

static void
tell_peer(struct proc *to, struct proc *about, int fd)
{
	rpc_tell(to->rpc, "peer",
	    json_pack(
		"{s:s, s:i}", "role", about->role->name, "index", about->index),
	    fd);
}

static void
link_procs(struct proc *a, struct proc *b)
{
	struct err err = { 0 };
	int fds[2];

	if (a->rpc == NULL || b->rpc == NULL)
		return;
	if (rpc_pair(fds, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "link %s and %s%d",
		    a->role->name, b->role->name, b->index);
		return;
	}
	tell_peer(a, b, fds[0]);
	tell_peer(b, a, fds[1]);
}

/* The broker is linked with everybody, and nobody with anybody else. */
static void
link_proc(struct proc *p)
{
	struct parent *par = p->parent;
	struct proc *broker = par->procs[0], *old;
	int i;

	if (p != broker) {
		link_procs(broker, p);
		return;
	}
	for (i = 1; i < par->n_procs; i++)
		link_procs(broker, par->procs[i]);
	LIST_EACH (&par->drained, old, struct proc, link)
		link_procs(broker, old);
}

static struct proc *
proc_new(struct parent *par, const struct role *role, int index)
{
	struct proc *p = new0(struct proc);

	*p = (struct proc){
		.parent = par,
		.role = role,
		.index = index,
		.listen_fd = -1,
		.backoff_ms = BACKOFF_MIN_MS,
	};
	list_init(&p->link);
	timer_init(&p->restart, par->loop, restart_due, p);
	return p;
}

static void
proc_free(struct proc *p)
{
	list_del(&p->link);
	timer_done(&p->restart);
	if (p->rpc != NULL)
		rpc_free(p->rpc);
	if (p->child != NULL)
		child_free(p->child);
	closep(&p->listen_fd);
	free(p);
}

static void
maybe_stopped(struct parent *par)
{
	int i;

	for (i = 0; i < par->n_procs; i++)
		if (par->procs[i]->child != NULL)
			return;
	if (list_empty(&par->drained))
		loop_stop(par->loop);
}

static void
proc_ended(struct child *child, int status, bool timed_out, void *arg)
{
	struct proc *p = arg;
	struct parent *par = p->parent;
	bool drained = !list_empty(&p->link);
	struct err err = { 0 };
	char name[32];

	snprintf(name, sizeof(name), "%s%d", p->role->name, p->index);
	p->child = NULL;
	if (p->rpc != NULL)
		rpc_free(take_ptr(p->rpc));
	if (drained) {
		log_info("%s has drained", name);
		par->n_drained--;
		proc_free(p);
	}
	if (par->stopping) {
		maybe_stopped(par);
		return;
	}
	if (drained)
		return;
	if (p->renewed) {
		proc_start(p);
		return;
	}
	if (child_status_err(name, status, timed_out, &err) == 0)
		err_set(&err, ERR_INTERNAL, "%s: ended by itself", name);
	if (time_now_ms() - p->started_ms >= STEADY_MS)
		p->backoff_ms = BACKOFF_MIN_MS;
	log_err(LOG_LEVEL_ERROR, &err, "starting it again in %lld ms",
	    (long long)p->backoff_ms);
	timer_start(&p->restart, p->backoff_ms);
	p->backoff_ms *= 2;
	if (p->backoff_ms > BACKOFF_MAX_MS)
		p->backoff_ms = BACKOFF_MAX_MS;
}

/* A role that talks nonsense, or closed its end: it is of no use. */
static void
proc_closed(struct rpc *rpc, const struct err *err, void *arg)
{
	struct proc *p = arg;

	rpc_free(take_ptr(p->rpc));
	if (p->child != NULL)
		child_kill(p->child, p->parent->stopping ? SIGTERM : SIGKILL);
}

static int
proc_spawn(struct proc *p, int fd, struct err *err)
{
	struct parent *par = p->parent;
	_cleanup_(freep)
	char *path = xasprintf("%.*s%s",
	    (int)(strrchr(par->program, '/') + 1 - par->program), par->program,
	    p->role->program);
	char index[12];
	const char *argv[] = { path, "--role", p->role->name, "--index", index,
		NULL };
	struct child_spec spec = {
		.path = path,
		.argv = argv,
		.cwd = par->empty,
		.fds = { -1, -1, STDERR_FILENO, fd },
		.n_fds = 4,
	};

	snprintf(index, sizeof(index), "%d", p->index);
	p->child = child_spawn(par->loop, &spec, proc_ended, p, err);
	return p->child != NULL ? 0 : -(int)err->code;
}

static void
proc_start(struct proc *p)
{
	struct err err = { 0 };
	int fds[2];

	p->renewed = false;
	p->started_ms = time_now_ms();
	if (rpc_pair(fds, &err) == 0) {
		if (proc_spawn(p, fds[1], &err) < 0)
			close(fds[0]);
		close(fds[1]);
	}
	if (p->child == NULL) {
		log_err(LOG_LEVEL_ERROR, &err, "start %s%d", p->role->name,
		    p->index);
		timer_start(&p->restart, BACKOFF_MAX_MS);
		return;
	}
	p->rpc = rpc_new(p->parent->loop, fds[0], no_ops, proc_closed, p);
	tell_setup(p);
	link_proc(p);
}

static void
restart_due(void *arg)
{
	struct proc *p = arg;

	if (!p->parent->stopping)
		proc_start(p);
}

static void
kill_all(void *arg)
{
	struct parent *par = arg;
	struct proc *old;
	int i;

	log_warn("some processes don't end; killing them");
	for (i = 0; i < par->n_procs; i++)
		if (par->procs[i]->child != NULL)
			child_kill(par->procs[i]->child, SIGKILL);
	LIST_EACH (&par->drained, old, struct proc, link)
		child_kill(old->child, SIGKILL);
}

/* Whoever's link to us closes ends itself. */
static void
proc_end(struct proc *p)
{
	timer_stop(&p->restart);
	if (p->rpc != NULL)
		rpc_free(take_ptr(p->rpc));
}

/* The broker last: it writes down that the sessions have ended. */
static void
on_term(int signum, void *arg)
{
	struct parent *par = arg;
	struct proc *old;
	int i;

	if (par->stopping)
		return;
	par->stopping = true;
	log_info("stopping (signal %d)", signum);
	LIST_EACH (&par->drained, old, struct proc, link)
		proc_end(old);
	for (i = par->n_procs - 1; i >= 0; i--)
		proc_end(par->procs[i]);
	timer_start(&par->stop, STOP_MS);
	maybe_stopped(par);
}

static void
on_hup(int signum, void *arg)
{
	struct parent *par = arg;
	struct err err = { 0 };
	int i;

	if (read_tls(par, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err,
		    "the certificate was not reloaded; the old one stays");
		return;
	}
	for (i = 0; i < par->n_procs; i++)
		if (par->procs[i]->listen_fd >= 0 && par->procs[i]->rpc != NULL)
			tell_tls(par->procs[i]);
	log_info("certificate reloaded from '%s'", par->conf->cert);
}

/* A new worker on the same socket; the old one keeps what it has until the
 * last of it ends. */
static void
drain_worker(struct parent *par, int i)
{
	struct proc *old = par->procs[i], *p;

	p = proc_new(par, old->role, par->next_worker);
	par->next_worker = (par->next_worker + 1) % WORKER_INDEX_END;
	p->listen_fd = old->listen_fd;
	old->listen_fd = -1;
	par->procs[i] = p;
	list_add(&par->drained, &old->link);
	par->n_drained++;
	rpc_tell(old->rpc, "drain", NULL, -1);
	proc_start(p);
}

/* The programs were replaced, by an upgrade: everything but us begins anew,
 * and no desktop's connection ends. */
static void
on_usr2(int signum, void *arg)
{
	struct parent *par = arg;
	int i;

	if (par->stopping)
		return;
	log_info("starting new processes; the old ones drain");
	for (i = 0; i < par->n_procs; i++) {
		struct proc *p = par->procs[i];

		if (p->child == NULL || p->rpc == NULL)
			continue; /* it is about to be started anyway */
		if (p->listen_fd >= 0) {
			drain_worker(par, i);
		} else {
			p->renewed = true;
			rpc_free(take_ptr(p->rpc));
		}
	}
}

static int
make_empty_directory(struct parent *par, struct err *err)
{
	struct stat st;
	int r;

	par->empty = node_conf_run_path(par->conf, EMPTY_DIRECTORY);
	if ((r = fs_mkdirs(par->empty, 0755, err)) < 0)
		return r;
	if (lstat(par->empty, &st) < 0 || !S_ISDIR(st.st_mode) ||
	    st.st_uid != 0 || (st.st_mode & 0022) != 0)
		return err_set(err, ERR_CONFIG,
		    "'%s' must be a directory that only root can write to",
		    par->empty);
	return 0;
}

static int
parent_init(struct parent *par, struct err *err)
{
	int i, r, auths = par->conf->l7r_auths;

	if ((r = read_tls(par, err)) < 0 ||
	    (r = make_empty_directory(par, err)) < 0)
		return r;
	par->n_workers = par->conf->l7r_workers;
	if (par->n_workers <= 0)
		par->n_workers = get_nprocs();
	par->next_worker = par->n_workers;
	par->procs =
	    xcalloc((size_t)(1 + auths + par->n_workers), sizeof(*par->procs));
	par->procs[par->n_procs++] = proc_new(par, role_find("broker"), 0);
	for (i = 0; i < auths; i++)
		par->procs[par->n_procs++] =
		    proc_new(par, role_find("auth"), i);
	for (i = 0; i < par->n_workers; i++) {
		struct proc *p = proc_new(par, role_find("worker"), i);

		par->procs[par->n_procs++] = p;
		r = listen_tcp(par->conf->listen, true, &p->listen_fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void
parent_done(struct parent *par)
{
	struct proc *old;
	int i;

	for (i = 0; i < par->n_procs; i++)
		proc_free(par->procs[i]);
	LIST_EACH (&par->drained, old, struct proc, link)
		proc_free(old);
	timer_done(&par->stop);
	sigwatch_done(&par->term);
	sigwatch_done(&par->intr);
	sigwatch_done(&par->hup);
	sigwatch_done(&par->usr2);
	free(par->procs);
	free(par->empty);
	free(par->cert_pem);
	wipe_str(par->key_pem);
	loop_free(par->loop);
}

int
parent_run(const struct node_conf *conf, const char *program)
{
	struct parent par = { .conf = conf, .program = program };
	struct err err = { 0 };
	int i;

	par.loop = loop_new();
	list_init(&par.drained);
	timer_init(&par.stop, par.loop, kill_all, &par);
	sigwatch_init(&par.term, par.loop, SIGTERM, on_term, &par);
	sigwatch_init(&par.intr, par.loop, SIGINT, on_term, &par);
	sigwatch_init(&par.hup, par.loop, SIGHUP, on_hup, &par);
	sigwatch_init(&par.usr2, par.loop, SIGUSR2, on_usr2, &par);
	if (parent_init(&par, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "start");
		par.code = err_exit_code(err.code);
	} else {
		log_info("listening on %s with %d workers", conf->listen,
		    par.n_workers);
		for (i = 0; i < par.n_procs; i++)
			proc_start(par.procs[i]);
		loop_run(par.loop);
		log_info("stopped");
	}
	parent_done(&par);
	return par.code;
}
