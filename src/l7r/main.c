/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd-l7r: options, the table of roles, and the way into one. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "l7r/roles.h"
#include "model/node_conf.h"

#define USER  "qvd-l7r"
#define GROUP "qvd" /* may open hkd.sock */

static const struct role roles[] = {
	{ "worker", USER, NULL, true, SANDBOX_STREAMS, 65536, worker_prepare,
	    worker_run },
	{ "broker", USER, GROUP, false, SANDBOX_NO_EXEC, 1024, NULL,
	    broker_run },
	{ "auth", USER, NULL, true, SANDBOX_NO_EXEC, 64, auth_prepare,
	    auth_run },
};

const struct role *
role_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(roles); i++)
		if (str_eq(roles[i].name, name))
			return &roles[i];
	return NULL;
}

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

/* Passwords and keys travel in JSON between the roles: whatever JSON gives
 * back is wiped. */
static void
wiping_free(void *p)
{
	if (p == NULL)
		return;
	explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static int
run_role(const struct role *role, int index)
{
	struct err err = { 0 };
	char name[32];

	snprintf(name, sizeof(name), "l7r/%s%d", role->name, index);
	log_init(name);
	if (fcntl(ROLE_FD, F_SETFD, FD_CLOEXEC) < 0) {
		log_error("descriptor %d is not open; roles are started by "
			  "qvd-l7r itself",
		    ROLE_FD);
		return 1;
	}
	/* The parent decides when we end: a terminal's ^C goes to it. */
	signal(SIGINT, SIG_IGN);
	if (sandbox_enter(role, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "give up privileges");
		return err_exit_code(err.code);
	}
	return role->run(index);
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
		log_error("/proc/self/exe: %s; is /proc mounted?",
		    strerror(errno));
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
	const char *conf = NULL;
	const struct role *role = NULL;
	int c, index = 0;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			conf = optarg;
		else if (c == 'r' && (role = role_find(optarg)) != NULL)
			continue;
		else if (c == 'i' && str_to_int(optarg, 0, 9999, &index))
			continue;
		else if (c == 'h')
			return usage(stdout, 0);
		else
			return usage(stderr, 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	json_set_alloc_funcs(malloc, wiping_free);
	signal(SIGPIPE, SIG_IGN);
	return role != NULL ? run_role(role, index) : run_parent(conf);
}
