/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one event loop idiom of the house, a thin layer over libuv: timers,
 * descriptors, deferred work, signals. Objects are embedded in their owner
 * (`_init` / `_done`); after `_done` the callback is never called again, and
 * the memory may be freed by loop_defer() or at once. A loop belongs to one
 * process, which has one thread of its own.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

struct loop *loop_new(void);
/* Runs until loop_stop(); deferred work is done before it returns. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Frees the loop; every object on it must be done, but for orphans. */
void loop_free(struct loop *loop);
/* Monotonic milliseconds, as of the start of this turn. */
int64_t loop_now_ms(const struct loop *loop);

/* Calls fn(arg) at the end of this turn: the way to free an object whose
 * callback may be on the stack ("never free inside the callback"). */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Calls work(arg) on a thread of libuv's pool, for what takes long and touches
 * nothing of ours but arg; then done(arg) on the loop's own thread. loop_free
 * waits for what is under way. */
void loop_work(struct loop *loop, void (*work)(void *arg),
    void (*done)(void *arg), void *arg);

/* An object that nobody owns any more but that has to finish something (a
 * stream that sends its last bytes, a killed child that isn't reaped yet):
 * end() is called by loop_free() if it is still there then, and must take
 * itself off the list and be done with the loop. */
struct loop_orphan {
	struct list link;
	void (*end)(struct loop_orphan *o);
};
void loop_orphan_add(struct loop *loop, struct loop_orphan *o);

/* A one-shot timer. Starting a running timer moves it. Opaque handle, one
 * heap allocation, so that owners can be freed at once. */
struct timer {
	struct loop *loop;
	void (*cb)(void *arg);
	void *arg;
	struct timer_handle *handle;
};
void timer_init(
    struct timer *t, struct loop *loop, void (*cb)(void *), void *arg);
void timer_start(struct timer *t, int64_t delay_ms);
void timer_stop(struct timer *t);
bool timer_active(const struct timer *t);
void timer_done(struct timer *t);

/* Readiness of a descriptor (level-triggered). The watch does not own fd;
 * watch_done() before the fd is closed. */
#define WATCH_READ  1
#define WATCH_WRITE 2
struct watch {
	struct loop *loop;
	void (*cb)(int events, void *arg); /* READ also means EOF or error */
	void *arg;
	struct watch_handle *handle;
	int fd;
	int events;
};
void watch_init(struct watch *w, struct loop *loop, int fd,
    void (*cb)(int events, void *arg), void *arg);
/* events 0: not watching (costs nothing). */
void watch_set(struct watch *w, int events);
void watch_done(struct watch *w);

/* Unix signals as events. */
struct sigwatch {
	void (*cb)(int signum, void *arg);
	void *arg;
	struct sigwatch_handle *handle;
};
void sigwatch_init(struct sigwatch *s, struct loop *loop, int signum,
    void (*cb)(int signum, void *arg), void *arg);
void sigwatch_done(struct sigwatch *s);

#endif
