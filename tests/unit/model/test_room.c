/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include "model/room.h"

#define MIB (INT64_C(1) << 20)

static void
test_by_image(void **state)
{
	static const struct room_vm vms[] = {
		{ 7, 90 * MIB, true }, { 3, 20 * MIB, true },
		{ 3, 40 * MIB, true },
		{ 3, 500 * MIB, false }, /* asleep: says nothing */
		{ 0, 500 * MIB, true },  /* of no image that is known */
		{ 9, 5 * MIB, false },   /* the image's only one */
		{ 8, 0, true },          /* nobody could look at it */
	};
	struct room room[7];

	assert_int_equal(room_by_image(vms, 7, 900 * MIB, room), 3);
	assert_int_equal(room[0].image_id, 3);
	assert_int_equal(room[0].each_bytes, 30 * MIB);
	assert_int_equal(room[0].more, 30);
	assert_int_equal(room[1].image_id, 7);
	assert_int_equal(room[1].more, 10);
	assert_int_equal(room[2].image_id, 8);
	assert_int_equal(room[2].more, 0);
	assert_int_equal(room_by_image(NULL, 0, 900 * MIB, room), 0);
}

static void
test_free_bytes(void **state)
{
	assert_int_equal(room_free_bytes(1000 * MIB, 2000 * MIB), 900 * MIB);
	assert_int_equal(room_free_bytes(50 * MIB, 2000 * MIB), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_image),
		cmocka_unit_test(test_free_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
