/* SPDX-License-Identifier: GPL-3.0-or-later */
/* On texts that stand in for a kernel's: few that run tests have AppArmor. */
#include "test.h"

#include <string.h>

#include "model/apparmor.h"

static void
is_off_without_the_kernels_word(void **state)
{
	assert_int_equal(apparmor_judge(NULL, NULL), APPARMOR_OFF);
	assert_int_equal(
	    apparmor_judge("N\n", "qvd-desktop (enforce)\n"), APPARMOR_OFF);
	assert_string_equal(apparmor_says(APPARMOR_OFF), "");
}

static void
knows_its_profile_by_the_whole_name(void **state)
{
	assert_int_equal(apparmor_judge("Y\n", NULL), APPARMOR_NOT_LOADED);
	assert_int_equal(apparmor_judge("Y\n", ""), APPARMOR_NOT_LOADED);
	assert_int_equal(
	    apparmor_judge(
		"Y\n", "a-qvd-desktop (enforce)\nqvd-desktop-2 (enforce)\n"),
	    APPARMOR_NOT_LOADED);
	assert_int_equal(
	    apparmor_judge(
		"Y\n", "man (enforce)\nqvd-desktop (enforce)\nx (complain)\n"),
	    APPARMOR_ON);
	assert_int_equal(
	    apparmor_judge("Y\n", "qvd-desktop (complain)"), APPARMOR_ON);
}

static void
says_what_to_do(void **state)
{
	assert_non_null(strstr(apparmor_says(APPARMOR_NOT_LOADED),
	    "apparmor_parser --replace /etc/apparmor.d/qvd-desktop"));
	assert_non_null(strstr(apparmor_says(APPARMOR_ON), "qvd-desktop"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_off_without_the_kernels_word),
		cmocka_unit_test(knows_its_profile_by_the_whole_name),
		cmocka_unit_test(says_what_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
