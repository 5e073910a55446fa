/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/arena.h"

static void
gives_zeroed_aligned_memory(void **state)
{
	_cleanup_(arena_freep)
	struct arena *a = arena_new(1 << 20);
	size_t n;

	for (n = 1; n < 5000; n += 37) {
		unsigned char *p = arena_alloc(a, n);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, n);
	}
}

static void
stops_at_its_limit(void **state)
{
	_cleanup_(arena_freep)
	struct arena *a = arena_new(4096);
	int n = 0;

	while (arena_alloc(a, 16) != NULL)
		n++;
	assert_int_equal(n, 256);
	assert_int_equal(arena_used(a), 4096);
	assert_null(arena_alloc(a, 1));
	assert_null(arena_strdup(a, ""));
	assert_null(arena_printf(a, "%d", 1));
	assert_non_null(arena_alloc(a, 0));
}

static void
refuses_sizes_that_wrap(void **state)
{
	_cleanup_(arena_freep)
	struct arena *a = arena_new(SIZE_MAX);

	assert_null(arena_alloc(a, SIZE_MAX));
	assert_null(arena_alloc(a, SIZE_MAX - 1));
	assert_non_null(arena_alloc(a, 1));
	assert_null(arena_alloc(a, SIZE_MAX - 15));
}

static void
copies_strings(void **state)
{
	_cleanup_(arena_freep)
	struct arena *a = arena_new(1 << 16);

	arena_set_secret(a);
	assert_string_equal(arena_strdup(a, "café"), "café");
	assert_string_equal(arena_strndup(a, "abcdef", 3), "abc");
	assert_string_equal(arena_strndup(a, "ab", 30), "ab");
	assert_string_equal(arena_printf(a, "%s-%04d", "x", 7), "x-0007");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_zeroed_aligned_memory),
		cmocka_unit_test(stops_at_its_limit),
		cmocka_unit_test(refuses_sizes_that_wrap),
		cmocka_unit_test(copies_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
