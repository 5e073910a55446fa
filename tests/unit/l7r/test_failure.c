/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"
#include "l7r/failure.h"

static void
goes_through_json(void **state)
{
	struct failure f, back;
	json_t *json;

	failure_set(&f, 409, ERR_TAKEN_OVER, "somebody took VM %d", 7);
	json = failure_to_json(&f);
	assert_true(failure_from_json(json, &back));
	json_decref(json);
	assert_int_equal(back.err.code, ERR_TAKEN_OVER);
	assert_string_equal(back.err.msg, "somebody took VM 7");
	assert_string_equal(back.ref, f.ref);
	assert_int_equal(failure_status(&back), 409);
}

static void
status_is_the_errors_without_one(void **state)
{
	struct failure f;

	failure_set(&f, 0, ERR_AUTH, "who?");
	assert_int_equal(failure_status(&f), 401);
	f.status = 503;
	assert_int_equal(failure_status(&f), 503);
}

static void
references_can_be_read_out(void **state)
{
	char a[REF_LEN + 1], b[REF_LEN + 1];

	ref_new(a);
	ref_new(b);
	assert_int_equal(strlen(a), REF_LEN);
	assert_int_equal(
	    strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), REF_LEN);
	assert_string_not_equal(a, b);
}

static void
odd_objects(void **state)
{
	struct failure f = { 0 };
	json_t *json = json_pack("{s:i}", "ok", 1);

	assert_false(failure_from_json(json, &f));
	assert_false(failure_from_json(NULL, &f));
	json_decref(json);
	json = json_pack(
	    "{s:{s:s, s:s}}", "failed", "id", "no such id", "ref", "short");
	assert_true(failure_from_json(json, &f));
	json_decref(json);
	assert_int_equal(f.err.code, ERR_INTERNAL);
	assert_int_equal(strlen(f.ref), REF_LEN);
	/* A message that is no UTF-8 does not lose the rest. */
	err_set(&f.err, ERR_SESSION, "\xff\xfe");
	json = failure_to_json(&f);
	assert_true(failure_from_json(json, &f));
	assert_int_equal(f.err.code, ERR_SESSION);
	json_decref(json);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_through_json),
		cmocka_unit_test(status_is_the_errors_without_one),
		cmocka_unit_test(references_can_be_read_out),
		cmocka_unit_test(odd_objects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
