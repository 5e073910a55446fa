/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-vma: the agent inside a VM. As process 1 it is the container's init, or
 * with --machine that of what qvd-boot has prepared in a virtual machine; with
 * --service it runs under the image's own. Two more roles of the same
 * program are short-lived helpers (provision.h); called by nxagent with
 * -dialog it answers the agent's question whether to suspend.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "vma/api.h"
#include "vma/init.h"
#include "vma/notify.h"
#include "vma/provision.h"

#define CONF_PATH "/etc/qvd/vma.conf"

static const char usage[] =
    "usage: qvd-vma [--service | --machine] [--conf FILE]\n"
    "       qvd-vma --help | --version\n"
    "The agent inside a VM: init of a container, or with --service a "
    "service. See qvd-vma(8).\n";

struct options {
	const char *conf;
	const char *role;
	const char *text; /* of the role "message" */
	bool service;
	bool machine;
};

/* nxagent asks before it closes its window; the answer to "close, suspend or
 * go on?" is to suspend, so that closing the window loses nothing. */
static int
dialog_main(int argc, char **argv)
{
	const char *type = argc > 2 ? argv[2] : "";
	int i, pid = 0;

	for (i = 3; i + 1 < argc; i++) {
		if (str_eq(argv[i], "-parent"))
			str_to_int(argv[i + 1], 2, INT32_MAX, &pid);
	}
	if (str_starts(type, "yesno") && pid > 1)
		kill(pid, SIGHUP);
	return 0;
}

static int
parse_args(int argc, char **argv, struct options *o)
{
	int i;

	*o = (struct options){ .conf = CONF_PATH };
	for (i = 1; i < argc; i++) {
		if (str_eq(argv[i], "--service"))
			o->service = true;
		else if (str_eq(argv[i], "--machine"))
			o->machine = true;
		else if (str_eq(argv[i], "--conf") && i + 1 < argc)
			o->conf = argv[++i];
		else if (str_eq(argv[i], "--role") && i + 1 < argc)
			o->role = argv[++i];
		else if (str_eq(argv[i], "--text") && i + 1 < argc)
			o->text = argv[++i];
		else
			return -1;
	}
	return 0;
}

/* ---- the orderly end ---- */

static void
finish(void *arg)
{
	struct vma *vma = arg;

	log_info("the end");
	sync();
	loop_stop(vma->loop);
}

/* A service whose node wants the machine to end: systemd, known as in
 * sd_booted(3), begins poweroff.target, and ends us as it ends all others. */
static bool
ask_init(struct vma *vma)
{
	if (access("/run/systemd/system", F_OK) < 0 ||
	    kill(1, SIGRTMIN + 4) < 0)
		return false;
	log_info("systemd is asked to power off");
	vma->awaits_init = true;
	return true;
}

static void
on_session_stopped(void *arg)
{
	struct vma *vma = arg;

	if (vma->is_init)
		init_end_all(vma, finish, vma);
	else if (!vma->power_off || !ask_init(vma))
		finish(vma);
}

static void
end(struct vma *vma)
{
	if (vma->ending)
		return;
	vma->ending = true;
	log_info("ending everything");
	/* The node is not to take it for a crash. */
	session_publish(vma, json_pack("{ss}", "event", "poweroff"));
	session_end(vma->session, on_session_stopped, vma);
}

static void
on_hook(const struct err *err, void *arg)
{
	end(arg); /* a signal is no question */
}

static void
on_signal(int signum, void *arg)
{
	struct vma *vma = arg;
	json_t *info;
	struct hook *hook;

	log_info("signal %d (%s)", signum, strsignal(signum));
	if (vma->awaits_init)
		finish(vma);
	vma->power_off = false; /* who signals knows of the end */
	if (vma->ending)
		return;
	info = session_info(vma->session, "poweroff");
	hook = hook_run(vma, "action", "poweroff", info, on_hook, vma);
	json_decref(info);
	if (hook == NULL)
		end(vma);
}

static void
watch_signals(struct vma *vma)
{
	static struct sigwatch watches[4];
	const int signals[] = { SIGTERM, SIGINT, SIGPWR, SIGRTMIN + 3 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigwatch_init(
		    &watches[i], vma->loop, signals[i], on_signal, vma);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

static int
run(struct vma *vma, const struct options *o, struct err *err)
{
	int r;

	if (vma->is_init)
		init_setup(vma);
	if ((r = vma_conf_load(&vma->conf, o->conf, err)) < 0)
		return r;
	vma->loop = loop_new();
	vma->started_ms = loop_now_ms(vma->loop);
	vma->end = end;
	vma->session = session_new(vma);
	if (vma->is_init)
		init_reap(vma);
	watch_signals(vma);
	if ((r = api_start(vma, err)) < 0)
		return r;
	log_info("ready on %s", vma->conf.socket);
	loop_run(vma->loop);
	return 0;
}

int
main(int argc, char **argv)
{
	static char self[4096] = "/usr/lib/qvd/qvd-vma";
	struct vma vma = { .self = self };
	struct options options;
	struct err err;
	int r;

	if (argc > 1 && str_eq(argv[1], "-dialog"))
		return dialog_main(argc, argv);
	if (argc == 2 && str_eq(argv[1], "--version")) {
		printf("qvd-vma %s\n", QVD_VERSION);
		return 0;
	}
	if (parse_args(argc, argv, &options) < 0) {
		bool help = argc == 2 && str_eq(argv[1], "--help");

		fputs(usage, help ? stdout : stderr);
		return help ? 0 : err_exit_code(ERR_USAGE);
	}
	if (options.role != NULL) {
		if (str_eq(options.role, "provision"))
			return provision_main();
		if (str_eq(options.role, "run-as"))
			return run_as_main();
		if (str_eq(options.role, "message") && options.text != NULL)
			return message_main(options.text);
		fputs(usage, stderr);
		return err_exit_code(ERR_USAGE);
	}
	log_init("vma");
	list_init(&vma.tasks);
	list_init(&vma.hooks);
	vma.is_init = getpid() == 1 && !options.service;
	vma.in_machine = options.machine || !vma.is_init;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		log_debug("no /proc yet; this is '%s'", self);
	r = run(&vma, &options, &err);
	vma_conf_done(&vma.conf);
	if (r < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "qvd-vma");
		return err_exit_code(err.code);
	}
	return 0;
}
