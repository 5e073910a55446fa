/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Home volumes as plain directories: <data>/homes/<id>, ids as the desktop
 * sees them, so that the volume can move to another tenant's range or to
 * another node unchanged. They have no quota.
 */
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "storage/storage.h"

static int
home_directory_mount(const struct storage_vm *vm, struct err *err)
{
	_cleanup_(freep)
	char *volume =
	    xasprintf("%s/homes/%lld", vm->data_dir, (long long)vm->vm_id);
	_cleanup_(freep)
	char *home = xasprintf("%s/home", vm->mnt_dir);
	int r;

	if ((r = fs_mkdirs(volume, 0755, err)) < 0)
		return r;
	if (mkdir(home, 0755) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make directory %s", home);
	return storage_mount_idmapped(volume, home, vm->userns_fd,
	    MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID, err);
}

const struct storage_home_ops storage_home_directory = {
	.name = "directory",
	.mount = home_directory_mount,
};
