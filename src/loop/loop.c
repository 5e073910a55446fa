/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/loop.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "loop/loop_priv.h"

struct timer_handle {
	uv_timer_t uv; /* first: uv hands back this address */
	struct timer *owner;
};

struct watch_handle {
	uv_poll_t uv;
	struct watch *owner;
};

struct sigwatch_handle {
	uv_signal_t uv;
	struct sigwatch *owner;
};

/* libuv fails here only for lack of memory or descriptors at start, or for a
 * mistake of ours: there is nothing to go on with. */
static void
must(int r, const char *what)
{
	if (r == 0)
		return;
	fprintf(stderr, "event loop: %s: %s\n", what, uv_strerror(r));
	abort();
}

static void
free_handle(uv_handle_t *handle)
{
	free(handle);
}

/*
 * Runs what was deferred up to now; what is deferred meanwhile waits for the
 * next turn, so that an object freed here outlives the call that freed it.
 */
static void
run_deferred(struct loop *loop)
{
	struct deferred *batch = loop->deferred;
	size_t n = loop->n_deferred, cap = loop->cap_deferred, i;

	if (n == 0)
		return;
	loop->deferred = loop->running;
	loop->cap_deferred = loop->cap_running;
	loop->n_deferred = 0;
	loop->running = NULL; /* nothing may reuse the batch meanwhile */
	loop->cap_running = 0;
	for (i = 0; i < n; i++)
		batch[i].fn(batch[i].arg);
	free(loop->running);
	loop->running = batch;
	loop->cap_running = cap;
	if (loop->n_deferred == 0)
		uv_idle_stop(&loop->idle);
}

static void
on_check(uv_check_t *check)
{
	run_deferred(check->data);
}

static void
on_idle(uv_idle_t *idle)
{
	/* Its being active is all that matters. */
}

struct loop *
loop_new(void)
{
	struct loop *loop = new0(struct loop);

	/* Writing to a peer that is gone is an error value, not a signal. */
	signal(SIGPIPE, SIG_IGN);
	list_init(&loop->orphans);
	must(uv_loop_init(&loop->uv), "start");
	must(uv_check_init(&loop->uv, &loop->check), "check");
	must(uv_idle_init(&loop->uv, &loop->idle), "idle");
	loop->check.data = loop;
	uv_check_start(&loop->check, on_check);
	return loop;
}

void
loop_run(struct loop *loop)
{
	loop->in_run = true;
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	while (loop->n_deferred > 0)
		run_deferred(loop);
	loop->in_run = false;
}

void
loop_stop(struct loop *loop)
{
	uv_stop(&loop->uv);
}

void
loop_free(struct loop *loop)
{
	struct loop_orphan *o;
	int r, i;

	if (loop == NULL)
		return;
	while (loop->n_deferred > 0)
		run_deferred(loop);
	while (
	    (o = list_first(&loop->orphans, struct loop_orphan, link)) != NULL)
		o->end(o);
	while (loop->n_deferred > 0)
		run_deferred(loop);
	while (loop->n_works > 0)
		uv_run(&loop->uv, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&loop->check, NULL);
	uv_close((uv_handle_t *)&loop->idle, NULL);
	/* A few turns without blocking give back the handles that are done. */
	for (i = 0; i < 8 && uv_loop_alive(&loop->uv); i++)
		uv_run(&loop->uv, UV_RUN_NOWAIT);
	while (loop->n_deferred > 0)
		run_deferred(loop);
	r = uv_loop_close(&loop->uv);
	assert(r == 0 && "an object on the loop is not done");
	(void)r;
	free(loop->deferred);
	free(loop->running);
	free(loop);
}

void
loop_orphan_add(struct loop *loop, struct loop_orphan *o)
{
	list_add(&loop->orphans, &o->link);
}

int64_t
loop_now_ms(const struct loop *loop)
{
	return (int64_t)uv_now(&loop->uv);
}

void
loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	if (loop->n_deferred == loop->cap_deferred) {
		loop->cap_deferred =
		    loop->cap_deferred == 0 ? 64 : loop->cap_deferred * 2;
		loop->deferred = xrealloc(loop->deferred, loop->cap_deferred,
		    sizeof(loop->deferred[0]));
	}
	if (loop->n_deferred == 0)
		uv_idle_start(&loop->idle, on_idle);
	loop->deferred[loop->n_deferred++] = (struct deferred){ fn, arg };
}

