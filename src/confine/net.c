/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "confine/confine.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static bool
parse_address(const char *s, uint32_t *ret)
{
	struct in_addr in;

	if (inet_pton(AF_INET, s, &in) != 1)
		return false;
	*ret = ntohl(in.s_addr);
	return true;
}

static bool
is_link_name(const char *s)
{
	return str_is_name(s, CONFINE_PORT_MAX - 1) && strchr(s, '.') == NULL;
}

/* A bridge called qvd1 would be taken for the port of VM 1. */
static bool
is_port_name(const char *s, int64_t *ret_id)
{
	return str_starts(s, "qvd") && s[3] != '0' &&
	       str_to_i64(s + 3, 1, CONFINE_ID_MAX, ret_id);
}

static int
parse_gateway(const char *gateway, struct confine_net *net, struct err *err)
{
	const char *slash = strchr(gateway, '/');
	uint32_t address;

	if (slash == NULL || slash - gateway >= CONFINE_ADDR_MAX ||
	    !str_to_int(slash + 1, 8, 30, &net->prefix))
		return err_set(err, ERR_PARAMETER,
		    "gateway '%.32s' is not an address with a prefix of 8 to "
		    "30, such as 10.88.0.1/16",
		    gateway);
	snprintf(net->gateway, sizeof(net->gateway), "%.*s",
	    (int)(slash - gateway), gateway);
	if (!parse_address(net->gateway, &address))
		return err_set(err, ERR_PARAMETER,
		    "gateway '%.32s' is not an IPv4 address", net->gateway);
	return 0;
}

/* A VM's IPv6 address ends with its IPv4 address: the bridge's must not end
 * like one of a VM. */
static int
parse_gateway6(const char *gateway6, struct confine_net *net, struct err *err)
{
	const unsigned char *a = net->net6.address;
	char end[CONFINE_ADDR_MAX];
	int r;

	net->ipv6 = gateway6[0] != '\0';
	if (!net->ipv6)
		return 0;
	if ((r = ipv6_net_parse(gateway6, &net->net6, err)) < 0)
		return err_wrap(err, r, "gateway6");
	snprintf(end, sizeof(end), "%u.%u.%u.%u", a[12], a[13], a[14], a[15]);
	if (confine_net_has(net, end))
		return err_set(err, ERR_PARAMETER,
		    "gateway6 '%.64s' is the address of the desktop with %s; "
		    "let it end with ::1",
		    gateway6, end);
	return 0;
}

int
confine_net_parse(
    const struct confine_conf *conf, struct confine_net *ret, struct err *err)
{
	struct confine_net net = { .nat = conf->nat, .packets = conf->packets };
	int64_t id;

	if (!is_link_name(conf->bridge) || is_port_name(conf->bridge, &id))
		return err_set(err, ERR_PARAMETER,
		    "bridge '%.32s' is not a name for one: 1 to 15 letters, "
		    "digits, '-' and '_', not 'qvd' and a number",
		    conf->bridge);
	str_copy(net.bridge, sizeof(net.bridge), conf->bridge);
	if (parse_gateway(conf->gateway, &net, err) < 0 ||
	    parse_gateway6(conf->gateway6, &net, err) < 0 ||
	    resolvers_parse(conf->dns, &net.dns, err) < 0)
		return -ERR_PARAMETER;
	*ret = net;
	return 0;
}

bool
confine_net_has(const struct confine_net *net, const char *address)
{
	uint32_t a, g, host = (1U << (32 - net->prefix)) - 1;

	return parse_address(address, &a) && parse_address(net->gateway, &g) &&
	       (a & ~host) == (g & ~host) && a != g && (a & host) != 0 &&
	       (a & host) != host;
}

void
confine_port(int64_t vm_id, char ret[static CONFINE_PORT_MAX])
{
	char text[32];

	snprintf(text, sizeof(text), "qvd%lld", (long long)vm_id);
	str_copy(ret, CONFINE_PORT_MAX, text);
}

void
confine_mac(const char *address, char ret[static CONFINE_MAC_MAX])
{
	uint32_t a = 0;

	parse_address(address, &a);
	snprintf(ret, CONFINE_MAC_MAX, "54:52:00:%02x:%02x:%02x",
	    (unsigned)(a >> 16) & 255, (unsigned)(a >> 8) & 255,
	    (unsigned)a & 255);
}

void
confine_address6(const struct ipv6_net *net6, const char *address,
    char ret[static CONFINE_ADDR6_MAX])
{
	unsigned char bytes[16];
	uint32_t a = 0;

	parse_address(address, &a);
	ipv6_of_vm(net6, a, bytes);
	ipv6_format(ret, bytes);
}

/* RFC 4291, appendix A: the MAC with its second bit turned and ff:fe in the
 * middle. */
void
confine_link_local(const char *address, char ret[static CONFINE_ADDR6_MAX])
{
	unsigned char bytes[16] = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x54 ^ 2,
		0x52, 0, 0xff, 0xfe };
	uint32_t a = 0;

	parse_address(address, &a);
	bytes[13] = (unsigned char)(a >> 16);
	bytes[14] = (unsigned char)(a >> 8);
	bytes[15] = (unsigned char)a;
	ipv6_format(ret, bytes);
}

void
confine_broadcast(
    const char *address, int prefix, char ret[static CONFINE_ADDR_MAX])
{
	struct in_addr in;
	uint32_t a = 0;

	parse_address(address, &a);
	in.s_addr = htonl(a | (uint32_t)((1ULL << (32 - prefix)) - 1));
	inet_ntop(AF_INET, &in, ret, CONFINE_ADDR_MAX);
}
