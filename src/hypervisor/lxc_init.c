/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who is process 1 of a container: the agent, or the image's own systemd with
 * the agent as one of its services. The image says so by itself: its
 * /sbin/init is systemd, and the agent's unit is enabled in it.
 *
 * systemd gets no more rights than the agent has: no capability to mount, the
 * same seccomp. What it would mount is there before it starts, and it leaves
 * out what its units ask for beyond (private /tmp and such), as it does in any
 * container. What it needs is a part of the cgroups that it may divide: the
 * unified hierarchy from the desktop's own group on, whose limits are files
 * of the node's root. Where v1 has the controllers, the desktop sees nothing
 * of those, and is held by them all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/lxc_priv.h"
#include "json/json.h"

/* Groups that a desktop may make in its own: the kernel pays for each. */
#define GROUPS_MAX "1000"

#define UNIT "etc/systemd/system/multi-user.target.wants/qvd-vma.service"

static const char *const agent_mounts[] = {
	"tmpfs run tmpfs rw,nosuid,nodev,mode=0755,create=dir",
	NULL,
};

static const struct lxc_init agent = {
	.name = "agent",
	.command = "/usr/lib/qvd/qvd-vma",
	.mounts = agent_mounts,
};

/* What systemd doesn't start without; Debian's wants /run/lock, too. Its
 * journal takes a tenth of /run. */
static const char *const systemd_mounts[] = {
	"tmpfs run tmpfs rw,nosuid,nodev,mode=0755,size=256m,create=dir",
	"tmpfs run/lock tmpfs rw,nosuid,nodev,noexec,mode=1777,size=5m,"
	"create=dir",
	"cgroup2 sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime",
	NULL,
};

/* Nobody sits at the console; it reads its arguments as if they were the
 * kernel's. */
static const struct lxc_init systemd = {
	.name = "systemd",
	.command = "/sbin/init systemd.mask=console-getty.service",
	.mounts = systemd_mounts,
	.groups = true,
};

/* The root is the guest's to write: names lead nowhere else. */
static bool
is_file(int root, const char *path, struct stat *ret)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_(closep)
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd >= 0 && fstat(fd, ret) == 0 && S_ISREG(ret->st_mode);
}

static bool
is_systemd(int root)
{
	struct stat init, there, unit;

	return is_file(root, "sbin/init", &init) &&
	       (is_file(root, "usr/lib/systemd/systemd", &there) ||
		   is_file(root, "lib/systemd/systemd", &there)) &&
	       init.st_dev == there.st_dev && init.st_ino == there.st_ino &&
	       is_file(root, UNIT, &unit);
}

int
lxc_init_find(
    const struct hv_op *op, const struct lxc_init **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/root", op->mnt);
	_cleanup_(closep)
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	*ret = is_systemd(root) ? &systemd : &agent;
	return 0;
}

int
lxc_init_config(
    const struct lxc_init *init, struct lxc_container *c, struct err *err)
{
	const char *const *m;
	int r = lxc_config_item(c, err, "lxc.init.cmd", "%s", init->command);

	for (m = init->mounts; r == 0 && *m != NULL; m++)
		r = lxc_config_item(c, err, "lxc.mount.entry", "%s", *m);
	return r;
}

int
lxc_init_limit(
    const struct lxc_init *init, const struct hv_op *op, struct err *err)
{
	if (!init->groups || cgroup_write_unified(&op->cg, op->vm_id,
				 "cgroup.max.descendants", GROUPS_MAX))
		return 0;
	return err_errno(err, ERR_VM_START, errno,
	    "limit the cgroups that its init may make");
}

int
lxc_init_signal(const struct hv_op *op)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);

	/* systemd's "halt", as every manager of containers says it. */
	return str_eq(json_get_str(record, "init", ""), systemd.name)
		   ? SIGRTMIN + 3
		   : SIGTERM;
}
