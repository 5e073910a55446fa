/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/loop share: the loop itself, which owns its libuv
 * loop and the list of what is freed at the end of a turn. Not for other
 * folders. Every process that has a loop.
 */
#ifndef LOOP_LOOP_PRIV_H
#define LOOP_LOOP_PRIV_H

#include <uv.h>

#include "loop/loop.h"

struct deferred {
	void (*fn)(void *arg);
	void *arg;
};

struct loop {
	uv_loop_t uv;
	uv_check_t check; /* end of turn: runs the deferred work */
	uv_idle_t idle;   /* active while there is any, so poll won't block */
	struct deferred *deferred, *running;
	size_t n_deferred, cap_deferred, cap_running;
	struct list orphans; /* struct loop_orphan */
	int n_works;         /* given to the pool, not yet done */
	bool in_run;
};

#endif
