/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a container is, as liblxc configuration. Nothing of it is written to
 * disk: the running container is asked, never a file.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <lxc/lxccontainer.h>

#include "base/mem.h"
#include "base/str.h"
#include "confine/confine.h"
#include "hypervisor/lxc_priv.h"
#include "model/apparmor.h"
#include "storage/storage.h"

/* Open files of a process in a container. */
#define FILES_USUAL 1024
#define FILES_MAX   524288

int
lxc_config_item(struct lxc_container *c, struct err *err, const char *key,
    const char *fmt, ...)
{
	char value[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(value) ||
	    !c->set_config_item(c, key, value))
		return err_set(err, ERR_VM_START, "liblxc refuses %s = %.100s",
		    key, value);
	return 0;
}

struct item {
	const char *key;
	const char *value;
};

static int
set_items(struct lxc_container *c, const struct item *items, size_t n,
    struct err *err)
{
	size_t i;
	int r;

	for (i = 0; i < n; i++)
		if ((r = lxc_config_item(
			 c, err, items[i].key, "%s", items[i].value)) < 0)
			return r;
	return 0;
}

/* Same for every container. */
static const struct item fixed_items[] = {
	{ "lxc.mount.auto", "proc:mixed sys:ro" },
	{ "lxc.autodev", "1" },
	{ "lxc.tty.max", "0" },
	{ "lxc.pty.max", "1024" },
	{ "lxc.no_new_privs", "1" },
	/* What the agent as PID 1 needs to make users, own their homes,
	 * become them and end their processes; root without the rest. */
	{ "lxc.cap.keep",
	    "chown dac_override dac_read_search fowner fsetid kill setgid "
	    "setuid setpcap net_bind_service sys_chroot" },
	/* When the node runs out of memory a desktop goes before a daemon. */
	{ "lxc.proc.oom_score_adj", "200" },
	{ "lxc.prlimit.core", "0" },
	{ "lxc.environment", "container=lxc" },
	{ "lxc.environment",
	    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
	    "/bin" },
	{ "lxc.mount.entry",
	    "tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,create=dir" },
};

static int
set_mounts(const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	int r;

	if ((r = lxc_config_item(
		 c, err, "lxc.rootfs.path", "dir:%s/root", op->mnt)) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.mount.entry",
		 "%s/chan run/qvd none bind,create=dir", op->mnt)) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.mount.entry",
		 "%s/home home none bind,create=dir", op->mnt)) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.mount.entry",
		 "%s/vma usr/lib/qvd/qvd-vma none bind,ro,create=file",
		 op->mnt)) < 0)
		return r;
	/* Optional: an image whose resolv.conf is a link wants its own. */
	return lxc_config_item(c, err, "lxc.mount.entry",
	    "%s/resolv.conf etc/resolv.conf none bind,ro,optional,create=file",
	    op->mnt);
}

static int
set_ipv6(const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	const struct hv_node *node = op->node;
	char address[CONFINE_ADDR6_MAX], text[CONFINE_ADDR6_MAX + 4];
	struct ipv6_net net6;
	int r;

	if (node->gateway6[0] == '\0')
		return 0;
	snprintf(text, sizeof(text), "%s/%d", node->gateway6, node->prefix6);
	if ((r = ipv6_net_parse(text, &net6, err)) < 0)
		return r;
	confine_address6(&net6, op->vm->address, address);
	if ((r = lxc_config_item(c, err, "lxc.net.0.ipv6.address", "%s/%d",
		 address, node->prefix6)) < 0)
		return r;
	return lxc_config_item(
	    c, err, "lxc.net.0.ipv6.gateway", "%s", node->gateway6);
}

static int
set_network(const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	const struct hv_node *node = op->node;
	char port[CONFINE_PORT_MAX], mac[CONFINE_MAC_MAX];
	char broadcast[CONFINE_ADDR_MAX];
	int r;

	confine_port(op->vm_id, port);
	confine_mac(op->vm->address, mac);
	/* liblxc 5.0 computes a wrong one. */
	confine_broadcast(op->vm->address, node->prefix, broadcast);
	if ((r = lxc_config_item(c, err, "lxc.net.0.type", "veth")) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.net.0.veth.pair", "%s", port)) <
		0 ||
	    (r = lxc_config_item(
		 c, err, "lxc.net.0.link", "%s", node->bridge)) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.net.0.name", "eth0")) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.net.0.hwaddr", "%s", mac)) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.net.0.ipv4.address", "%s/%d %s",
		 op->vm->address, node->prefix, broadcast)) < 0 ||
	    (r = lxc_config_item(
		 c, err, "lxc.net.0.ipv4.gateway", "%s", node->gateway)) < 0 ||
	    (r = set_ipv6(op, c, err)) < 0)
		return r;
	return lxc_config_item(c, err, "lxc.net.0.flags", "up");
}

