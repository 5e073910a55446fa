/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/parent.h"

#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/helper.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "net/rpc.h"

#define MAIN           "qvd-hkd-main"
#define SOCKET         "hkd.sock"
#define GROUP          "qvd" /* may open it */
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 10000
#define STEADY_MS      10000 /* lived so long: the next pause is short */
#define STOP_MS        5000  /* for main to end by itself */

struct parent {
	struct loop *loop;
	const struct node_conf *conf;
	const char *conf_path;
	char *program; /* of main */
	struct helper *helper;
	int ctl_fd;
	struct child *child; /* main; NULL: between two */
	struct timer timer;  /* the pause before the next, or the patience */
	int64_t backoff_ms, started_ms;
	struct sigwatch term, intr;
	bool stopping;
	int code;
};

static int
open_socket(struct parent *par, struct err *err)
{
	_cleanup_(freep)
	char *path = node_conf_run_path(par->conf, SOCKET);
	struct group *group = getgrnam(GROUP);
	int r;

	if (group == NULL)
		return err_set(err, ERR_CONFIG,
		    "there is no group '%s'; make it: groupadd --system %s",
		    GROUP, GROUP);
	if ((r = fs_mkdirs(par->conf->run_dir, 0755, err)) < 0)
		return r;
	return rpc_listen_open(path, 0660, group->gr_gid, &par->ctl_fd, err);
}

static void
on_main_ended(struct child *child, int status, bool timed_out, void *arg)
{
	struct parent *par = arg;
	struct err err = { 0 };

	par->child = NULL;
	if (par->stopping) {
		loop_stop(par->loop);
		return;
	}
	if (child_status_err("main", status, timed_out, &err) == 0)
		err_set(&err, ERR_INTERNAL, "main: ended by itself");
	if (time_now_ms() - par->started_ms >= STEADY_MS)
		par->backoff_ms = BACKOFF_MIN_MS;
	log_err(LOG_LEVEL_ERROR, &err, "starting it again in %lld ms",
	    (long long)par->backoff_ms);
	timer_start(&par->timer, par->backoff_ms);
	par->backoff_ms *= 2;
	if (par->backoff_ms > BACKOFF_MAX_MS)
		par->backoff_ms = BACKOFF_MAX_MS;
}

/* Main closed its end, or talked nonsense: it is of no use any more. */
static void
on_main_closed(const struct err *err, void *arg)
{
	struct parent *par = arg;

	if (par->child != NULL && !par->stopping)
		child_kill(par->child, SIGKILL);
}

static int
spawn_main(struct parent *par, int fd, struct err *err)
{
	const char *argv[] = { par->program, "--role", "main", "--conf",
		par->conf_path, NULL };
	const struct child_spec spec = {
		.path = par->program,
		.argv = argv,
		.fds = { -1, -1, STDERR_FILENO, fd, par->ctl_fd },
		.n_fds = 5,
	};

	if (par->conf_path == NULL)
		argv[3] = NULL;
	par->child = child_spawn(par->loop, &spec, on_main_ended, par, err);
	return par->child == NULL ? -(int)err->code : 0;
}

static void
start_main(struct parent *par)
{
	struct err err = { 0 };
	int fds[2] = { -1, -1 };

	par->started_ms = time_now_ms();
	if (rpc_pair(fds, &err) < 0 || spawn_main(par, fds[1], &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "start main");
		closep(&fds[0]);
		closep(&fds[1]);
		timer_start(&par->timer, BACKOFF_MAX_MS);
		return;
	}
	closep(&fds[1]);
	helper_serve(par->helper, fds[0], on_main_closed, par);
}

static void
on_timer(void *arg)
{
	struct parent *par = arg;

	if (!par->stopping) {
		start_main(par);
	} else if (par->child != NULL) {
		log_warn("main doesn't end; killing it");
		child_kill(par->child, SIGKILL);
	}
}

static void
on_term(int signum, void *arg)
{
	struct parent *par = arg;

	if (par->stopping)
		return;
	par->stopping = true;
	if (par->child == NULL) {
		loop_stop(par->loop);
		return;
	}
	child_kill(par->child, SIGTERM);
	timer_start(&par->timer, STOP_MS);
}

static void
parent_done(struct parent *par)
{
	if (par->child != NULL)
		child_free(par->child);
	helper_free(par->helper);
	timer_done(&par->timer);
	sigwatch_done(&par->term);
	sigwatch_done(&par->intr);
	closep(&par->ctl_fd);
	free(par->program);
	loop_free(par->loop);
}

int
parent_run(const struct node_conf *conf, const char *conf_path)
{
	struct parent par = { .loop = loop_new(),
		.conf = conf,
		.conf_path = conf_path,
		.program = xasprintf("%s/%s", conf->programs_dir, MAIN),
		.ctl_fd = -1,
		.backoff_ms = BACKOFF_MIN_MS };
	struct err err = { 0 };

	timer_init(&par.timer, par.loop, on_timer, &par);
	sigwatch_init(&par.term, par.loop, SIGTERM, on_term, &par);
	sigwatch_init(&par.intr, par.loop, SIGINT, on_term, &par);
	par.helper = helper_new(par.loop, conf, &err);
	if (par.helper == NULL || open_socket(&par, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "qvd-hkd can't start");
		par.code = err_exit_code(err.code);
	} else {
		start_main(&par);
		loop_run(par.loop);
	}
	parent_done(&par);
	return par.code;
}
