/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Confinement of the desktops' network: one bridge per node, one static
 * nftables ruleset, and per VM only set elements and a chain of its egress
 * policy. A port named qvd<id>, veth or tap, passes nothing until its
 * elements are there, so a VM's elements are added before
 * its port exists and removed after the port is gone: there is no moment in
 * which a desktop could send as somebody else. Everything happens in the
 * network namespace that the caller is in; a struct confine stays with the
 * namespace in which it was made (its netlink socket), but confine_setup()
 * must be called in it too. Owned by HKD's root helper.
 */
#ifndef CONFINE_CONFINE_H
#define CONFINE_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "model/range.h"
#include "model/resolvers.h"

#define CONFINE_ID_MAX   999999999999 /* "qvd" + 12 digits = IFNAMSIZ */
#define CONFINE_PORT_MAX 16
#define CONFINE_MAC_MAX  18
#define CONFINE_ADDR_MAX 16

struct confine_net {
	char bridge[CONFINE_PORT_MAX];
	char gateway[CONFINE_ADDR_MAX]; /* the bridge's own address */
	int prefix;                     /* 8..30 */
	bool ipv6;                      /* desktops have it: */
	struct ipv6_net net6;           /* the bridge's own address */
	bool nat;
	int packets; /* a second from one port; 0: no limit */
	struct resolvers dns;
};

/* The same as text: "10.88.0.1/16", "fd00:88::1/64" or "", and
 * "10.88.0.1, 9.9.9.9" or "". */
struct confine_conf {
	const char *bridge;
	const char *gateway;
	const char *gateway6;
	const char *dns;
	bool nat;
	int32_t packets;
};
int confine_net_parse(
    const struct confine_conf *conf, struct confine_net *ret, struct err *err);
/* True if address is a host's address in the net and not the gateway's. */
bool confine_net_has(const struct confine_net *net, const char *address);

/* Name of the host's end of the VM's link, and the MAC that goes with an
 * address (54:52:00 and its last three bytes). */
void confine_port(int64_t vm_id, char ret[static CONFINE_PORT_MAX]);
void confine_mac(const char *address, char ret[static CONFINE_MAC_MAX]);

/* Its IPv6 address, and the link-local one that goes with its MAC. */
#define CONFINE_ADDR6_MAX IPV6_TEXT_MAX
void confine_address6(const struct ipv6_net *net6, const char *address,
    char ret[static CONFINE_ADDR6_MAX]);
void confine_link_local(
    const char *address, char ret[static CONFINE_ADDR6_MAX]);

void confine_broadcast(
    const char *address, int prefix, char ret[static CONFINE_ADDR_MAX]);

/* A VM as the firewall sees it. */
struct confine_vm {
	int64_t vm_id;
	const char *address;
	const char *egress; /* model/egress.h */
	int64_t rate_kbit;  /* the most that it sends; 0: no limit */
};

struct confine;

struct confine *confine_new(struct err *err);
void confine_free(struct confine *confine);

/* Bridge, sysctls, ruleset; idempotent, and what runs stays connected: rules
 * are replaced in one transaction, elements stay. */
int confine_setup(
    struct confine *confine, const struct confine_net *net, struct err *err);
/* Replaces what the VM had before, in one transaction, also while it runs: a
 * connection that its new policy forbids passes nothing any more.
 * ERR_CONFLICT before confine_setup() and for an address that another VM
 * has. */
int confine_add(
    struct confine *confine, const struct confine_vm *vm, struct err *err);
bool confine_has(const struct confine *confine, int64_t vm_id);
/* Success if there was none; ret_removed (may be NULL) tells. */
int confine_del(
    struct confine *confine, int64_t vm_id, bool *ret_removed, struct err *err);
/* Walks the VMs that have elements: *pos = 0 first; false at the end. */
bool confine_next(
    const struct confine *confine, size_t *pos, int64_t *ret_vm_id);

/* The VM's port: does it exist; remove it (success if there is none); what
 * it needs once it is made (a second lock beside the firewall's on what passes
 * between ports, no address of the node's end itself, and the firewall before
 * the groups that a bridge hears itself). */
bool confine_port_exists(int64_t vm_id);
int confine_port_prepare(int64_t vm_id, struct err *err);
/* Makes a tap as the VM's port, on the bridge and up; it goes with the last
 * descriptor of it. */
int confine_tap_open(
    int64_t vm_id, const char *bridge, int *ret_fd, struct err *err);
int confine_port_remove(int64_t vm_id, bool *ret_removed, struct err *err);
/* Calls cb for each port named as a VM's. */
int confine_port_each(
    void (*cb)(int64_t vm_id, void *arg), void *arg, struct err *err);

/*
 * Network namespaces. netns_open: the one called name (as `ip netns add`
 * makes them), else the one bound at `bind_path`, else a new one, then bound
 * there; its loopback is up. The descriptor is the caller's.
 */
int netns_open(
    const char *name, const char *bind_path, int *ret_fd, struct err *err);
/* The calling process's own; enter any. */
int netns_self(int *ret_fd, struct err *err);
int netns_enter(int fd, struct err *err);

#endif
