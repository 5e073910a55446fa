/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "model/egress.h"

static struct err err;

static void
reads_rules_in_order(void **state)
{
	struct egress e;

	assert_ok(egress_parse("allow 10.1.2.3 tcp/445 udp/137-139,\n"
			       "\tdeny private\n allow any tcp , deny ::/0 ",
	    &e, &err));
	assert_int_equal(e.n, 5);
	assert_true(e.rules[0].allow);
	assert_string_equal(e.rules[0].net, "10.1.2.3/32");
	assert_int_equal(e.rules[0].protocol, EGRESS_PROTOCOL_TCP);
	assert_int_equal(e.rules[0].first, 445);
	assert_int_equal(e.rules[0].last, 445);
	assert_int_equal(e.rules[1].protocol, EGRESS_PROTOCOL_UDP);
	assert_int_equal(e.rules[1].last, 139);
	assert_int_equal(e.rules[2].target, EGRESS_TARGET_PRIVATE);
	assert_false(e.rules[2].allow);
	assert_int_equal(e.rules[3].target, EGRESS_TARGET_ANY);
	assert_int_equal(e.rules[3].protocol, EGRESS_PROTOCOL_TCP);
	assert_int_equal(e.rules[3].first, 0);
	assert_int_equal(e.rules[4].target, EGRESS_TARGET_NET6);
	assert_string_equal(e.rules[4].net, "::/0");
	assert_ok(egress_parse(EGRESS_DEFAULT, &e, &err));
	assert_int_equal(e.n, 2);
	assert_ok(egress_parse("allow 2001:0DB8:0:0::/32", &e, &err));
	assert_string_equal(e.rules[0].net, "2001:db8::/32");
}

static void
refuses_what_is_no_rule(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "has no rule" },
		{ " ,\n, ", "has no rule" },
		{ "permit any", "rule 1: it must begin with" },
		{ "allow any, drop any", "rule 2: it must begin with" },
		{ "allow", "names no target" },
		{ "deny any, allow ,", "rule 2: it names no target" },
		{ "allow 10.1.2.3/8", "10.0.0.0/8 is meant" },
		{ "allow 2001:db8::1/32", "2001:db8::/32 is meant" },
		{ "allow 10.0.0.0/33", "neither" },
		{ "allow 10.0.0", "neither" },
		{ "allow www.example.org", "neither" },
		{ "allow ::ffff:1.2.3.4.5", "neither" },
		{ "allow any tcp/0", "services are" },
		{ "allow any tcp/65536", "services are" },
		{ "allow any tcp/90-80", "services are" },
		{ "allow any tcp/", "services are" },
		{ "allow any icmp/8", "services are" },
		{ "allow any any", "services are" },
		{ "allow any sctp", "services are" },
		{ "allow any tcp/80;accept", "services are" },
		{ "allow \"; flush ruleset", "neither" },
	};
	struct egress e;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(egress_parse(bad[i].text, &e, &err), PARAMETER,
		    bad[i].says);
}

static void
has_limits(void **state)
{
	struct egress e;
	struct buf buf;
	_cleanup_(freep)
	char *text = NULL;
	int i;

	buf_init(&buf, 64 * 1024);
	for (i = 0; i < EGRESS_RULES_MAX; i++)
		buf_printf(&buf, "allow any tcp/%d\n", i + 1);
	text = buf_take_str(&buf);
	assert_ok(egress_parse(text, &e, &err));
	assert_int_equal(e.n, EGRESS_RULES_MAX);
	free(text);
	buf_printf(&buf, "allow any");
	for (i = 0; i <= EGRESS_RULES_MAX; i++)
		buf_printf(&buf, " udp/%d", i + 1);
	text = buf_take_str(&buf);
	assert_err(
	    egress_parse(text, &e, &err), PARAMETER, "more than 100 rules");
	free(text);
	for (i = 0; i < 100; i++)
		buf_printf(&buf, "x");
	text = buf_take_str(&buf);
	assert_err(egress_parse(text, &e, &err), PARAMETER, "must begin");
	assert_ok(egress_check("", &err));
	assert_err(egress_check("x", &err), PARAMETER, "must begin");
	buf_done(&buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_rules_in_order),
		cmocka_unit_test(refuses_what_is_no_rule),
		cmocka_unit_test(has_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