struct work {
	uv_work_t uv; /* first: uv hands back this address */
	struct loop *loop;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void
on_work(uv_work_t *uv)
{
	struct work *w = (struct work *)uv;

	w->work(w->arg);
}

static void
on_worked(uv_work_t *uv, int status)
{
	struct work *w = (struct work *)uv;

	w->loop->n_works--;
	w->done(w->arg);
	free(w);
}

void
loop_work(struct loop *loop, void (*work)(void *arg), void (*done)(void *arg),
    void *arg)
{
	struct work *w = new0(struct work);

	w->loop = loop;
	w->work = work;
	w->done = done;
	w->arg = arg;
	loop->n_works++;
	must(uv_queue_work(&loop->uv, &w->uv, on_work, on_worked), "work");
}

/* Timers */

void
timer_init(struct timer *t, struct loop *loop, void (*cb)(void *), void *arg)
{
	*t = (struct timer){ .loop = loop, .cb = cb, .arg = arg };
}

static void
on_timer(uv_timer_t *uv)
{
	struct timer_handle *h = (struct timer_handle *)uv;

	h->owner->cb(h->owner->arg);
}

void
timer_start(struct timer *t, int64_t delay_ms)
{
	if (t->handle == NULL) {
		t->handle = new0(struct timer_handle);
		t->handle->owner = t;
		must(uv_timer_init(&t->loop->uv, &t->handle->uv), "timer");
	}
	/* Between runs the loop's clock stands still. */
	if (!t->loop->in_run)
		uv_update_time(&t->loop->uv);
	must(uv_timer_start(&t->handle->uv, on_timer,
		 delay_ms < 0 ? 0 : (uint64_t)delay_ms, 0),
	    "timer");
}

void
timer_stop(struct timer *t)
{
	if (t->handle != NULL)
		uv_timer_stop(&t->handle->uv);
}

bool
timer_active(const struct timer *t)
{
	return t->handle != NULL &&
	       uv_is_active((const uv_handle_t *)&t->handle->uv);
}

void
timer_done(struct timer *t)
{
	if (t->handle == NULL)
		return;
	uv_timer_stop(&t->handle->uv);
	uv_close((uv_handle_t *)&t->handle->uv, free_handle);
	t->handle = NULL;
}

/* Descriptors */

static void on_poll(uv_poll_t *uv, int status, int events);

void
watch_init(struct watch *w, struct loop *loop, int fd,
    void (*cb)(int events, void *arg), void *arg)
{
	*w = (struct watch){ .loop = loop, .cb = cb, .arg = arg, .fd = fd };
}

static void
poll_start(struct watch *w)
{
	int events = 0;

	if (w->events & WATCH_READ)
		events |= UV_READABLE;
	if (w->events & WATCH_WRITE)
		events |= UV_WRITABLE;
	must(uv_poll_start(&w->handle->uv, events, on_poll), "watch");
}

static void
on_poll(uv_poll_t *uv, int status, int events)
{
	struct watch_handle *h = (struct watch_handle *)uv;
	struct watch *w = h->owner;
	int ready = 0;

	if (status < 0) {
		/* An error is pending on the descriptor, and libuv has
		 * stopped the handle: the owner finds it by reading or
		 * writing. Watching goes on unless the owner ends it. */
		ready = w->events;
		uv_poll_start(uv,
		    ((ready & WATCH_READ) ? UV_READABLE : 0) |
			((ready & WATCH_WRITE) ? UV_WRITABLE : 0),
		    on_poll);
	} else {
		if (events & UV_READABLE)
			ready |= WATCH_READ;
		if (events & UV_WRITABLE)
			ready |= WATCH_WRITE;
		ready &= w->events;
	}
	if (ready != 0)
		w->cb(ready, w->arg);
}

void
watch_set(struct watch *w, int events)
{
	if (events == w->events)
		return;
	w->events = events;
	if (w->handle == NULL) {
		w->handle = new0(struct watch_handle);
		w->handle->owner = w;
		must(uv_poll_init(&w->loop->uv, &w->handle->uv, w->fd),
		    "watch a descriptor");
	}
	if (events == 0)
		uv_poll_stop(&w->handle->uv);
	else
		poll_start(w);
}

void
watch_done(struct watch *w)
{
	if (w->handle == NULL)
		return;
	uv_poll_stop(&w->handle->uv);
	uv_close((uv_handle_t *)&w->handle->uv, free_handle);
	w->handle = NULL;
	w->events = 0;
}

/* Signals */

static void
on_signal(uv_signal_t *uv, int signum)
{
	struct sigwatch_handle *h = (struct sigwatch_handle *)uv;

	h->owner->cb(signum, h->owner->arg);
}

void
sigwatch_init(struct sigwatch *s, struct loop *loop, int signum,
    void (*cb)(int signum, void *arg), void *arg)
{
	*s = (struct sigwatch){ .cb = cb, .arg = arg };
	s->handle = new0(struct sigwatch_handle);
	s->handle->owner = s;
	must(uv_signal_init(&loop->uv, &s->handle->uv), "signal");
	must(uv_signal_start(&s->handle->uv, on_signal, signum), "signal");
}

void
sigwatch_done(struct sigwatch *s)
{
	if (s->handle == NULL)
		return;
	uv_signal_stop(&s->handle->uv);
	uv_close((uv_handle_t *)&s->handle->uv, free_handle);
	s->handle = NULL;
}
