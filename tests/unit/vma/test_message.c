/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages on the desktop: lines, and what is said of an expiry. */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "vma/notify.h"

static void
test_wrap(void **state)
{
	char text[] = "one two three  four", word[] = "abcdefghij kl",
	     none[] = "";
	char blanks[] = "   ";
	char *lines[8];

	assert_int_equal(message_wrap(text, 8, lines, 8), 3);
	assert_string_equal(lines[0], "one two");
	assert_string_equal(lines[1], "three ");
	assert_string_equal(lines[2], "four");
	/* No line is longer than the width, whatever the text. */
	assert_int_equal(message_wrap(word, 4, lines, 8), 3);
	assert_string_equal(lines[0], "abcd");
	assert_string_equal(lines[1], "fghi");
	assert_string_equal(lines[2], "kl");
	assert_int_equal(message_wrap(none, 4, lines, 8), 0);
	assert_int_equal(message_wrap(blanks, 2, lines, 8), 1);
	assert_string_equal(lines[0], "");
}

static void
test_too_many_lines(void **state)
{
	char text[] = "a b c d e f";
	char *lines[3];

	assert_int_equal(message_wrap(text, 1, lines, 3), 3);
	assert_string_equal(lines[2], "c");
}

static void
test_expiry(void **state)
{
	_cleanup_(freep)
	char *never = notify_expiry_text(NULL);
	_cleanup_(freep)
	char *when = NULL;
	_cleanup_(freep)
	char *odd = notify_expiry_text("soon");

	setenv("TZ", "UTC", 1);
	when = notify_expiry_text("2030-01-02T03:04:05Z");
	assert_non_null(strstr(never, "Save your work and log out"));
	assert_string_equal(when,
	    "There is a new version of this desktop. It will be restarted on "
	    "2030-01-02 03:04 UTC. Save your work before.");
	assert_non_null(strstr(odd, "restarted on soon"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_too_many_lines),
		cmocka_unit_test(test_expiry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
