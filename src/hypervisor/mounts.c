/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The mount namespace of one VM's run. Every path below <run>/mnt is the same
 * for all VMs and means another thing in each namespace.
 */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hypervisor/hv_priv.h"
#include "storage/storage.h"

/*
 * liblxc and ourselves look for links in /sys/class/net, which shows the
 * network namespace in which sysfs was mounted. In a node with a namespace of
 * its own those two directories of a fresh sysfs go over the host's.
 */
static int
show_own_links(const struct hv_op *op, struct err *err)
{
	static const char *const dirs[] = { "class/net",
		"devices/virtual/net" };
	_cleanup_(freep)
	char *sys = xasprintf("%s/sys", op->mnt);
	_cleanup_(freep)
	char *bridge = xasprintf("/sys/class/net/%s", op->node->bridge);
	size_t i;

	if (access(bridge, F_OK) == 0)
		return 0;
	if (mkdir(sys, 0755) < 0 ||
	    mount("sysfs", sys, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount a sysfs");
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(freep)
		char *from = xasprintf("%s/%s", sys, dirs[i]);
		_cleanup_(freep)
		char *to = xasprintf("/sys/%s", dirs[i]);

		if (mount(from, to, NULL, MS_BIND, NULL) < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "mount %s", to);
	}
	/* It stays: the kernel lets a container mount its own only where it
	 * sees one that nothing lies over. */
	return 0;
}

int
hv_mounts_begin(const struct hv_op *op, struct err *err)
{
	int r = storage_namespace(op->mnt, err);

	return r < 0 ? r : show_own_links(op, err);
}
