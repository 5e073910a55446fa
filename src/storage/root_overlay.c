/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Root by overlayfs: below the image's checkout, mounted with the desktop's
 * ids; above the VM's own changes (root.c). Only the lower is idmapped: an
 * idmapped upper makes overlayfs come up read-only without an error.
 *
 * With a limit the changes are in a file system of that size (loopfs.h), be
 * they volatile or not: in memory they would count in the desktop's memory,
 * of which a node is shorter than of disk. One that is there never gets
 * smaller, and changes made without a limit move into one when they fit.
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
#include "storage/loopfs.h"
#include "storage/root.h"
#include "storage/tool.h"

#define PART "upper"
#define WORK "work"

static int
prepare_changes(const struct storage_vm *vm, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *upper = NULL;
	_cleanup_(freep)
	char *work = NULL;
	struct stat st;
	int r;

	if ((r = root_make_dir(dir, WORK, 0700, &work, err)) < 0 ||
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
	    "lowerdir=lower,upperdir=rw/" PART ",workdir=rw/" WORK ","
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

/* Into the new file system at rw. What was there goes when it is whole. */
static int
move_changes(const struct storage_vm *vm, const char *upper, const char *rw,
    struct err *err)
{
	_cleanup_(freep)
	char *to = NULL;
	int r;

	if ((r = root_make_dir(rw, PART, 0755, &to, err)) < 0 ||
	    (r = tool_copy_tree(upper, to, err)) < 0)
		return err_wrap(err, r,
		    "put what VM %lld has changed in its system under the "
		    "limit of %lld MiB (node.storage.root.mb)",
		    (long long)vm->vm_id, (long long)vm->root_mb);
	return 0;
}

/* Begins a file system at `image` and mounts it. */
static int
begin_limited(const struct storage_vm *vm, const char *dir, const char *image,
    const char *rw, struct err *err)
{
	_cleanup_(freep)
	char *fresh = xasprintf("%s.new", image);
	_cleanup_(freep)
	char *upper = xasprintf("%s/" PART, dir);
	_cleanup_(freep)
	char *work = xasprintf("%s/" WORK, dir);
	int r;

	if ((r = fs_remove_tree(fresh, err)) < 0 ||
	    (r = loopfs_make(fresh, vm->root_mb, err)) < 0 ||
	    (r = loopfs_mount(fresh, rw, err)) < 0 ||
	    (fs_exists(upper) && (r = move_changes(vm, upper, rw, err)) < 0))
		return r;
	if (rename(fresh, image) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	if ((r = fs_remove_tree(upper, err)) < 0)
		return r;
	return fs_remove_tree(work, err);
}

static int
mount_limited(const struct storage_vm *vm, const char *dir, const char *image,
    const char *rw, struct err *err)
{
	int64_t mb;
	int r;

	if (!fs_exists(image))
		return begin_limited(vm, dir, image, rw, err);
	if ((r = loopfs_size(image, &mb, err)) < 0 ||
	    (vm->root_mb > mb &&
		(r = loopfs_grow(image, -1, vm->root_mb, err)) < 0))
		return r;
	return loopfs_mount(image, rw, err);
}

static int
mount_changes(const struct storage_vm *vm, const char *dir, const char *rw,
    struct err *err)
{
	_cleanup_(freep)
	char *image = xasprintf("%s/" ROOT_LIMITED, dir);
	int r;

	if (vm->root_mb > 0 || fs_exists(image)) {
		r = mount_limited(vm, dir, image, rw, err);
		return r < 0 ? r : prepare_changes(vm, rw, err);
	}
	if ((r = prepare_changes(vm, dir, err)) < 0)
		return r;
	if (mount(dir, rw, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount %s", dir);
	return 0;
}

static int
overlay_mount(const struct storage_vm *vm, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *tree = root_image_tree(vm->data_dir, vm->checksum);
	_cleanup_(freep)
	char *lower = NULL;
	_cleanup_(freep)
	char *rw = NULL;
	_cleanup_(freep)
	char *root = NULL;
	int r;

	if ((r = root_make_dir(vm->mnt_dir, "lower", 0755, &lower, err)) < 0 ||
	    (r = root_make_dir(vm->mnt_dir, "rw", 0755, &rw, err)) < 0 ||
	    (r = root_make_dir(vm->mnt_dir, "root", 0755, &root, err)) < 0 ||
	    (r = mount_changes(vm, dir, rw, err)) < 0 ||
	    (r = storage_mount_idmapped(tree, lower, vm->userns_fd,
		 MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, err)) < 0 ||
	    (r = mount_overlay(vm, err)) < 0)
		return r;
	return storage_check_writable(root, err);
}

int
storage_root_show(
    const char *data_dir, int64_t vm_id, const char *checksum, struct err *err)
{
	_cleanup_(freep)
	char *dir =
	    xasprintf("%s/vms/%lld/%s", data_dir, (long long)vm_id, checksum);
	_cleanup_(freep)
	char *image = xasprintf("%s/" ROOT_LIMITED, dir);
	_cleanup_(freep)
	char *target = NULL;
	int r;

	if (!fs_exists(image))
		return 0;
	if ((r = root_make_dir(dir, ROOT_SHOWN, 0700, &target, err)) < 0)
		return r;
	return loopfs_mount(image, target, err);
}

/* Without a limit they need nothing that the rest doesn't. */
static int
overlay_check(const char *data_dir, int64_t limit_mb, struct err *err)
{
	return limit_mb > 0 ? loopfs_check(err) : 0;
}

const struct root_ops root_overlay = {
	.parts = { PART, ROOT_LIMITED },
	.check = overlay_check,
	.mount = overlay_mount,
	.remove = fs_remove_tree,
};
