/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include "model/fill.h"

#define MB INT64_C(1024)
#define GB (1024 * MB)
#define PB (1024 * 1024 * GB)

static enum fill
level(enum fill was, int64_t used_kb, int64_t size_kb, int64_t files)
{
	const struct fill_facts f = { used_kb, size_kb, files };

	return fill_level(was, &f);
}

static void
test_marks(void **state)
{
	assert_int_equal(level(FILL_OK, 89 * MB, 100 * MB, 0), FILL_OK);
	assert_int_equal(level(FILL_OK, 90 * MB, 100 * MB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_OK, 98 * MB, 100 * MB, 0), FILL_FULL);
	assert_int_equal(level(FILL_OK, 100 * MB, 100 * MB, 0), FILL_FULL);
	/* More than there is, as a qgroup can say. */
	assert_int_equal(level(FILL_OK, 101 * MB, 100 * MB, 0), FILL_FULL);
	/* Small ones, too. */
	assert_int_equal(level(FILL_OK, 9, 10, 0), FILL_HIGH);
}

/* A word goes later than it comes. */
static void
test_hysteresis(void **state)
{
	assert_int_equal(level(FILL_FULL, 95 * MB, 100 * MB, 0), FILL_FULL);
	assert_int_equal(level(FILL_FULL, 94 * MB, 100 * MB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_FULL, 86 * MB, 100 * MB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_HIGH, 85 * MB, 100 * MB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_HIGH, 84 * MB, 100 * MB, 0), FILL_OK);
	assert_int_equal(level(FILL_FULL, 84 * MB, 100 * MB, 0), FILL_OK);
	/* Walking about a mark says one thing. */
	assert_int_equal(level(FILL_HIGH, 89 * MB, 100 * MB, 0), FILL_HIGH);
}

/* Hundreds of GiB are room, whatever their percentage. */
static void
test_large(void **state)
{
	assert_int_equal(level(FILL_OK, 960 * GB, 1000 * GB, 0), FILL_OK);
	assert_int_equal(level(FILL_OK, 970 * GB, 1000 * GB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_HIGH, 940 * GB, 1000 * GB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_HIGH, 930 * GB, 1000 * GB, 0), FILL_OK);
	assert_int_equal(level(FILL_OK, 995 * GB, 1000 * GB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_OK, 997 * GB, 1000 * GB, 0), FILL_FULL);
	assert_int_equal(level(FILL_FULL, 993 * GB, 1000 * GB, 0), FILL_FULL);
	assert_int_equal(level(FILL_FULL, 990 * GB, 1000 * GB, 0), FILL_HIGH);
	assert_int_equal(level(FILL_OK, 8 * PB - 1, 8 * PB, 0), FILL_FULL);
}

/* A file system has a number of files, too. */
static void
test_files(void **state)
{
	const struct fill_facts f = { 1, 1000 * GB, 985 };

	assert_int_equal(level(FILL_OK, 1, 1000 * GB, 985), FILL_FULL);
	assert_int_equal(level(FILL_OK, 1, 100, 900), FILL_HIGH);
	assert_int_equal(fill_percent(&f), 98);
}

static void
test_no_limit(void **state)
{
	const struct fill_facts none = { 500, 0, 1000 };

	assert_int_equal(fill_level(FILL_FULL, &none), FILL_OK);
	assert_int_equal(fill_percent(&none), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_hysteresis),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
