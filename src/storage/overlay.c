/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Root by overlayfs: below the image's checkout, mounted with the desktop's
 * ids; above <data>/vms/<id>/<commit>/upper. Only the lower is idmapped: an
 * idmapped upper makes overlayfs come up read-only without an error. A
 * volatile root's changes are in <data>/vms/<id>/volatile and are removed
 * before the next start and when the VM is cleaned.
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
#include "storage/storage.h"

static int
make_dir(
    const char *dir, const char *name, mode_t mode, char **ret, struct err *err)
{
	char *path = xasprintf("%s/%s", dir, name);

	if (mkdir(path, mode) < 0 && errno != EEXIST) {
		int r = err_errno(
		    err, ERR_SYSTEM, errno, "make directory %s", path);

		free(path);
		return r;
	}
	*ret = path;
	return 0;
}

/* <data>/vms/<id>/<commit>, with upper and work. */
static int
prepare_changes(const struct storage_vm *vm, char **ret_dir, struct err *err)
{
	_cleanup_(freep)
	char *dir = NULL;
	_cleanup_(freep)
	char *upper = NULL;
	_cleanup_(freep)
	char *work = NULL;
	struct stat st;
	int r;

	dir = xasprintf("%s/vms/%lld/%s", vm->data_dir, (long long)vm->vm_id,
	    vm->is_volatile ? "volatile" : vm->checksum);
	if (vm->is_volatile && (r = fs_remove_tree(dir, err)) < 0)
		return r;
	if ((r = fs_mkdirs(dir, 0700, err)) < 0 ||
	    (r = make_dir(dir, "work", 0700, &work, err)) < 0 ||
	    (r = make_dir(dir, "upper", 0755, &upper, err)) < 0)
		return r;
	/* The upper's root is the merged root: the desktop's root owns it. */
	if (stat(upper, &st) < 0 ||
	    (st.st_uid != vm->id_base &&
		chown(upper, vm->id_base, vm->id_base) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "chown %s", upper);
	*ret_dir = take_ptr(dir);
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
	    "lowerdir=lower,upperdir=rw/upper,workdir=rw/work,"
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
overlay_mount(const struct storage_vm *vm, struct err *err)
{
	_cleanup_(freep)
	char *tree = NULL;
	_cleanup_(freep)
	char *changes = NULL;
	_cleanup_(freep)
	char *lower = NULL;
	_cleanup_(freep)
	char *rw = NULL;
	_cleanup_(freep)
	char *root = NULL;
	int r;

	tree = xasprintf("%s/images/trees/%s", vm->data_dir, vm->checksum);
	if (!fs_exists(tree))
		return err_set(err, ERR_IMAGE,
		    "image %.12s is not checked out on this node",
		    vm->checksum);
	if ((r = prepare_changes(vm, &changes, err)) < 0 ||
	    (r = make_dir(vm->mnt_dir, "lower", 0755, &lower, err)) < 0 ||
	    (r = make_dir(vm->mnt_dir, "rw", 0755, &rw, err)) < 0 ||
	    (r = make_dir(vm->mnt_dir, "root", 0755, &root, err)) < 0 ||
	    (r = storage_mount_idmapped(tree, lower, vm->userns_fd,
		 MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, err)) < 0)
		return r;
	if (mount(changes, rw, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount %s", changes);
	if ((r = mount_overlay(vm, err)) < 0)
		return r;
	return storage_check_writable(root, err);
}

static int
overlay_clean(
    const char *data_dir, int64_t vm_id, bool *ret_removed, struct err *err)
{
	_cleanup_(freep)
	char *dir =
	    xasprintf("%s/vms/%lld/volatile", data_dir, (long long)vm_id);

	*ret_removed = fs_exists(dir);
	return *ret_removed ? fs_remove_tree(dir, err) : 0;
}

const struct storage_root_ops storage_overlay = {
	.name = "overlay",
	.mount = overlay_mount,
	.clean = overlay_clean,
};
