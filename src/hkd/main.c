/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd-hkd: options, and the way into the parent. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "hkd/parent.h"

static int
usage(FILE *to, int code)
{
	fprintf(to,
	    "usage: qvd-hkd [--conf FILE]\n"
	    "The house-keeping daemon of a QVD node: makes its desktops be "
	    "what the farm's\ndatabase says. Runs in the foreground, logs to "
	    "standard error. See qvd-hkd(8).\n");
	return code;
}

static int
run_parent(const char *conf_path)
{
	struct node_conf conf = { 0 };
	struct err err = { 0 };
	int r;

	log_init("hkd");
	if (node_conf_load(conf_path, &conf, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "configuration");
		return err_exit_code(err.code);
	}
	r = parent_run(&conf, conf_path);
	node_conf_done(&conf);
	return r;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *conf = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			conf = optarg;
		else
			return usage(
			    c == 'h' ? stdout : stderr, c == 'h' ? 0 : 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	signal(SIGPIPE, SIG_IGN);
	return run_parent(conf);
}
