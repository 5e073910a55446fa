/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd-l7r: the parent, and with --role a worker or an auth. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "l7r/roles.h"
#include "model/node_conf.h"

static const struct role_code codes[] = {
	{ "worker", worker_prepare, worker_run },
	{ "auth", auth_prepare, auth_run },
	{ .name = NULL },
};

static int
usage(FILE *to, int code)
{
	fprintf(to,
	    "usage: qvd-l7r [--conf FILE]\n"
	    "The level-7 router of a QVD node: lets clients in and relays "
	    "their desktops.\n"
	    "Runs in the foreground, logs to standard error. See "
	    "qvd-l7r(8).\n");
	return code;
}

static int
run_parent(const char *path)
{
	struct node_conf conf = { 0 };
	struct err err = { 0 };
	char program[4096];
	ssize_t n;
	int r;

	log_init("l7r");
	if (geteuid() != 0) {
		log_error("qvd-l7r must be started as root: it gives its "
			  "privileges up itself");
		return err_exit_code(ERR_CONFIG);
	}
	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n < 0) {
		log_error(
		    "/proc/self/exe: %s; is /proc mounted?", strerror(errno));
		return err_exit_code(ERR_SYSTEM);
	}
	program[n] = '\0';
	if (node_conf_load(path, &conf, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "configuration");
		return err_exit_code(err.code);
	}
	r = parent_run(&conf, program);
	node_conf_done(&conf);
	return r;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "role", required_argument, NULL, 'r' },
		{ "index", required_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *conf = NULL, *role = NULL;
	int c, index = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			conf = optarg;
		else if (c == 'r')
			role = optarg;
		else if (c == 'i' && str_to_int(optarg, 0, 9999, &index))
			continue;
		else if (c == 'h')
			return usage(stdout, 0);
		else
			return usage(stderr, 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	if (role != NULL)
		return role_main(codes, role, index);
	signal(SIGPIPE, SIG_IGN);
	return run_parent(conf);
}
