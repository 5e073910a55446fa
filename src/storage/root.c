/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VM's changes to its image are in <data>/vms/<id>/<commit>: bound to the
 * version of the image that they were made to. When the VM runs from another
 * version they wait for its return, and are removed when that is long ago.
 * A volatile root's are in <data>/vms/<id>/volatile, removed before the next
 * start and when the VM is cleaned.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "storage/loopfs.h"
#include "storage/root.h"

static const struct root_ops *const stores[ROOT_STORE_COUNT_] = {
	[ROOT_STORE_OVERLAY] = &root_overlay,
	[ROOT_STORE_BTRFS] = &root_btrfs,
};

int
storage_root_check(const char *data_dir, enum root_store store,
    int64_t limit_mb, struct err *err)
{
	_cleanup_(freep)
	char *vms = xasprintf("%s/vms", data_dir);
	int r = stores[store]->check(data_dir, limit_mb, err);

	if (r == 0 && (limit_mb > 0 || store == ROOT_STORE_BTRFS))
		r = loopfs_check_room(vms, err);
	return r < 0 ? err_wrap(err, r, "node.storage.root is '%s'",
			   root_store_to_str(store))
		     : 0;
}

int
root_make_dir(
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

char *
root_image_tree(const char *data_dir, const char *checksum)
{
	return xasprintf("%s/images/trees/%s", data_dir, checksum);
}

static char *
changes_dir(const char *data_dir, int64_t vm_id, const char *name)
{
	return xasprintf("%s/vms/%lld/%s", data_dir, (long long)vm_id, name);
}

/* What is there stays what it is. */
static const struct root_ops *
find(const char *dir, const struct root_ops *otherwise)
{
	const char *const *name;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(stores); i++) {
		for (name = stores[i]->parts; *name != NULL; name++) {
			_cleanup_(freep)
			char *part = xasprintf("%s/%s", dir, *name);

			if (fs_exists(part))
				return stores[i];
		}
	}
	return otherwise;
}

int
root_remove_changes(const char *dir, struct err *err)
{
	return find(dir, &root_overlay)->remove(dir, err);
}

int
storage_root_mount(const struct storage_vm *vm, struct err *err)
{
	_cleanup_(freep)
	char *dir = changes_dir(vm->data_dir, vm->vm_id,
	    vm->is_volatile ? "volatile" : vm->checksum);
	_cleanup_(freep)
	char *tree = root_image_tree(vm->data_dir, vm->checksum);
	const struct root_ops *ops = stores[vm->root_store];
	int r;

	if (!fs_exists(tree))
		return err_set(err, ERR_IMAGE,
		    "image %.12s is not checked out on this node",
		    vm->checksum);
	if (vm->is_volatile && fs_exists(dir) &&
	    (r = root_remove_changes(dir, err)) < 0)
		return r;
	ops = find(dir, ops);
	if ((r = ops->check(vm->data_dir, vm->root_mb, err)) < 0 ||
	    (r = fs_mkdirs(dir, 0700, err)) < 0 ||
	    (r = ops->mount(vm, dir, err)) < 0)
		return r;
	/* When it was last used; see storage_root_collect(). */
	if (utimensat(AT_FDCWD, dir, NULL, 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "touch %s", dir);
	return 0;
}

int
storage_root_clean(
    const char *data_dir, int64_t vm_id, bool *ret_removed, struct err *err)
{
	_cleanup_(freep)
	char *dir = changes_dir(data_dir, vm_id, "volatile");

	*ret_removed = fs_exists(dir);
	return *ret_removed ? root_remove_changes(dir, err) : 0;
}

struct collecting {
	const char *dir;
	const char *keep; /* the commit that the VM runs from */
	int64_t before_us;
	int *removed;
};

static bool
is_old(const struct fs_entry *e, const struct collecting *c)
{
	struct stat st;

	if (str_ends(e->name, ROOT_OLD))
		return true;
	return strlen(e->name) == 64 && !str_eq(e->name, c->keep) &&
	       fstatat(e->dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (int64_t)st.st_mtim.tv_sec * 1000000 < c->before_us;
}

/* Another name first: what is half removed must not be found by a start. */
static int
collect(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct collecting *c = arg;
	_cleanup_(freep)
	char *to = xasprintf("%s/%.64s" ROOT_OLD, c->dir, e->name);
	int r;

	if (!is_old(e, c))
		return 0;
	/* A removal that was killed may have left that name. */
	if ((r = root_remove_changes(to, err)) < 0)
		return r;
	if (!str_ends(e->name, ROOT_OLD)) {
		if (rename(e->path, to) < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "rename %s", e->path);
		if ((r = root_remove_changes(to, err)) < 0)
			return r;
	}
	(*c->removed)++;
	return 0;
}

int
storage_root_collect(const char *data_dir, int64_t vm_id, const char *keep,
    int64_t keep_ms, int *ret_removed, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/vms/%lld", data_dir, (long long)vm_id);
	struct collecting c = {
		.dir = path,
		.keep = keep,
		.before_us = time_wall_us() - keep_ms * 1000,
		.removed = ret_removed,
	};

	*ret_removed = 0;
	return fs_each_entry(path, collect, &c, err);
}
