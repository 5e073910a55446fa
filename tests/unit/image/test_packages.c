/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "image/packages.h"

static void
parse(const char *text, struct packages *ret)
{
	packages_parse(text, strlen(text), ret);
}

static void
installed_ones_by_name(void **state)
{
	struct packages p;

	parse("Package: vim\nStatus: install ok installed\n"
	      "Architecture: amd64\nVersion: 9.0\nInstalled-Size: 3\n\n"
	      "Package: gone\nStatus: deinstall ok config-files\n"
	      "Version: 1\n\n"
	      "Package: base\nVersion: 2\nDescription: x\n Version: 3\n"
	      "Status: install ok installed",
	    &p);
	assert_int_equal(p.n, 2);
	assert_string_equal(p.list[0].name, "base");
	assert_string_equal(p.list[0].version, "2");
	assert_string_equal(p.list[1].name, "vim:amd64");
	assert_int_equal(p.list[1].bytes, 3072);
	packages_done(&p);
}

static void
what_is_no_package_is_passed_over(void **state)
{
	struct packages p;

	parse("", &p);
	assert_int_equal(p.n, 0);
	packages_done(&p);
	parse("Package: a\nStatus: install ok installed\n\n"
	      "Version: 1\nStatus: install ok installed\n\n"
	      "Package: \x01\nVersion: 1\nStatus: install ok installed\n",
	    &p);
	assert_int_equal(p.n, 0);
	packages_done(&p);
}

static void
doubles_count_once(void **state)
{
	static const char one[] =
	    "Package: a\nStatus: install ok installed\nVersion: 1\n\n";
	char text[3 * sizeof(one)];
	struct packages p;

	snprintf(text, sizeof(text), "%s%s%s", one, one, one);
	parse(text, &p);
	assert_int_equal(p.n, 1);
	packages_done(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(installed_ones_by_name),
		cmocka_unit_test(what_is_no_package_is_passed_over),
		cmocka_unit_test(doubles_count_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
