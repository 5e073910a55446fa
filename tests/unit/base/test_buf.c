/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/buf.h"

static void
fills_at_the_end_and_drains_at_the_start(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	assert_string_equal(buf_head(&b), "");
	assert_true(buf_append(&b, "hello ", 6));
	assert_true(buf_append(&b, "world", 5));
	buf_consume(&b, 6);
	assert_int_equal(buf_len(&b), 5);
	assert_memory_equal(buf_head(&b), "world", 5);
	assert_int_equal(buf_room(&b), 95);
	buf_done(&b);
}

static void
keeps_its_limit(void **state)
{
	char block[64] = { 0 };
	struct buf b;

	buf_init(&b, sizeof(block));
	assert_true(buf_append(&b, block, sizeof(block)));
	assert_false(buf_append(&b, "x", 1));
	assert_null(buf_reserve(&b, 1));
	assert_true(buf_append(&b, NULL, 0));
	assert_int_equal(buf_len(&b), sizeof(block));
	buf_consume(&b, 1);
	assert_true(buf_append(&b, "x", 1));
	assert_int_equal(buf_len(&b), sizeof(block));
	buf_done(&b);
}

static void
prints_exactly_up_to_its_limit(void **state)
{
	struct buf b;

	buf_init(&b, 5);
	assert_true(buf_printf(&b, "%s", "12345"));
	assert_false(buf_printf(&b, "%c", '6'));
	assert_memory_equal(buf_head(&b), "12345", 5);
	buf_done(&b);

	/* "No limit" is a limit, too. */
	buf_init(&b, SIZE_MAX);
	assert_true(buf_printf(&b, "%d", 42));
	assert_int_equal(buf_len(&b), 2);
	assert_int_equal(b.limit, SIZE_MAX);
	buf_done(&b);
}

static void
keeps_the_bytes_over_many_moves(void **state)
{
	unsigned char in = 0, out = 0;
	struct buf b;

	buf_init(&b, 5000);
	for (int round = 0; round < 3000; round++) {
		size_t n = (size_t)(round * 7 % 113);

		for (size_t i = 0; i < n && buf_room(&b) > 0; i++, in++)
			assert_true(buf_append(&b, &in, 1));
		n = (size_t)(round * 5 % 127);
		for (; n > 0 && buf_len(&b) > 0; n--, out++) {
			assert_int_equal((unsigned char)*buf_head(&b), out);
			buf_consume(&b, 1);
		}
	}
	buf_done_secret(&b);
}

static void
an_empty_one_holds_no_memory(void **state)
{
	struct buf b;

	buf_init(&b, 100);
	buf_append(&b, "x", 1);
	buf_release(&b);
	assert_non_null(b.data);
	buf_consume(&b, 1);
	buf_release(&b);
	assert_null(b.data);
	assert_true(buf_append(&b, "y", 1));
	buf_done(&b);
}

static void
reserve_and_commit(void **state)
{
	struct buf b;
	char *p;

	buf_init(&b, 10000);
	p = buf_reserve(&b, 3000);
	assert_non_null(p);
	memset(p, 'z', 3000);
	buf_commit(&b, 2000);
	assert_int_equal(buf_len(&b), 2000);
	assert_non_null(buf_reserve(&b, 8000));
	assert_null(buf_reserve(&b, 8001));
	assert_int_equal(buf_head(&b)[1999], 'z');
	buf_done(&b);
}

static void
hands_out_a_string(void **state)
{
	_cleanup_(freep)
	char *s = NULL;
	struct buf b;

	buf_init(&b, 10);
	buf_append(&b, "abc", 3);
	s = buf_take_str(&b);
	assert_string_equal(s, "abc");
	assert_int_equal(buf_len(&b), 0);
	buf_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_at_the_end_and_drains_at_the_start),
		cmocka_unit_test(keeps_its_limit),
		cmocka_unit_test(prints_exactly_up_to_its_limit),
		cmocka_unit_test(keeps_the_bytes_over_many_moves),
		cmocka_unit_test(an_empty_one_holds_no_memory),
		cmocka_unit_test(reserve_and_commit),
		cmocka_unit_test(hands_out_a_string),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
