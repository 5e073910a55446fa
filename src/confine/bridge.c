/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "confine/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

/* All groups of a bridge's own but that of PAUSE, which never passes. */
#define BRIDGE_GROUPS "0xfffd"

static void
socket_freep(struct nl_sock **s)
{
	nl_socket_free(*s);
}

static void
link_putp(struct rtnl_link **l)
{
	rtnl_link_put(*l);
}

static void
addr_putp(struct rtnl_addr **a)
{
	rtnl_addr_put(*a);
}

static void
nl_addr_putp(struct nl_addr **a)
{
	nl_addr_put(*a);
}

static void
cache_freep(struct nl_cache **c)
{
	nl_cache_free(*c);
}

static int
nl_err(struct err *err, int r, const char *what, const char *name)
{
	return err_set(
	    err, ERR_SYSTEM, "%s '%s': %s", what, name, nl_geterror(r));
}

static int
connect_route(struct nl_sock **ret, struct err *err)
{
	struct nl_sock *sock = nl_socket_alloc();
	int r;

	if (sock == NULL)
		return err_set(err, ERR_NO_MEMORY, "netlink: out of memory");
	if ((r = nl_connect(sock, NETLINK_ROUTE)) < 0) {
		nl_socket_free(sock);
		return nl_err(err, r, "connect to", "rtnetlink");
	}
	*ret = sock;
	return 0;
}

static int
add_bridge(struct nl_sock *sock, const struct confine_net *net, struct err *err)
{
	_cleanup_(link_putp)
	struct rtnl_link *link = rtnl_link_bridge_alloc();
	_cleanup_(nl_addr_putp)
	struct nl_addr *mac = NULL;
	char text[CONFINE_MAC_MAX];
	int r;

	if (link == NULL)
		return err_set(err, ERR_NO_MEMORY, "netlink: out of memory");
	rtnl_link_set_name(link, net->bridge);
	/* Given, because the kernel's own choice changes with the ports, and
	 * the gateway's MAC must not change under running desktops. */
	confine_mac(net->gateway, text);
	if ((r = nl_addr_parse(text, AF_LLC, &mac)) < 0)
		return nl_err(err, r, "make bridge", net->bridge);
	rtnl_link_set_addr(link, mac);
	r = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
	if (r < 0 && r != -NLE_EXIST)
		return nl_err(err, r, "make bridge", net->bridge);
	return 0;
}

static int
raise_link(struct nl_sock *sock, const char *name, struct err *err)
{
	_cleanup_(link_putp)
	struct rtnl_link *link = NULL;
	_cleanup_(link_putp)
	struct rtnl_link *change = rtnl_link_alloc();
	int r;

	if ((r = rtnl_link_get_kernel(sock, 0, name, &link)) < 0)
		return nl_err(err, r, "find link", name);
	if (!rtnl_link_is_bridge(link))
		return err_set(err, ERR_CONFIG,
		    "link '%s' exists and is no bridge; choose another name "
		    "with `qvd config`, or remove it",
		    name);
	rtnl_link_set_flags(change, IFF_UP);
	if ((r = rtnl_link_change(sock, link, change, 0)) < 0)
		return nl_err(err, r, "raise link", name);
	return 0;
}

static int
add_address(struct nl_sock *sock, const struct confine_net *net, int family,
    const char *text, struct err *err)
{
	_cleanup_(addr_putp)
	struct rtnl_addr *addr = rtnl_addr_alloc();
	_cleanup_(nl_addr_putp)
	struct nl_addr *local = NULL;
	int r;

	if ((r = nl_addr_parse(text, family, &local)) < 0)
		return nl_err(err, r, "read address", text);
	rtnl_addr_set_ifindex(addr, (int)if_nametoindex(net->bridge));
	/* Nobody else can have it: no desktop could say so. */
	if (family == AF_INET6)
		rtnl_addr_set_flags(addr, IFA_F_NODAD);
	if ((r = rtnl_addr_set_local(addr, local)) < 0)
		return nl_err(err, r, "set address", text);
	r = rtnl_addr_add(sock, addr, 0);
	if (r < 0 && r != -NLE_EXIST)
		return nl_err(err, r, "set address", text);
	return 0;
}

static int
add_addresses(
    struct nl_sock *sock, const struct confine_net *net, struct err *err)
{
	char text[CONFINE_ADDR6_MAX + 4], gw6[CONFINE_ADDR6_MAX];
	int r;

	snprintf(text, sizeof(text), "%s/%d", net->gateway, net->prefix);
	if ((r = add_address(sock, net, AF_INET, text, err)) < 0 || !net->ipv6)
		return r;
	snprintf(text, sizeof(text), "%s/%d",
	    ipv6_format(gw6, net->net6.address), net->net6.prefix);
	return add_address(sock, net, AF_INET6, text, err);
}

/* A missing file is fine: then the kernel doesn't have what it would turn
 * off. */
static int
set_file(const char *path, const char *value, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "set %s to %s", path, value);
	return 0;
}

/* Writes /proc/sys/<name>. */
static int
set_sysctl(const char *name, const char *value, struct err *err)
{
	char path[160];

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	return set_file(path, value, err);
}

