/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A loop for tests: run_until() turns it until a condition of the test holds
 * and fails the test after ten seconds. Static state of the test program that
 * includes it; the fixtures make and free the loop, which proves that every
 * object on it was done.
 */
#ifndef LOOP_TEST_H
#define LOOP_TEST_H

#include "test.h"

#include "loop/loop.h"

#define TEST_LIMIT_MS 10000

static struct loop *loop;

static void
tick(void *arg)
{
	int *ticks = arg;

	(*ticks)++;
	loop_stop(loop);
}

/* Turns the loop for so many milliseconds. */
static _unused_ void
run_for(int64_t ms)
{
	struct timer t;
	int ticks = 0;

	timer_init(&t, loop, tick, &ticks);
	timer_start(&t, ms);
	while (ticks == 0)
		loop_run(loop);
	timer_done(&t);
}

/* Callbacks set the variable, and call loop_stop() or leave it to the next
 * tick. */
#define run_until(condition)                                            \
	do {                                                            \
		int turns_ = 0;                                         \
		while (!(condition) && turns_++ < TEST_LIMIT_MS)        \
			run_for(1);                                     \
		if (!(condition))                                       \
			fail_msg("it never came true: %s", #condition); \
	} while (0)

static int
loop_setup(void **state)
{
	loop = loop_new();
	return 0;
}

static int
loop_teardown(void **state)
{
	loop_free(loop);
	return 0;
}

#define loop_test(f) \
	cmocka_unit_test_setup_teardown(f, loop_setup, loop_teardown)

#endif
