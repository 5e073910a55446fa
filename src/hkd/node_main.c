/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-hkd-main: the unprivileged role, started by qvd-hkd. A program of its
 * own, so that only it maps the database's libraries and only the helper
 * those of the firewall.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "hkd/node.h"
#include "hkd/parent.h"

/* What a role gives up before it does anything, and what it does. */
struct role {
	const char *name;
	const char *user;
	rlim_t files; /* descriptors: one or two a VM */
	int (*run)(const struct node_conf *conf);
};

static int
main_run(const struct node_conf *conf)
{
	return node_run(conf, HKD_RPC_FD, HKD_CTL_FD);
}

static const struct role roles[] = {
	{ "main", "qvd-hkd", 65536, main_run },
};

static const struct role *
find_role(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(roles); i++)
		if (str_eq(roles[i].name, name))
			return &roles[i];
	return NULL;
}

/* Descriptors first, while we may raise the limit; then for ever down. */
static int
give_up(const struct role *role, struct err *err)
{
	struct rlimit files = { role->files, role->files };
	struct proc_user user;
	int r;

	setrlimit(RLIMIT_NOFILE, &files);
	if ((r = proc_find_user(role->user, &user, err)) < 0 ||
	    (r = proc_drop_user(&user, err)) < 0)
		return r;
	return proc_harden(0, err);
}

static int
run_role(const struct role *role, const char *conf_path)
{
	struct node_conf conf = { 0 };
	struct err err = { 0 };
	char name[32];
	int r;

	snprintf(name, sizeof(name), "hkd/%s", role->name);
	log_init(name);
	if (fcntl(HKD_RPC_FD, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(HKD_CTL_FD, F_SETFD, FD_CLOEXEC) < 0) {
		log_error("descriptors %d and %d are not open; roles are "
			  "started by qvd-hkd itself",
		    HKD_RPC_FD, HKD_CTL_FD);
		return err_exit_code(ERR_USAGE);
	}
	/* The parent decides when we end: a terminal's ^C goes to it. */
	signal(SIGINT, SIG_IGN);
	if (node_conf_load(conf_path, &conf, &err) < 0 ||
	    give_up(role, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "%s", role->name);
		return err_exit_code(err.code);
	}
	r = role->run(&conf);
	node_conf_done(&conf);
	return r;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "role", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	const struct role *role = NULL;
	const char *conf = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			conf = optarg;
		else if (c == 'r')
			role = find_role(optarg);
	}
	if (role == NULL || optind < argc) {
		fprintf(stderr, "qvd-hkd-main is started by qvd-hkd\n");
		return err_exit_code(ERR_USAGE);
	}
	signal(SIGPIPE, SIG_IGN);
	return run_role(role, conf);
}
