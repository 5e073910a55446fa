/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <stdio.h>

#include "auth/limit.h"

#define ADDRESS "203.0.113.7"

static int
setup(void **state)
{
	*state = auth_limit_new();
	return 0;
}

static int
teardown(void **state)
{
	auth_limit_free(*state);
	return 0;
}

/* One attempt that waits as told and then fails; how long it waited. */
static int64_t
guess(struct auth_limit *l, const char *login, int64_t *now)
{
	int64_t wait = auth_limit_begin(l, login, ADDRESS, *now);

	assert_true(wait >= 0);
	*now += wait;
	auth_limit_end(l, login, ADDRESS, AUTH_LIMIT_FAILED, *now);
	return wait;
}

static void
grows_to_a_limit(void **state)
{
	int64_t now = 1000, last = 0, wait;
	int i;

	for (i = 0; i < AUTH_LIMIT_FREE + 1; i++)
		assert_int_equal(guess(*state, "alice", &now), 0);
	assert_int_equal(guess(*state, "alice", &now), AUTH_LIMIT_FIRST_MS);
	for (i = 0; i < 40; i++) {
		wait = guess(*state, "alice", &now);
		assert_true(wait >= last && wait <= AUTH_LIMIT_LONGEST_MS);
		last = wait;
	}
	assert_int_equal(last, AUTH_LIMIT_LONGEST_MS);
}

static void
others_do_not_wait(void **state)
{
	int64_t now = 0;
	int i;

	for (i = 0; i < 20; i++)
		guess(*state, "alice", &now);
	assert_int_equal(auth_limit_begin(*state, "bob", ADDRESS, now), 0);
	assert_int_equal(
	    auth_limit_begin(*state, "alice", "203.0.113.8", now), 0);
}

static void
success_and_time_forget(void **state)
{
	int64_t now = 0;
	int i;

	for (i = 0; i < 10; i++)
		guess(*state, "alice", &now);
	now += AUTH_LIMIT_LONGEST_MS;
	assert_int_equal(auth_limit_begin(*state, "alice", ADDRESS, now), 0);
	auth_limit_end(*state, "alice", ADDRESS, AUTH_LIMIT_OK, now);
	assert_int_equal(auth_limit_begin(*state, "alice", ADDRESS, now), 0);
	auth_limit_end(*state, "alice", ADDRESS, AUTH_LIMIT_CANCELLED, now);
	for (i = 0; i < 10; i++)
		guess(*state, "alice", &now);
	now += AUTH_LIMIT_FORGET_MS + 1;
	for (i = 0; i < AUTH_LIMIT_FREE + 1; i++)
		assert_int_equal(guess(*state, "alice", &now), 0);
}

/* A user's programs may log in at once; guesses may not. */
static void
in_parallel(void **state)
{
	int64_t now = 0;
	int i;

	for (i = 0; i < AUTH_LIMIT_PENDING; i++)
		assert_int_equal(
		    auth_limit_begin(*state, "alice", ADDRESS, now), 0);
	assert_int_equal(
	    auth_limit_begin(*state, "alice", ADDRESS, now), AUTH_LIMIT_BUSY);
	for (i = 0; i < AUTH_LIMIT_PENDING; i++)
		auth_limit_end(
		    *state, "alice", ADDRESS, AUTH_LIMIT_FAILED, now);
	assert_true(auth_limit_begin(*state, "alice", ADDRESS, now) > 0);
	assert_int_equal(
	    auth_limit_begin(*state, "alice", ADDRESS, now), AUTH_LIMIT_BUSY);
}

static void
many_logins_fit(void **state)
{
	int64_t now = 0;
	char login[32];
	int i;

	for (i = 0; i < 200000; i++) {
		snprintf(login, sizeof(login), "user%d", i);
		assert_true(
		    auth_limit_begin(*state, login, ADDRESS, now++) >= 0);
		auth_limit_end(*state, login, ADDRESS, AUTH_LIMIT_FAILED, now);
	}
	/* The latest are still known. */
	for (i = 0; i < 5; i++)
		guess(*state, login, &now);
	assert_true(guess(*state, login, &now) > 0);
}

static void
ends_of_forgotten_ones_are_harmless(void **state)
{
	auth_limit_end(*state, "nobody", ADDRESS, AUTH_LIMIT_FAILED, 0);
	auth_limit_end(*state, "nobody", ADDRESS, AUTH_LIMIT_OK, 0);
	assert_int_equal(auth_limit_begin(*state, "nobody", ADDRESS, 0), 0);
	auth_limit_end(*state, "nobody", ADDRESS, AUTH_LIMIT_OK, 0);
	auth_limit_end(*state, "nobody", ADDRESS, AUTH_LIMIT_OK, 0);
	assert_int_equal(auth_limit_begin(*state, "nobody", ADDRESS, 0), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(grows_to_a_limit),
		TEST(others_do_not_wait),
		TEST(success_and_time_forget),
		TEST(in_parallel),
		TEST(many_logins_fit),
		TEST(ends_of_forgotten_ones_are_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