static int
set_cgroups(const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	_cleanup_(freep)
	char *mon = cgroup_name(&op->cg, CGROUP_MON, op->vm_id);
	_cleanup_(freep)
	char *ct = cgroup_name(&op->cg, CGROUP_CT, op->vm_id);
	int r;

	if ((r = lxc_config_item(c, err, "lxc.cgroup.dir.monitor", "%s", mon)) <
		0 ||
	    (r = lxc_config_item(c, err, "lxc.cgroup.dir.monitor.pivot",
		 "%s/pivot", op->cg.top)) < 0)
		return r;
	return lxc_config_item(c, err, "lxc.cgroup.dir.container", "%s", ct);
}

static int
set_logs(const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	int r;

	if ((r = lxc_config_item(c, err, "lxc.log.level", "ERROR")) < 0 ||
	    (r = lxc_config_item(
		 c, err, "lxc.log.file", "%s/lxc.log", op->vm_dir)) < 0 ||
	    /* The desktop writes there: rotated at this size, so bounded. */
	    (r = lxc_config_item(c, err, "lxc.console.size", "128KB")) < 0 ||
	    (r = lxc_config_item(c, err, "lxc.console.rotate", "1")) < 0)
		return r;
	return lxc_config_item(
	    c, err, "lxc.console.logfile", "%s/console.log", op->vm_dir);
}

/* systemd's, whatever this daemon was started with; where nothing may be
 * raised, the daemon's own is the most. */
static int
set_files(struct lxc_container *c, struct err *err)
{
	struct rlimit own;

	if (getrlimit(RLIMIT_NOFILE, &own) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read RLIMIT_NOFILE");
	if (own.rlim_max > FILES_MAX)
		own.rlim_max = FILES_MAX;
	return lxc_config_item(c, err, "lxc.prlimit.nofile", "%llu:%llu",
	    (unsigned long long)(own.rlim_max < FILES_USUAL ? own.rlim_max
							    : FILES_USUAL),
	    (unsigned long long)own.rlim_max);
}

/* The last ring around user namespace, capabilities and seccomp. A kernel whose
 * AppArmor knows nothing of mounts is fine: nobody in there may mount. */
static int
set_apparmor(struct lxc_container *c, struct err *err)
{
	bool on = hv_apparmor() == APPARMOR_ON;
	int r = lxc_config_item(c, err, "lxc.apparmor.profile", "%s",
	    on ? APPARMOR_PROFILE : "unconfined");

	return r < 0 || !on ? r
			    : lxc_config_item(
				  c, err, "lxc.apparmor.allow_incomplete", "1");
}

static int
set_limit(const struct hv_limit *limit, void *arg, struct err *err)
{
	char key[80];

	snprintf(key, sizeof(key), "lxc.cgroup%s.%s", limit->unified ? "2" : "",
	    limit->file);
	return lxc_config_item(arg, err, key, "%s", limit->value);
}

int
lxc_config_set(const struct hv_op *op, const struct lxc_init *init,
    struct lxc_container *c, struct err *err)
{
	unsigned base = storage_id_base(op->vm->idmap_slot);
	const char *kinds = "ug";
	int r;

	for (; *kinds != '\0'; kinds++)
		if ((r = lxc_config_item(c, err, "lxc.idmap", "%c 0 %u %u",
			 *kinds, base, (unsigned)STORAGE_ID_COUNT)) < 0)
			return r;
	if ((r = lxc_config_item(
		 c, err, "lxc.uts.name", "%s", op->vm->hostname)) < 0 ||
	    (r = set_items(c, fixed_items, ARRAY_SIZE(fixed_items), err)) < 0 ||
	    (r = lxc_init_config(init, c, err)) < 0 ||
	    (r = set_apparmor(c, err)) < 0 ||
	    (r = set_mounts(op, c, err)) < 0 ||
	    (r = lxc_devices_config(op, c, err)) < 0 ||
	    (r = set_network(op, c, err)) < 0 ||
	    (r = set_cgroups(op, c, err)) < 0 ||
	    (r = set_logs(op, c, err)) < 0 || (r = set_files(c, err)) < 0)
		return r;
	if ((r = lxc_config_item(
		 c, err, "lxc.seccomp.profile", "%s/seccomp", op->mnt)) < 0)
		return r;
	return hv_limits_each(op, set_limit, c, err);
}
