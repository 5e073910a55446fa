/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "auth/auth.h"
#include "base/str.h"
#include "base/time.h"

static int
setup(void **state)
{
	struct err err = { 0 };

	return auth_init(&err);
}

static bool
verify(const char *password, const char *hash)
{
	struct auth_query query = {
		.tenant = "default",
		.login = "alice",
		.password = password,
		.hash = hash,
	};
	struct err err = { 0 };
	bool ok = false;

	assert_ok(auth_verify(&query, &ok, &err));
	return ok;
}

static void
accepts_only_the_password(void **state)
{
	_cleanup_(freep)
	char *hash = NULL;
	struct err err = { 0 };

	assert_ok(auth_hash("secret", &hash, &err));
	assert_true(str_starts(hash, "$y$"));
	assert_true(verify("secret", hash));
	assert_false(verify("Secret", hash));
	assert_false(verify("secret ", hash));
	assert_false(verify("", hash));
	assert_false(verify("secret", NULL));
}

static void
hashes_differ(void **state)
{
	_cleanup_(freep)
	char *one = NULL;
	_cleanup_(freep)
	char *two = NULL;
	struct err err = { 0 };

	assert_ok(auth_hash("secret", &one, &err));
	assert_ok(auth_hash("secret", &two, &err));
	assert_string_not_equal(one, two);
}

/* Locked accounts, leftovers, and what crypt() itself gives for nonsense. */
static void
unusable_hashes_accept_nothing(void **state)
{
	static const char *const bad[] = { "", "!", "*", "*0", "*1", "x",
		"secret", "$y$", "$y$j9T$", "$9$nonsense$", "$6$" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(verify("secret", bad[i]));
		assert_false(verify("", bad[i]));
		assert_false(verify(bad[i], bad[i]));
	}
}

static void
limits(void **state)
{
	struct auth_query query = { .tenant = "t", .login = "l" };
	_cleanup_(freep)
	char *hash = NULL;
	char long_one[AUTH_PASSWORD_MAX + 2];
	struct err err = { 0 };
	bool ok;

	memset(long_one, 'x', sizeof(long_one));
	long_one[AUTH_PASSWORD_MAX + 1] = '\0';
	query.password = long_one;
	assert_err(auth_verify(&query, &ok, &err), AUTH, "longer than");
	assert_err(auth_hash(long_one, &hash, &err), PARAMETER, "longer than");
	assert_err(auth_hash("", &hash, &err), PARAMETER, "empty");
}

/* An unknown user costs a hash too: within a factor that noise can't reach. */
static void
unknown_user_takes_as_long(void **state)
{
	_cleanup_(freep)
	char *hash = NULL;
	struct err err = { 0 };
	int64_t known = INT64_MAX, unknown = INT64_MAX, t;
	int i;

	assert_ok(auth_hash("secret", &hash, &err));
	for (i = 0; i < 3; i++) {
		t = time_now_us();
		verify("wrong", hash);
		t = time_now_us() - t;
		known = t < known ? t : known;
		t = time_now_us();
		verify("wrong", NULL);
		t = time_now_us() - t;
		unknown = t < unknown ? t : unknown;
	}
	assert_true(unknown > known / 3);
	assert_true(known > unknown / 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_only_the_password),
		cmocka_unit_test(hashes_differ),
		cmocka_unit_test(unusable_hashes_accept_nothing),
		cmocka_unit_test(limits),
		cmocka_unit_test(unknown_user_takes_as_long),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
