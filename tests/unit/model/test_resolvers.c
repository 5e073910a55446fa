/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "model/resolvers.h"

static struct err err;

static void
lists_are_parsed(void **state)
{
	struct resolvers r;
	char text[RESOLVERS_TEXT_MAX];

	assert_ok(resolvers_parse("", &r, &err));
	assert_int_equal(r.n, 0);
	assert_string_equal(resolvers_text(&r, "10.88.0.1", text), "10.88.0.1");
	assert_ok(resolvers_parse(" 9.9.9.9,1.1.1.1 2001:DB8:0::53", &r, &err));
	assert_int_equal(r.n, 3);
	assert_string_equal(r.v[0].address, "9.9.9.9");
	assert_false(r.v[1].ipv6);
	assert_true(r.v[2].ipv6);
	assert_string_equal(resolvers_text(&r, "10.88.0.1", text),
	    "9.9.9.9 1.1.1.1 2001:db8::53");
	assert_true(resolvers_have(&r, "2001:db8::53"));
	assert_false(resolvers_have(&r, "9.9.9"));
}

/* The longest ones fit. */
static void
four_are_enough(void **state)
{
	static const char longest[] = "1111:2222:3333:4444:5555:6666:7777:8888";
	char text[RESOLVERS_TEXT_MAX] = "", again[RESOLVERS_TEXT_MAX];
	char five[5 * sizeof(longest)];
	struct resolvers r;

	snprintf(text, sizeof(text), "%s %s %s %s", longest, longest, longest,
	    longest);
	assert_ok(resolvers_parse(text, &r, &err));
	assert_string_equal(resolvers_text(&r, "", again), text);
	snprintf(five, sizeof(five), "1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4 5.5.5.5");
	assert_err(resolvers_parse(five, &r, &err), PARAMETER, "more than 4");
	memset(text, ' ', sizeof(text) - 1);
	assert_ok(resolvers_parse(text, &r, &err));
	snprintf(five, sizeof(five), "%s x", text);
	assert_err(resolvers_parse(five, &r, &err), PARAMETER, "without end");
}

static void
what_is_no_address_is_refused(void **state)
{
	static const char *const wrong[] = { "dns.example", "1.1.1", "1.1.1.1;",
		"9.9.9.9\n", "2001:db8::53/64", "[2001:db8::53]",
		"fe80::1%eth0", "1.1.1.1 ::g",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb" };
	struct resolvers r;
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_err(resolvers_parse(wrong[i], &r, &err), PARAMETER,
		    "is no IPv4 or IPv6 address");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_parsed),
		cmocka_unit_test(four_are_enough),
		cmocka_unit_test(what_is_no_address_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
