/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the node says of this machine, in QEMU's firmware configuration
 * (hypervisor/kvm_args.c). The initial RAM disk's /sys is there yet. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/ipv6.h>

#include "boot/boot.h"

#define IPV6  "/proc/sys/net/ipv6/conf"
#define FACTS "/sys/firmware/qemu_fw_cfg/by_name/opt/org.qvd"

bool
boot_fact(const char *name, char *ret, size_t size)
{
	char path[160];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), FACTS "/%s/raw", name);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	n = read(fd, ret, size);
	close(fd);
	if (n <= 0 || (size_t)n >= size)
		return false;
	ret[n] = '\0';
	return true;
}

/* The machine's one link. */
static bool
find_link(char ret[static IFNAMSIZ])
{
	DIR *dir = opendir("/sys/class/net");
	const struct dirent *e;
	bool found = false;

	while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
		found = e->d_name[0] != '.' && strcmp(e->d_name, "lo") != 0 &&
			snprintf(ret, IFNAMSIZ, "%s", e->d_name) < IFNAMSIZ;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

static bool
set_address(struct sockaddr *sa, const char *text)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	bool good = inet_pton(AF_INET, text, &in.sin_addr) == 1;

	memcpy(sa, &in, sizeof(in));
	return good;
}

static bool
set_mask(struct sockaddr *sa, int prefix)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (prefix < 1 || prefix > 32)
		return false;
	in.sin_addr.s_addr = htonl(UINT32_MAX << (32 - prefix));
	memcpy(sa, &in, sizeof(in));
	return true;
}

static bool
set_link(int fd, const char *link, char *address)
{
	char *slash = strchr(address, '/');
	struct ifreq req = { .ifr_flags = 0 };

	if (slash == NULL)
		return false;
	*slash++ = '\0';
	snprintf(req.ifr_name, IFNAMSIZ, "%s", link);
	if (!set_address(&req.ifr_addr, address) ||
	    ioctl(fd, SIOCSIFADDR, &req) < 0 ||
	    !set_mask(&req.ifr_netmask, (int)strtol(slash, NULL, 10)) ||
	    ioctl(fd, SIOCSIFNETMASK, &req) < 0)
		return false;
	req.ifr_flags = IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &req) == 0;
}

static bool
set_route(int fd, const char *gateway)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	return set_address(&route.rt_gateway, gateway) &&
	       set_address(&route.rt_dst, "0.0.0.0") &&
	       set_address(&route.rt_genmask, "0.0.0.0") &&
	       ioctl(fd, SIOCADDRT, &route) == 0;
}

/* "9.9.9.9 1.1.1.1". An image whose file is a link wants its own. */
static void
set_resolver(char *dns)
{
	int fd = open(BOOT_ROOT "/etc/resolv.conf",
	    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	char *save, *one;

	if (fd < 0) {
		if (errno != ELOOP)
			boot_say("write resolv.conf: %s", strerror(errno));
		return;
	}
	for (one = strtok_r(dns, " ", &save); one != NULL;
	     one = strtok_r(NULL, " ", &save))
		dprintf(fd, "nameserver %s\n", one);
	close(fd);
}

static void
write_sysctl(const char *name, const char *key, const char *value)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), IPV6 "/%s/%s", name, key);
	if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
		return; /* the kernel has no IPv6 */
	if (write(fd, value, strlen(value)) < 0)
		boot_say("set %s: %s", path, strerror(errno));
	close(fd);
}

static bool
set_address6(int fd, const char *link, char *address)
{
	struct in6_ifreq req = { .ifr6_ifindex = (int)if_nametoindex(link) };
	char *slash = strchr(address, '/');

	if (slash == NULL)
		return false;
	*slash++ = '\0';
	req.ifr6_prefixlen = (uint32_t)strtoul(slash, NULL, 10);
	return inet_pton(AF_INET6, address, &req.ifr6_addr) == 1 &&
	       ioctl(fd, SIOCSIFADDR, &req) == 0;
}

static bool
set_route6(int fd, const char *link, const char *gateway)
{
	struct in6_rtmsg route = { .rtmsg_flags = RTF_UP | RTF_GATEWAY,
		.rtmsg_metric = 1,
		.rtmsg_ifindex = (int)if_nametoindex(link) };

	return inet_pton(AF_INET6, gateway, &route.rtmsg_gateway) == 1 &&
	       ioctl(fd, SIOCADDRT, &route) == 0;
}

/* As in a container: what the node gives, and nothing that others announce;
 * none at all where it gives none, so that no program waits for it. */
static void
set_ipv6(const char *link)
{
	char word[BOOT_FACT];
	int fd;

	if (!boot_fact("address6", word, sizeof(word))) {
		write_sysctl("all", "disable_ipv6", "1");
		return;
	}
	write_sysctl(link, "accept_ra", "0");
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || !set_address6(fd, link, word) ||
	    !boot_fact("gateway6", word, sizeof(word)) ||
	    !set_route6(fd, link, word))
		boot_say("set up IPv6: %s", strerror(errno));
	close(fd);
}

void
boot_set_network(void)
{
	char link[IFNAMSIZ], word[BOOT_FACT];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (boot_fact("hostname", word, sizeof(word)) &&
	    sethostname(word, strlen(word)) < 0)
		boot_say("set the host name: %s", strerror(errno));
	if (fd < 0 || !find_link(link) ||
	    !boot_fact("address", word, sizeof(word)) ||
	    !set_link(fd, link, word) ||
	    !boot_fact("gateway", word, sizeof(word)) || !set_route(fd, word))
		boot_fail("set up the network (virtio_net, qemu_fw_cfg)");
	set_ipv6(link);
	if (boot_fact("dns", word, sizeof(word)))
		set_resolver(word);
	close(fd);
}
