/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include "model/idle.h"

static const struct idle_facts idle = {
	.state = VM_STATE_RUNNING,
	.session = SESSION_SUSPENDED,
	.session_since_ms = 100000,
	.idle_after_ms = 60000,
};

static void
test_due(void **state)
{
	assert_int_equal(idle_due_ms(&idle), 160000);
}

static void
test_not(void **state)
{
	struct idle_facts f;
	int i;

	/* Only a suspended session in a running desktop. */
	for (i = 0; i < SESSION_COUNT_; i++) {
		f = idle;
		f.session = (enum session_state)i;
		assert_int_equal(
		    idle_due_ms(&f), i == SESSION_SUSPENDED ? 160000 : -1);
	}
	for (i = 0; i < VM_STATE_COUNT_; i++) {
		f = idle;
		f.state = (enum vm_state)i;
		assert_int_equal(
		    idle_due_ms(&f), i == VM_STATE_RUNNING ? 160000 : -1);
	}
	f = idle;
	f.idle_after_ms = 0;
	assert_int_equal(idle_due_ms(&f), -1);
}

static void
test_stream(void **state)
{
	struct idle_facts f = idle;

	/* Long ago: no matter. */
	f.stream_ms = 90000;
	assert_int_equal(idle_due_ms(&f), 160000);
	/* Somebody is just coming in. */
	f.stream_ms = 159999;
	assert_int_equal(idle_due_ms(&f), 159999 + IDLE_STREAM_MS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_due),
		cmocka_unit_test(test_not),
		cmocka_unit_test(test_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
