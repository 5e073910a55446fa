/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static void
sets_and_wraps(void **state)
{
	struct err err = { 0 };
	int r;

	assert_false(err_is_set(&err));
	r = err_set(&err, ERR_CONFLICT, "VM %d is already running", 12);
	assert_int_equal(r, -ERR_CONFLICT);
	assert_true(err_is_set(&err));
	r = err_wrap(&err, r, "start VM %d", 12);
	assert_int_equal(r, -ERR_CONFLICT);
	assert_string_equal(err.msg, "start VM 12: VM 12 is already running");
	assert_int_equal(err_set(NULL, ERR_AUTH, "x"), -ERR_AUTH);
	assert_int_equal(err_wrap(NULL, -3, "x"), -3);
	assert_int_equal(
	    err_errno(NULL, ERR_SYSTEM, ENOSPC, "x"), -ERR_NO_SPACE);
}

static void
errno_becomes_a_code(void **state)
{
	struct err err;

	assert_err(err_errno(&err, ERR_SYSTEM, EDQUOT, "write %s", "f"),
	    NO_SPACE, "write f: ");
	assert_err(err_errno(&err, ERR_SYSTEM, ENOMEM, "x"), NO_MEMORY, "x: ");
	assert_err(err_errno(&err, ERR_CONFIG, ENOENT, "read /x"), CONFIG,
	    "read /x: No such file or directory");
}

static void
long_sentences_are_cut_at_a_character(void **state)
{
	static const char *const characters[] = { "é", "€", "😀" };
	char big[2 * ERR_MSG_MAX];
	struct err err;

	for (size_t c = 0; c < ARRAY_SIZE(characters); c++) {
		size_t width = strlen(characters[c]);

		for (size_t shift = 0; shift < width; shift++) {
			memset(big, 'a', shift);
			for (size_t i = shift; i + width < sizeof(big);
			     i += width)
				memcpy(big + i, characters[c], width + 1);
			err_set(&err, ERR_INTERNAL, "%s", big);
			assert_true(str_is_text(err.msg, ERR_MSG_MAX));
			assert_true(strlen(err.msg) > ERR_MSG_MAX - 1 - width);
			err_wrap(&err, -1, "context");
			assert_true(str_is_text(err.msg, ERR_MSG_MAX));
		}
	}
	/* One that just fits stays whole. */
	memset(big, 'a', ERR_MSG_MAX - 3);
	memcpy(big + ERR_MSG_MAX - 3, "é", 3);
	err_set(&err, ERR_INTERNAL, "%s", big);
	assert_string_equal(err.msg, big);
}

static void
the_table_holds_together(void **state)
{
	for (int i = ERR_NONE + 1; i < ERR_COUNT_; i++) {
		enum err_code code = (enum err_code)i;

		assert_true(err_http_status(code) >= 400);
		assert_in_range(err_exit_code(code), 2, 125);
		assert_int_equal(err_from_id(err_id(code)), code);
	}
	assert_int_equal(err_http_status(ERR_TAKEN_OVER), 409);
	assert_int_equal(err_http_status((enum err_code)999), 500);
	assert_string_equal(err_id((enum err_code) - 1), "internal");
	assert_int_equal(err_from_id("no such id"), ERR_INTERNAL);
	/* A peer can't make an error a success. */
	assert_int_equal(err_from_id("ok"), ERR_INTERNAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_and_wraps),
		cmocka_unit_test(errno_becomes_a_code),
		cmocka_unit_test(long_sentences_are_cut_at_a_character),
		cmocka_unit_test(the_table_holds_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
