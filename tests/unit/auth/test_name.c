/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "auth/name.h"

static void
splits(void **state)
{
	static const struct {
		const char *text, *login, *folded, *tenant;
	} cases[] = {
		{ "alice", "alice", "alice", "default" },
		{ "alice@acme", "alice", "alice", "acme" },
		{ "alice#acme", "alice", "alice", "acme" },
		{ " Alice @ acme ", "Alice", "alice", "acme" },
		{ "alice@mail.example@acme", "alice@mail.example",
		    "alice@mail.example", "acme" },
		{ "alice@x#acme", "alice@x", "alice@x", "acme" },
		{ "alice#x@acme", "alice#x", "alice#x", "acme" },
		{ "Zo\xc3\xab", "Zo\xc3\xab", "zo\xc3\xab", "default" },
	};
	struct auth_name name;
	struct err err = { 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_ok(auth_name_parse(
		    cases[i].text, "@#", "default", &name, &err));
		assert_string_equal(name.login, cases[i].login);
		assert_string_equal(name.folded, cases[i].folded);
		assert_string_equal(name.tenant, cases[i].tenant);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = { "", " ", "@acme", "alice@",
		"alice@ ", " #", "a\nb", "a\x7f", "\xff\xfe", "a@b\x01" };
	struct auth_name name;
	struct err err = { 0 };
	char text[200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(
		    auth_name_parse(bad[i], "@#", "default", &name, &err), AUTH,
		    "login@tenant");
	memset(text, 'a', sizeof(text));
	text[AUTH_NAME_MAX + 1] = '\0';
	assert_err(
	    auth_name_parse(text, "@#", "default", &name, &err), AUTH, "form");
	text[AUTH_NAME_MAX] = '\0';
	assert_ok(auth_name_parse(text, "@#", "default", &name, &err));
	assert_int_equal(strlen(name.login), AUTH_NAME_MAX);
}

/* Both are the administrator's to set. */
static void
follows_settings(void **state)
{
	struct auth_name name;
	struct err err = { 0 };

	assert_ok(auth_name_parse("a@b%c", "%", "acme", &name, &err));
	assert_string_equal(name.login, "a@b");
	assert_string_equal(name.tenant, "c");
	assert_ok(auth_name_parse("a@b", "%", "acme", &name, &err));
	assert_string_equal(name.login, "a@b");
	assert_string_equal(name.tenant, "acme");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits),
		cmocka_unit_test(refuses),
		cmocka_unit_test(follows_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
