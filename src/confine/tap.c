/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The port of a virtual machine: a tap on the bridge. It lives as long as a
 * descriptor of it is open, so that nothing is left when QEMU has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "confine/bridge.h"

/* Name of a link in a request of the kernel's. */
static struct ifreq
request_of(const char *name)
{
	struct ifreq req = { 0 };

	str_copy(req.ifr_name, sizeof(req.ifr_name), name);
	return req;
}

static int
make_tap(const char *port, int *ret_fd, struct err *err)
{
	struct ifreq req = request_of(port);
	_cleanup_(closep)
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "open /dev/net/tun (virtual machines need it: load the "
		    "module tun)");
	req.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL;
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make tap %s", port);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Its sysctls before it is up, so that the node says nothing on it. */
static int
join_bridge(
    int64_t vm_id, const char *port, const char *bridge, struct err *err)
{
	struct ifreq add = request_of(bridge), up = request_of(port);
	_cleanup_(closep)
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (sock < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	add.ifr_ifindex = (int)if_nametoindex(port);
	if (ioctl(sock, SIOCBRADDIF, &add) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "put %s on bridge %s",
		    port, bridge);
	if ((r = confine_port_prepare(vm_id, err)) < 0)
		return r;
	if (ioctl(sock, SIOCGIFFLAGS, &up) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", port);
	up.ifr_flags |= IFF_UP;
	if (ioctl(sock, SIOCSIFFLAGS, &up) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "raise %s", port);
	return 0;
}

int
confine_tap_open(
    int64_t vm_id, const char *bridge, int *ret_fd, struct err *err)
{
	char port[CONFINE_PORT_MAX];
	_cleanup_(closep)
	int fd = -1;
	int r;

	confine_port(vm_id, port);
	if ((r = make_tap(port, &fd, err)) < 0 ||
	    (r = join_bridge(vm_id, port, bridge, err)) < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}
