/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "confine/confine.h"
#include "confine/ruleset.h"

static struct err err;

static void
parses_the_network(void **state)
{
	struct confine_net net;

	assert_ok(confine_net_parse(
	    "qvdnet0", "10.88.0.1/16", "9.9.9.9, 1.1.1.1", true, &net, &err));
	assert_string_equal(net.gateway, "10.88.0.1");
	assert_int_equal(net.prefix, 16);
	assert_int_equal(net.n_dns, 2);
	assert_string_equal(net.dns[1], "1.1.1.1");
	assert_true(confine_net_has(&net, "10.88.255.254"));
	assert_true(confine_net_has(&net, "10.88.1.0"));
	assert_false(confine_net_has(&net, "10.88.0.1"));
	assert_false(confine_net_has(&net, "10.88.0.0"));
	assert_false(confine_net_has(&net, "10.88.255.255"));
	assert_false(confine_net_has(&net, "10.89.0.2"));
	assert_false(confine_net_has(&net, "10.88.0.2\n"));
	assert_false(confine_net_has(&net, ""));
}

static void
refuses_what_is_no_network(void **state)
{
	static const char *const bridges[] = { "", "qvd1", "qvd999999999999",
		"a b", "a.b", "a;b", "0123456789abcdef", "-x", "\"" };
	static const char *const gateways[] = { "", "10.0.0.1", "10.0.0.1/",
		"10.0.0.1/31", "10.0.0.1/7", "10.0.0.1/16x", "10.0.1/16",
		"::1/16", "256.0.0.1/16", "10.0.0.1 /16",
		"10.0.0.1111111111111/16" };
	struct confine_net net;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bridges); i++)
		assert_err(confine_net_parse(bridges[i], "10.0.0.1/16", "",
			       false, &net, &err),
		    PARAMETER, "bridge");
	for (i = 0; i < ARRAY_SIZE(gateways); i++)
		assert_err(confine_net_parse(
			       "br0", gateways[i], "", false, &net, &err),
		    PARAMETER, "gateway");
	assert_err(confine_net_parse(
		       "br0", "10.0.0.1/16", "1.1.1.1 }", false, &net, &err),
	    PARAMETER, "DNS");
	assert_err(
	    confine_net_parse("br0", "10.0.0.1/16",
		"1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1", false, &net, &err),
	    PARAMETER, "DNS");
}

static void
names_ports_and_macs(void **state)
{
	char port[CONFINE_PORT_MAX], mac[CONFINE_MAC_MAX];
	char broadcast[CONFINE_ADDR_MAX];

	confine_port(7, port);
	assert_string_equal(port, "qvd7");
	confine_port(CONFINE_ID_MAX, port);
	assert_string_equal(port, "qvd999999999999");
	confine_mac("10.88.1.255", mac);
	assert_string_equal(mac, "54:52:00:58:01:ff");
	confine_broadcast("10.88.1.7", 16, broadcast);
	assert_string_equal(broadcast, "10.88.255.255");
	confine_broadcast("192.168.5.9", 30, broadcast);
	assert_string_equal(broadcast, "192.168.5.11");
}

static void
writes_the_ruleset(void **state)
{
	struct confine_net net;
	_cleanup_(freep)
	char *plain = NULL;
	_cleanup_(freep)
	char *nat = NULL;

	assert_ok(
	    confine_net_parse("br0", "10.0.0.1/16", "", false, &net, &err));
	plain = ruleset_text(&net);
	assert_null(strstr(plain, "masquerade"));
	assert_null(strstr(plain, "delete"));
	/* Elements of desktops that run must outlive a reload. */
	assert_null(strstr(plain, "flush set"));
	assert_non_null(strstr(plain, "flush table bridge qvd\n"));
	assert_ok(confine_net_parse(
	    "br0", "10.0.0.1/16", "9.9.9.9", true, &net, &err));
	nat = ruleset_text(&net);
	assert_non_null(strstr(nat, "oifname != \"br0\" masquerade\n"));
	assert_non_null(strstr(nat, "ip daddr 9.9.9.9 meta l4proto"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_the_network),
		cmocka_unit_test(refuses_what_is_no_network),
		cmocka_unit_test(names_ports_and_macs),
		cmocka_unit_test(writes_the_ruleset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
