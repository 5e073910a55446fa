/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Devices that a container's policy names. The node's own files in /dev belong
 * to the node's root, who is nobody in there; so each is made anew, for the
 * container's root and all its users, on a file system in the VM's own mounts,
 * and only where the node has the very same device.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/mem.h"
#include "hypervisor/lxc_priv.h"
#include "model/device.h"

#define PATH_OF_MAX 32

/* The i-th one's path below /dev. */
static void
path_of(const struct device_kind *k, unsigned i, char ret[static PATH_OF_MAX])
{
	if (k->count == 1)
		snprintf(ret, PATH_OF_MAX, "%s", k->path);
	else
		snprintf(ret, PATH_OF_MAX, "%s%u", k->path, k->minor + i);
}

static bool
node_has(const struct device_kind *k, unsigned i)
{
	char name[PATH_OF_MAX], path[PATH_OF_MAX + 8];
	struct stat st;

	path_of(k, i, name);
	snprintf(path, sizeof(path), "/dev/%s", name);
	return lstat(path, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(k->major, k->minor + i);
}

/* <mnt>/devices/<major>-<minor> */
static char *
file_of(const struct hv_op *op, const struct device_kind *k, unsigned i)
{
	return xasprintf("%s/devices/%u-%u", op->mnt, k->major, k->minor + i);
}

/* The mode once more, because of the umask. */
static int
make_device(const struct hv_op *op, const struct device_kind *k, unsigned i,
    uid_t base, struct err *err)
{
	_cleanup_(freep)
	char *path = file_of(op, k, i);

	if (mknod(path, S_IFCHR | 0666, makedev(k->major, k->minor + i)) < 0 ||
	    chown(path, base, base) < 0 || chmod(path, 0666) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make device %s", path);
	return 0;
}

static int
make_kind(
    const struct hv_op *op, enum device device, uid_t base, struct err *err)
{
	const struct device_kind *k = &device_kinds[device];
	unsigned i, n = 0;
	int r;

	for (i = 0; i < k->count; i++) {
		if (!node_has(k, i))
			continue;
		if ((r = make_device(op, k, i, base, err)) < 0)
			return r;
		n++;
	}
	if (n == 0)
		return err_set(err, ERR_CONFIG,
		    "its OSF gives it the device '%s', and this node has no "
		    "/dev/%s%s; take it from the OSF (qvd osf set OSF "
		    "--devices '') or let such desktops run elsewhere",
		    device_to_str(device), k->path, k->count > 1 ? "*" : "");
	return 0;
}

int
lxc_devices_make(const struct hv_op *op, uid_t base, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/devices", op->mnt);
	unsigned wanted, device;
	int r;

	if ((r = device_parse(op->vm->devices, &wanted, err)) < 0)
		return r;
	if (wanted == 0)
		return 0;
	if (mkdir(dir, 0755) < 0 ||
	    mount("qvd-devices", dir, "tmpfs", MS_NOSUID | MS_NOEXEC,
		"size=64k,nr_inodes=64,mode=0755") < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "mount the devices' directory");
	for (device = 0; device < DEVICE_COUNT_; device++)
		if ((wanted & 1U << device) != 0 &&
		    (r = make_kind(op, (enum device)device, base, err)) < 0)
			return r;
	return 0;
}

int
lxc_devices_config(
    const struct hv_op *op, struct lxc_container *c, struct err *err)
{
	unsigned wanted, device, i;
	int r;

	if ((r = device_parse(op->vm->devices, &wanted, err)) < 0)
		return r;
	for (device = 0; device < DEVICE_COUNT_; device++) {
		const struct device_kind *k = &device_kinds[device];

		for (i = 0; (wanted & 1U << device) != 0 && i < k->count; i++) {
			_cleanup_(freep)
			char *file = file_of(op, k, i);
			char path[PATH_OF_MAX];

			path_of(k, i, path);
			if (access(file, F_OK) == 0 &&
			    (r = lxc_config_item(c, err, "lxc.mount.entry",
				 "%s dev/%s none bind,create=file", file,
				 path)) < 0)
				return r;
		}
	}
	return 0;
}