/* Nobody tells the bridge another way, and it tells nobody what other
 * addresses the node has. */
static int
set_ipv4(const struct confine_net *net, struct err *err)
{
	static const char *const values[][2] = { { "accept_redirects", "0" },
		{ "accept_source_route", "0" }, { "arp_ignore", "1" } };
	char name[128];
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		snprintf(name, sizeof(name), "net/ipv4/conf/%s/%s", net->bridge,
		    values[i][0]);
		if ((r = set_sysctl(name, values[i][1], err)) < 0)
			return r;
	}
	return set_sysctl("net/ipv4/ip_forward", "1", err);
}

/* The bridge believes nobody about IPv6, and has only what it is given. */
static int
set_ipv6(const struct confine_net *net, struct err *err)
{
	static const char *const names[] = { "accept_ra", "autoconf",
		"accept_redirects" };
	char name[128];
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(name, sizeof(name), "net/ipv6/conf/%s/%s", net->bridge,
		    names[i]);
		if ((r = set_sysctl(name, "0", err)) < 0)
			return r;
	}
	snprintf(
	    name, sizeof(name), "net/ipv6/conf/%s/disable_ipv6", net->bridge);
	if ((r = set_sysctl(name, net->ipv6 ? "0" : "1", err)) < 0)
		return r;
	return net->ipv6 ? set_sysctl("net/ipv6/conf/all/forwarding", "1", err)
			 : 0;
}

static int
set_sysctls(const struct confine_net *net, struct err *err)
{
	/* Bridged frames are filtered in the bridge family only; passing
	 * them through the host's IP rules as well would let any of those
	 * cut desktops off. */
	static const char *const bridged[] = {
		"net/bridge/bridge-nf-call-iptables",
		"net/bridge/bridge-nf-call-ip6tables",
		"net/bridge/bridge-nf-call-arptables",
	};
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(bridged); i++)
		if ((r = set_sysctl(bridged[i], "0", err)) < 0)
			return r;
	if ((r = set_ipv6(net, err)) < 0)
		return r;
	return set_ipv4(net, err);
}

int
bridge_setup(const struct confine_net *net, struct err *err)
{
	_cleanup_(socket_freep)
	struct nl_sock *sock = NULL;
	int r;

	if ((r = connect_route(&sock, err)) < 0 ||
	    (r = add_bridge(sock, net, err)) < 0 ||
	    (r = set_sysctls(net, err)) < 0 ||
	    (r = raise_link(sock, net->bridge, err)) < 0)
		return r;
	return add_addresses(sock, net, err);
}

bool
confine_port_exists(int64_t vm_id)
{
	char port[CONFINE_PORT_MAX];

	confine_port(vm_id, port);
	return if_nametoindex(port) != 0;
}

int
confine_port_prepare(int64_t vm_id, struct err *err)
{
	char port[CONFINE_PORT_MAX], path[96];
	int r;

	confine_port(vm_id, port);
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6",
	    port);
	if ((r = set_file(path, "1", err)) < 0)
		return r;
	snprintf(path, sizeof(path), "/sys/class/net/%s/brport/isolated", port);
	if ((r = set_file(path, "1", err)) < 0)
		return r;
	snprintf(path, sizeof(path), "/sys/class/net/%s/brport/group_fwd_mask",
	    port);
	return set_file(path, BRIDGE_GROUPS, err);
}

int
confine_port_remove(int64_t vm_id, bool *ret_removed, struct err *err)
{
	_cleanup_(socket_freep)
	struct nl_sock *sock = NULL;
	_cleanup_(link_putp)
	struct rtnl_link *link = NULL;
	char port[CONFINE_PORT_MAX];
	int r;

	confine_port(vm_id, port);
	*ret_removed = false;
	if (if_nametoindex(port) == 0)
		return 0;
	if ((r = connect_route(&sock, err)) < 0)
		return r;
	link = rtnl_link_alloc();
	rtnl_link_set_name(link, port);
	r = rtnl_link_delete(sock, link);
	if (r < 0 && r != -NLE_NODEV && r != -NLE_OBJ_NOTFOUND)
		return nl_err(err, r, "remove link", port);
	*ret_removed = r == 0;
	return 0;
}

int
confine_port_each(
    void (*cb)(int64_t vm_id, void *arg), void *arg, struct err *err)
{
	_cleanup_(socket_freep)
	struct nl_sock *sock = NULL;
	_cleanup_(cache_freep)
	struct nl_cache *cache = NULL;
	struct nl_object *o;
	int r;

	if ((r = connect_route(&sock, err)) < 0)
		return r;
	if ((r = rtnl_link_alloc_cache(sock, AF_UNSPEC, &cache)) < 0)
		return nl_err(err, r, "list", "links");
	for (o = nl_cache_get_first(cache); o != NULL;
	     o = nl_cache_get_next(o)) {
		const char *name =
		    rtnl_link_get_name((struct rtnl_link *)(void *)o);
		int64_t id;

		if (name != NULL && str_starts(name, "qvd") && name[3] != '0' &&
		    str_to_i64(name + 3, 1, CONFINE_ID_MAX, &id))
			cb(id, arg);
	}
	return 0;
}
