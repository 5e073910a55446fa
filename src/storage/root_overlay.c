/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Root by overlayfs: below the image's checkout, mounted with the desktop's
 * ids; above the VM's own changes (root.c). Only the lower is idmapped: an
 * idmapped upper makes overlayfs come up read-only without an error.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/root.h"

#define PART "upper"

static int
prepare_changes(const struct storage_vm *vm, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *upper = NULL;
	_cleanup_(freep)
	char *work = NULL;
	struct stat st;
	int r;

	if ((r = root_make_dir(dir, "work", 0700, &work, err)) < 0 ||
	    (r = root_make_dir(dir, PART, 0755, &upper, err)) < 0)
		return r;
	/* The upper's root is the merged root: the desktop's root owns it. */
	if (stat(upper, &st) < 0 ||
	    (st.st_uid != vm->id_base &&
		chown(upper, vm->id_base, vm->id_base) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "chown %s", upper);
	return 0;
}

static int
mount_overlay(const struct storage_vm *vm, struct err *err)
{
	/* Relative names, because the option string has its own opinion of
	 * ',' and ':' in paths. redirect_dir: a desktop may rename
	 * directories that come from its image. */
	char options[160];

	snprintf(options, sizeof(options),
	    "lowerdir=lower,upperdir=rw/" PART ",workdir=rw/work,"
	    "redirect_dir=on,index=off,metacopy=off%s",
	    vm->is_volatile ? ",volatile" : "");
	if (chdir(vm->mnt_dir) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "go to %s", vm->mnt_dir);
	if (mount("overlay", "root", "overlay", MS_NODEV, options) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "mount the root file system (overlay over image %.12s)",
		    vm->checksum);
	if (chdir("/") < 0)
		return err_errno(err, ERR_SYSTEM, errno, "go to /");
	return 0;
}

static int
overlay_mount(const struct storage_vm *vm, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *tree = NULL;
	_cleanup_(freep)
	char *lower = NULL;
	_cleanup_(freep)
	char *rw = NULL;
	_cleanup_(freep)
	char *root = NULL;
	int r;

	tree = root_image_tree(vm->data_dir, vm->checksum);
	if (vm->root_mb > 0)
		return err_set(err, ERR_CONFIG,
		    "node.storage.root.mb limits what desktops change in their "
		    "systems, which an overlay can't do: let node.storage.root "
		    "be btrfs, or set no limit (0)");
	if ((r = prepare_changes(vm, dir, err)) < 0 ||
	    (r = root_make_dir(vm->mnt_dir, "lower", 0755, &lower, err)) < 0 ||
	    (r = root_make_dir(vm->mnt_dir, "rw", 0755, &rw, err)) < 0 ||
	    (r = root_make_dir(vm->mnt_dir, "root", 0755, &root, err)) < 0 ||
	    (r = storage_mount_idmapped(tree, lower, vm->userns_fd,
		 MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, err)) < 0)
		return r;
	if (mount(dir, rw, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount %s", dir);
	if ((r = mount_overlay(vm, err)) < 0)
		return r;
	return storage_check_writable(root, err);
}

/* Overlays need nothing that the rest doesn't. */
static int
overlay_check(const char *data_dir, struct err *err)
{
	return 0;
}

const struct root_ops root_overlay = {
	.part = PART,
	.check = overlay_check,
	.mount = overlay_mount,
	.remove = fs_remove_tree,
};
