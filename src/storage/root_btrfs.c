/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Root as a btrfs snapshot: each image has a subvolume, made once from its
 * checkout, and each VM a writable snapshot of it, mounted with the desktop's
 * ids; on disk it has the ids as the desktop sees them. Disk space is shared,
 * the page cache is not: every desktop has its own copy in memory.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "storage/btrfs.h"
#include "storage/root.h"
#include "storage/tool.h"

#define PART "root"
#define MB   (UINT64_C(1) << 20)

static int
btrfs_root_check(const char *data_dir, int64_t limit_mb, struct err *err)
{
	static const char *const dirs[] = { "images", "vms" };
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(freep)
		char *dir = xasprintf("%s/%s", data_dir, dirs[i]);

		if ((r = btrfs_check(dir, err)) < 0)
			return r;
	}
	return 0;
}

static char *
image_subvolume(const char *data_dir, const char *checksum)
{
	return xasprintf("%s/images/subvolumes/%s", data_dir, checksum);
}

int
storage_root_prepare(const char *data_dir, const char *checksum,
    enum root_store store, struct err *err)
{
	_cleanup_(freep)
	char *tree = root_image_tree(data_dir, checksum);
	_cleanup_(freep)
	char *all = xasprintf("%s/images/subvolumes", data_dir);
	_cleanup_(freep)
	char *path = image_subvolume(data_dir, checksum);
	_cleanup_(freep)
	char *fresh = xasprintf("%s.new", path);
	int r;

	if (store != ROOT_STORE_BTRFS || fs_exists(path))
		return 0;
	if ((r = fs_mkdirs(all, 0700, err)) < 0 ||
	    (r = btrfs_check(all, err)) < 0 ||
	    (fs_exists(fresh) && (r = btrfs_delete(fresh, err)) < 0) ||
	    (r = btrfs_create(fresh, err)) < 0 ||
	    (r = tool_copy_tree(tree, fresh, err)) < 0)
		return err_wrap(err, r, "make the image's subvolume");
	if (rename(fresh, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	return 0;
}

static int
forget_image(const struct fs_entry *e, void *data_dir, struct err *err)
{
	/* One that is being made has its checksum in front, too. */
	_cleanup_(freep)
	char *checksum = xasprintf("%.64s", e->name);
	_cleanup_(freep)
	char *tree = root_image_tree(data_dir, checksum);

	if (e->name[0] == '.' || fs_exists(tree) ||
	    !btrfs_is_subvolume(e->path))
		return 0;
	return btrfs_delete(e->path, err);
}

int
storage_root_forget_images(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *all = xasprintf("%s/images/subvolumes", data_dir);

	return fs_each_entry(
	    all, forget_image, (void *)(uintptr_t)data_dir, err);
}

static int
take_snapshot(const struct storage_vm *vm, const char *root, struct err *err)
{
	_cleanup_(freep)
	char *image = image_subvolume(vm->data_dir, vm->checksum);

	if (fs_exists(root))
		return 0;
	if (!fs_exists(image))
		return err_set(err, ERR_IMAGE,
		    "image %.12s is not there as a subvolume on this node",
		    vm->checksum);
	return btrfs_snapshot(image, root, err);
}

static int
btrfs_root_mount(const struct storage_vm *vm, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *root = xasprintf("%s/" PART, dir);
	_cleanup_(freep)
	char *target = NULL;
	int r;

	if ((r = take_snapshot(vm, root, err)) < 0 ||
	    (vm->root_mb > 0 && (r = btrfs_limit(root, BTRFS_EXCLUSIVE,
				     (uint64_t)vm->root_mb * MB, err)) < 0) ||
	    (r = root_make_dir(vm->mnt_dir, "root", 0755, &target, err)) < 0)
		return r;
	return storage_mount_idmapped(
	    root, target, vm->userns_fd, MOUNT_ATTR_NODEV, err);
}

static int
btrfs_root_remove(const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *root = xasprintf("%s/" PART, dir);
	int r;

	if (btrfs_is_subvolume(root) && (r = btrfs_delete(root, err)) < 0)
		return r;
	return fs_remove_tree(dir, err);
}

const struct root_ops root_btrfs = {
	.parts = { PART },
	.check = btrfs_root_check,
	.mount = btrfs_root_mount,
	.remove = btrfs_root_remove,
};
