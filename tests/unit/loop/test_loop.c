/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/loop_test.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char order[64];

static void
note(void *arg)
{
	order[strlen(order)] = *(const char *)arg;
}

static void
note_and_defer(void *arg)
{
	note(arg);
	loop_defer(loop, note, (void *)(uintptr_t) "d");
}

static void
runs_deferred_work_in_order(void **state)
{
	memset(order, 0, sizeof(order));
	loop_defer(loop, note_and_defer, (void *)(uintptr_t) "a");
	loop_defer(loop, note, (void *)(uintptr_t) "b");
	loop_stop(loop);
	loop_run(loop);
	/* All of it is done before loop_run() returns. */
	assert_string_equal(order, "abd");
}

static void
timers_fire_once_and_can_be_moved(void **state)
{
	struct timer early, moved, stopped;

	memset(order, 0, sizeof(order));
	timer_init(&early, loop, note, (void *)(uintptr_t) "e");
	timer_init(&moved, loop, note, (void *)(uintptr_t) "m");
	timer_init(&stopped, loop, note, (void *)(uintptr_t) "s");
	timer_start(&moved, 1);
	timer_start(&early, 5);
	timer_start(&stopped, 5);
	timer_start(&moved, 15);
	timer_stop(&stopped);
	assert_true(timer_active(&moved));
	assert_false(timer_active(&stopped));
	run_for(40);
	assert_string_equal(order, "em");
	assert_false(timer_active(&early));
	timer_done(&early);
	timer_done(&moved);
	timer_done(&stopped);
}

struct pair {
	struct watch watch;
	int events;
	int calls;
	bool end;
};

static void
on_ready(int events, void *arg)
{
	struct pair *p = arg;

	p->events |= events;
	p->calls++;
	if (p->end)
		watch_done(&p->watch);
}

static void
watches_descriptors(void **state)
{
	struct pair p = { 0 };
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	watch_init(&p.watch, loop, fds[0], on_ready, &p);
	watch_set(&p.watch, WATCH_READ);
	run_for(5);
	assert_int_equal(p.calls, 0);
	watch_set(&p.watch, WATCH_READ | WATCH_WRITE);
	run_until(p.events == WATCH_WRITE);
	watch_set(&p.watch, WATCH_READ);
	p.events = p.calls = 0;
	assert_int_equal(write(fds[1], "x", 1), 1);
	/* Level-triggered: it comes again as long as nobody reads. */
	run_until(p.events == WATCH_READ && p.calls > 2);
	watch_set(&p.watch, 0);
	p.calls = 0;
	run_for(5);
	assert_int_equal(p.calls, 0);
	/* The end of the peer is something to read; done inside the call. */
	close(fds[1]);
	p.end = true;
	watch_set(&p.watch, WATCH_READ);
	run_until(p.calls == 1);
	run_for(5);
	assert_int_equal(p.calls, 1);
	close(fds[0]);
}

static void
on_signal(int signum, void *arg)
{
	*(int *)arg = signum;
}

static void
signals_are_events(void **state)
{
	struct sigwatch s;
	int got = 0;

	sigwatch_init(&s, loop, SIGUSR1, on_signal, &got);
	raise(SIGUSR1);
	run_until(got == SIGUSR1);
	sigwatch_done(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(runs_deferred_work_in_order),
		loop_test(timers_fire_once_and_can_be_moved),
		loop_test(watches_descriptors),
		loop_test(signals_are_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
