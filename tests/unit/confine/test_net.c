/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"
#include "confine/confine.h"
#include "confine/elements.h"
#include "confine/ruleset.h"

static struct err err;

/* As a farm without settings has it, but for these. */
static int
parse(const char *bridge, const char *gateway, const char *gateway6,
    const char *dns, struct confine_net *ret)
{
	const struct confine_conf conf = {
		.bridge = bridge,
		.gateway = gateway,
		.gateway6 = gateway6,
		.dns = dns,
		.packets = 1000,
	};

	return confine_net_parse(&conf, ret, &err);
}

static void
parses_the_network(void **state)
{
	struct confine_net net;

	assert_ok(
	    parse("qvdnet0", "10.88.0.1/16", "", "9.9.9.9, 1.1.1.1", &net));
	assert_string_equal(net.gateway, "10.88.0.1");
	assert_int_equal(net.prefix, 16);
	assert_false(net.ipv6);
	assert_int_equal(net.dns.n, 2);
	assert_string_equal(net.dns.v[1].address, "1.1.1.1");
	assert_true(confine_net_has(&net, "10.88.255.254"));
	assert_true(confine_net_has(&net, "10.88.1.0"));
	assert_false(confine_net_has(&net, "10.88.0.1"));
	assert_false(confine_net_has(&net, "10.88.0.0"));
	assert_false(confine_net_has(&net, "10.88.255.255"));
	assert_false(confine_net_has(&net, "10.89.0.2"));
	assert_false(confine_net_has(&net, "10.88.0.2\n"));
	assert_false(confine_net_has(&net, ""));
	assert_ok(parse("qvdnet0", "10.88.0.1/16", "fd00:88::1/64", "", &net));
	assert_true(net.ipv6);
	assert_int_equal(net.net6.prefix, 64);
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
	static const char *const gateways6[] = { "fd00::1", "fd00::1/63",
		"fd00::1/97", "fd00::1/", "fe80::1/64", "ff02::1/64",
		"10.0.0.1/64", "fd00::1 /64", "fd00::a00:7/64" };
	struct confine_net net;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bridges); i++)
		assert_err(parse(bridges[i], "10.0.0.1/16", "", "", &net),
		    PARAMETER, "bridge");
	for (i = 0; i < ARRAY_SIZE(gateways); i++)
		assert_err(parse("br0", gateways[i], "", "", &net), PARAMETER,
		    "gateway");
	for (i = 0; i < ARRAY_SIZE(gateways6); i++)
		assert_err(parse("br0", "10.0.0.1/16", gateways6[i], "", &net),
		    PARAMETER, "gateway6");
	assert_err(parse("br0", "10.0.0.1/16", "", "1.1.1.1 }", &net),
	    PARAMETER, "name server");
	assert_err(parse("br0", "10.0.0.1/16", "",
		       "1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1", &net),
	    PARAMETER, "name server");
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
names_addresses_of_ipv6(void **state)
{
	char text[CONFINE_ADDR6_MAX];
	struct ipv6_net net6;

	assert_ok(ipv6_net_parse("fd00:88::1/64", &net6, &err));
	confine_address6(&net6, "10.88.1.5", text);
	assert_string_equal(text, "fd00:88::a58:105");
	assert_ok(ipv6_net_parse("2001:db8:1:2:ffff::1/70", &net6, &err));
	confine_address6(&net6, "10.88.1.5", text);
	assert_string_equal(text, "2001:db8:1:2:fc00:0:a58:105");
	confine_link_local("10.88.1.5", text);
	assert_string_equal(text, "fe80::5652:ff:fe58:105");
}

static void
writes_the_ruleset(void **state)
{
	struct confine_net net;
	_cleanup_(freep)
	char *plain = NULL;
	_cleanup_(freep)
	char *nat = NULL;

	assert_ok(parse("br0", "10.0.0.1/16", "", "", &net));
	plain = ruleset_text(&net);
	assert_null(strstr(plain, "masquerade"));
	assert_null(strstr(plain, "delete"));
	/* Elements and chains of desktops that run must outlive a reload; of
	 * the sets only that of the packets' rate begins anew. */
	assert_null(strstr(plain, "flush table"));
	assert_non_null(strstr(plain, "flush set bridge qvd flood\n"));
	assert_null(strstr(plain, "flush set bridge qvd mac"));
	assert_non_null(strstr(plain, "rate over 1000/second"));
	assert_non_null(strstr(plain, "vmin ip daddr 10.0.0.1 meta l4proto"));
	assert_ok(parse("br0", "10.0.0.1/16", "fd00::1/64", "9.9.9.9", &net));
	net.nat = true;
	net.packets = 0;
	nat = ruleset_text(&net);
	assert_non_null(strstr(nat, "ip saddr 10.0.0.1/16 oifname != \"br0\" "
				    "masquerade\n"));
	assert_non_null(strstr(nat, "ip6 saddr fd00::1/64 oifname != \"br0\" "
				    "masquerade\n"));
	assert_non_null(strstr(nat, "vmout ip daddr 9.9.9.9 meta l4proto"));
	/* The resolver that was named, and no other. */
	assert_null(strstr(nat, "vmin ip daddr 10.0.0.1 meta l4proto"));
	assert_null(strstr(nat, "@flood {"));
}

static void
writes_a_desktop(void **state)
{
	struct port port = { .vm_id = 7, .address = "10.88.1.5" };
	struct egress egress;
	struct buf buf;
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(freep)
	char *gone = NULL;

	assert_ok(egress_parse("allow 10.1.0.0/16 tcp/80-90 icmp, deny "
			       "private, allow 2001:db8::/32 udp/53",
	    &egress, &err));
	buf_init(&buf, 64 * 1024);
	elements_add(&buf, &port, &egress, 8000);
	text = buf_take_str(&buf);
	assert_non_null(strstr(text,
	    "add rule inet qvd e7 ip daddr 10.1.0.0/16 tcp dport 80-90 "
	    "accept\n"
	    "add rule inet qvd e7 ip daddr 10.1.0.0/16 meta l4proto { icmp, "
	    "ipv6-icmp } accept\n"
	    "add rule inet qvd e7 ip daddr { 10.0.0.0/8, "));
	assert_non_null(
	    strstr(text, "ip6 daddr 2001:db8::/32 udp dport 53-53 accept\n"
			 "add rule inet qvd e7 counter drop\n"));
	assert_non_null(strstr(text, "egress4 { 10.88.1.5 : goto e7 }\n"));
	assert_non_null(strstr(text, "rate over 1000000 bytes/second"));
	assert_null(strstr(text, "macip6"));
	str_copy(port.address6, sizeof(port.address6), "fd00::a58:105");
	elements_delete(&buf, &port, true);
	gone = buf_take_str(&buf);
	assert_non_null(strstr(gone, "delete element bridge qvd macip6 { "
				     "\"qvd7\" . 54:52:00:58:01:05 . "
				     "fe80::5652:ff:fe58:105 }\n"));
	assert_non_null(strstr(gone, "delete element bridge qvd ndmac { "
				     "\"qvd7\" . 0x545200580105 }\n"));
	assert_non_null(strstr(gone, "delete chain inet qvd e7\n"));
	buf_done(&buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_the_network),
		cmocka_unit_test(refuses_what_is_no_network),
		cmocka_unit_test(names_ports_and_macs),
		cmocka_unit_test(names_addresses_of_ipv6),
		cmocka_unit_test(writes_the_ruleset),
		cmocka_unit_test(writes_a_desktop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
