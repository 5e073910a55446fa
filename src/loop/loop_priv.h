/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/loop share: the loop itself. Not for other folders.
 */
#ifndef LOOP_LOOP_PRIV_H
#define LOOP_LOOP_PRIV_H

#include <uv.h>

#include "base/list.h"
#include "loop/loop.h"

struct deferred {
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	uv_loop_t uv;
	uv_check_t check; /* end of turn: runs the deferred work */
	uv_idle_t idle;	  /* active while there is any, so poll won't block */
	struct deferred *deferred, *running;
	size_t n_deferred, cap_deferred, cap_running;
	struct list orphans; /* killed children not yet reaped (child.c) */
	bool in_run;
};

/* Reaps, blocking, what child_free() has killed. */
void child_reap_orphans(struct loop *loop);

#endif
