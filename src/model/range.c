/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/range.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/str.h"

int
ipv4_parse(const char *s, uint32_t *ret, struct err *err)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1)
		return err_set(err, ERR_PARAMETER,
		    "'%.64s' is not an IPv4 address like 10.88.0.1", s);
	*ret = ntohl(a.s_addr);
	return 0;
}

int
ipv4_net_parse(const char *s, struct ipv4_net *ret, struct err *err)
{
	const char *slash = strchr(s, '/');
	char address[IPV4_TEXT_MAX];
	uint32_t a = 0;
	int bits, r;

	if (slash == NULL || (size_t)(slash - s) >= sizeof(address) ||
	    !str_to_int(slash + 1, 8, 30, &bits))
		return err_set(err, ERR_PARAMETER,
		    "'%.64s' is not an address with its network like "
		    "10.88.0.1/16 (from /8 to /30)",
		    s);
	memcpy(address, s, (size_t)(slash - s));
	address[slash - s] = '\0';
	if ((r = ipv4_parse(address, &a, err)) < 0)
		return r;
	ret->address = a;
	ret->mask = UINT32_MAX << (32 - bits);
	return 0;
}

int
ipv6_net_parse(const char *s, struct ipv6_net *ret, struct err *err)
{
	const char *slash = strchr(s, '/');
	char address[IPV6_TEXT_MAX];
	struct ipv6_net net;
	bool ok = slash != NULL && (size_t)(slash - s) < sizeof(address);

	if (ok) {
		memcpy(address, s, (size_t)(slash - s));
		address[slash - s] = '\0';
		ok = inet_pton(AF_INET6, address, net.address) == 1 &&
		     str_to_int(slash + 1, 64, 96, &net.prefix) &&
		     net.address[0] < 0xfe; /* link-local, multicast */
	}
	if (ok) {
		*ret = net;
		return 0;
	}
	return err_set(err, ERR_PARAMETER,
	    "'%.64s' is not an IPv6 address with its network like "
	    "fd00:88::1/64 (from /64 to /96)",
	    s);
}

char *
ipv6_format(
    char dst[static IPV6_TEXT_MAX], const unsigned char address[static 16])
{
	inet_ntop(AF_INET6, address, dst, IPV6_TEXT_MAX);
	return dst;
}

void
ipv6_of_vm(
    const struct ipv6_net *net, uint32_t ipv4, unsigned char ret[static 16])
{
	int i;

	for (i = 0; i < 16; i++) {
		int bits = net->prefix - 8 * i;

		ret[i] =
		    bits >= 8 ? net->address[i]
		    : bits <= 0
			? 0
			: (unsigned char)(net->address[i] & (0xff00 >> bits));
	}
	for (i = 0; i < 4; i++)
		ret[12 + i] = (unsigned char)(ipv4 >> (24 - 8 * i));
}

char *
ipv4_format(char dst[static IPV4_TEXT_MAX], uint32_t address)
{
	snprintf(dst, IPV4_TEXT_MAX, "%u.%u.%u.%u", address >> 24,
	    address >> 16 & 255, address >> 8 & 255, address & 255);
	return dst;
}

int
ipv4_vm_range(const struct ipv4_net *gateway, uint32_t start,
    struct ipv4_range *ret, struct err *err)
{
	uint32_t broadcast = gateway->address | ~gateway->mask;

	if (start == 0)
		start = gateway->address + 1;
	if ((start & gateway->mask) != (gateway->address & gateway->mask) ||
	    start <= gateway->address || start >= broadcast)
		return err_set(err, ERR_CONFIG,
		    "vm.network.ip.start must be in the network of "
		    "vm.network.gateway and above it");
	*ret = (struct ipv4_range){ start, broadcast - 1 };
	return 0;
}

int
ipv4_pick(const struct ipv4_range *range, const uint32_t *used, size_t n,
    uint32_t *ret, struct err *err)
{
	uint32_t next = range->first;
	size_t i;

	for (i = 0; i < n && next <= range->last; i++) {
		if (used[i] > next)
			break;
		if (used[i] == next)
			next++;
	}
	if (next > range->last)
		return err_set(err, ERR_UNAVAILABLE,
		    "all %u addresses for VMs are taken; widen "
		    "vm.network.gateway's network",
		    range->last - range->first + 1);
	*ret = next;
	return 0;
}
