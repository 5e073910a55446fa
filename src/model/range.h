/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Giving out of ranges: VM addresses (IPv4), the tenants' slots of host user
 * ids. The caller reads what is taken in its transaction; a unique
 * constraint stands behind it. Pure.
 */
#ifndef MODEL_RANGE_H
#define MODEL_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* "10.88.0.1/16": an interface's address with its network; host order. */
struct ipv4_net {
	uint32_t address;
	uint32_t mask;
};
int ipv4_parse(const char *s, uint32_t *ret, struct err *err);
int ipv4_net_parse(const char *s, struct ipv4_net *ret, struct err *err);
#define IPV4_TEXT_MAX 16
char *ipv4_format(char dst[static IPV4_TEXT_MAX], uint32_t address);

/* "fd00:88::1/64", prefix 64 to 96: the 32 bits at its end are for a VM's
 * IPv4 address, so that one number names it in both. */
#define IPV6_TEXT_MAX 46
struct ipv6_net {
	unsigned char address[16];
	int prefix;
};
int ipv6_net_parse(const char *s, struct ipv6_net *ret, struct err *err);
char *ipv6_format(
    char dst[static IPV6_TEXT_MAX], const unsigned char address[static 16]);
/* The VM's address in that network. */
void ipv6_of_vm(
    const struct ipv6_net *net, uint32_t ipv4, unsigned char ret[static 16]);

/*
 * The addresses that VMs may have: from `start` (0: the address after the
 * gateway) to the one before the broadcast address of the gateway's net.
 */
struct ipv4_range {
	uint32_t first, last;
};
int ipv4_vm_range(const struct ipv4_net *gateway, uint32_t start,
    struct ipv4_range *ret, struct err *err);
/* The lowest that is not in used (ascending); ERR_UNAVAILABLE when the
 * range is full. */
int ipv4_pick(const struct ipv4_range *range, const uint32_t *used, size_t n,
    uint32_t *ret, struct err *err);

#endif
