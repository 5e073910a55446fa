/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The root helper without the daemon around it: serves descriptor 3 until
 * its other end is closed. Usage: hkd_helper_driver NODE.CONF
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "hkd/helper.h"
#include "loop/loop.h"

static void
on_closed(const struct err *err, void *arg)
{
	loop_stop(arg);
}

int
main(int argc, char **argv)
{
	struct node_conf conf = { 0 };
	struct err err = { 0 };
	struct helper *helper;
	struct loop *loop;

	log_init("hkd/helper");
	if (argc != 2) {
		fprintf(stderr, "usage: hkd_helper_driver NODE.CONF\n");
		return 2;
	}
	loop = loop_new();
	if (node_conf_load(argv[1], &conf, &err) < 0 ||
	    (helper = helper_new(loop, &conf, &err)) == NULL) {
		log_err(LOG_LEVEL_ERROR, &err, "start");
		return 1;
	}
	helper_serve(helper, 3, on_closed, loop);
	loop_run(loop);
	helper_free(helper);
	loop_free(loop);
	node_conf_done(&conf);
	return 0;
}
