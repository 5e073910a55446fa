/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/home.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "storage/btrfs.h"
#include "storage/home_priv.h"
#include "storage/loopfs.h"
#include "storage/tool.h"

#define LOCK_LOOK_MS 20

const struct field home_info_fields[] = { FIELD_ENUM_OF(struct home_info, store,
					      home_store_words),
	FIELD(struct home_info, size_mb, I64),
	FIELD(struct home_info, used_mb, I64), FIELD_END };

static const struct home_ops *const stores[HOME_STORE_COUNT_] = {
	[HOME_STORE_IMAGE] = &home_image,
	[HOME_STORE_BTRFS] = &home_btrfs,
	[HOME_STORE_PROJECT] = &home_project,
	[HOME_STORE_DIRECTORY] = &home_directory,
};

/* What "auto" means. */
static enum home_store
choose(enum home_store store, int64_t size_mb)
{
	if (store != HOME_STORE_AUTO)
		return store;
	return size_mb > 0 ? HOME_STORE_IMAGE : HOME_STORE_DIRECTORY;
}

char *
home_path(const struct home *h, const struct home_ops *ops)
{
	return xasprintf(
	    "%s/homes/%lld%s", h->data_dir, (long long)h->vm_id, ops->suffix);
}

bool
home_find(
    const struct home *h, enum home_store *ret, const struct home_ops **ret_ops)
{
	_cleanup_(freep)
	char *image = home_path(h, &home_image);
	_cleanup_(freep)
	char *dir = home_path(h, &home_directory);
	_cleanup_(freep)
	char *disk = home_path(h, &home_disk);

	/* A VM has one of each hypervisor. */
	if (h->machine) {
		*ret = HOME_STORE_IMAGE;
		*ret_ops = &home_disk;
		return fs_exists(disk);
	}
	if (fs_exists(image))
		*ret = HOME_STORE_IMAGE;
	else if (!fs_exists(dir))
		return false;
	else if (btrfs_is_subvolume(dir))
		*ret = HOME_STORE_BTRFS;
	else if (project_of(dir) != 0)
		*ret = HOME_STORE_PROJECT;
	else
		*ret = HOME_STORE_DIRECTORY;
	*ret_ops = stores[*ret];
	return true;
}

int
home_none(const struct home *h, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND,
	    "VM %lld has no home on this node; its first start makes it",
	    (long long)h->vm_id);
}

int
home_check(const char *data_dir, enum home_store store, struct err *err)
{
	const struct home_ops *ops = stores[choose(store, 1)];
	_cleanup_(freep)
	char *homes = xasprintf("%s/homes", data_dir);
	int r = ops->check(data_dir, err);

	if (r == 0 && ops != &home_directory)
		r = loopfs_check_room(homes, err);
	return r < 0 ? err_wrap(err, r, "node.storage.home is '%s'",
			   home_store_to_str(store))
		     : 0;
}

/*
 * The lock is an overlay of three empty directories: the kernel refuses a
 * second one with the same upper (with index=on), in whatever namespace the
 * first is, and knows by itself when it has gone. Descriptors with locks on
 * them would need a process that keeps them.
 */
static int
try_lock(const char *dir, const char *target)
{
	char options[96];
	int r;

	snprintf(options, sizeof(options),
	    "lowerdir=lower,upperdir=upper,workdir=work,index=on");
	if (chdir(dir) < 0)
		return -errno;
	r = mount("qvd-home", target, "overlay",
		MS_NODEV | MS_NOSUID | MS_NOEXEC, options) < 0
		? -errno
		: 0;
	return chdir("/") < 0 ? -errno : r;
}

static int
make_lock(const char *dir, struct err *err)
{
	static const char *const names[] = { "lower", "upper", "work" };
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/%s", dir, names[i]);

		if ((r = fs_mkdirs(path, 0700, err)) < 0)
			return r;
	}
	return 0;
}

int
home_lock(
    const struct home *h, const char *mnt_dir, int wait_ms, struct err *err)
{
	const struct timespec pause = { .tv_nsec = LOCK_LOOK_MS * 1000000 };
	_cleanup_(freep)
	char *dir =
	    xasprintf("%s/homes/%lld.lock", h->data_dir, (long long)h->vm_id);
	_cleanup_(freep)
	char *target = xasprintf("%s/homelock", mnt_dir);
	int64_t end = time_now_ms() + wait_ms;
	int r;

	if ((r = make_lock(dir, err)) < 0 ||
	    (r = fs_mkdirs(target, 0700, err)) < 0)
		return r;
	/* Nothing announces the end of a mount namespace. */
	while ((r = try_lock(dir, target)) == -EBUSY && time_now_ms() < end)
		nanosleep(&pause, NULL);
	/* The data directory was copied: the upper remembers its lower. */
	if (r == -ESTALE) {
		if ((r = fs_remove_tree(dir, err)) < 0 ||
		    (r = make_lock(dir, err)) < 0)
			return r;
		r = try_lock(dir, target);
	}
	if (r == -EBUSY)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is in use; stop the VM first",
		    (long long)h->vm_id);
	return r < 0 ? err_errno(err, ERR_SYSTEM, -r,
			   "lock the home of VM %lld (%s)", (long long)h->vm_id,
			   dir)
		     : 0;
}

static int
check_size(
    const struct home *h, enum home_store store, bool there, struct err *err)
{
	if (store == HOME_STORE_DIRECTORY && h->size_mb > 0)
		return err_set(err, ERR_CONFIG,
		    "a home of at most %lld MiB is wanted, and %s a plain "
		    "directory, which has no limit; %s",
		    (long long)h->size_mb,
		    there ? "this one is" : "node.storage.home makes it",
		    there
			? "convert it with 'qvd home convert', or let its OSF "
			  "limit nothing (--home 0)"
			: "let node.storage.home be auto, image, btrfs or "
			  "project ('qvd config set')");
	if (store == HOME_STORE_IMAGE && !there && h->size_mb == 0)
		return err_set(err, ERR_CONFIG,
		    "node.storage.home is 'image', and an image needs a size: "
		    "set one ('qvd osf set --home'), or let "
		    "node.storage.home be auto");
	return 0;
}

/* What there is, or what is to be made. */
static int
settle(const struct home *h, enum home_store *ret,
    const struct home_ops **ret_ops, bool *ret_there, struct err *err)
{
	int r;

	*ret_there = home_find(h, ret, ret_ops);
	if (!*ret_there) {
		*ret = choose(h->store, h->size_mb);
		*ret_ops = stores[*ret];
	}
	if ((r = check_size(h, *ret, *ret_there, err)) < 0)
		return r;
	return (*ret_ops)->check(h->data_dir, err);
}

int
home_remove(const char *path, struct err *err)
{
	if (btrfs_is_subvolume(path))
		return btrfs_delete(path, err);
	return fs_remove_tree(path, err);
}

static int
make_volume(const struct home *h, const struct home_ops *ops, struct err *err)
{
	_cleanup_(freep)
	char *path = home_path(h, ops);
	_cleanup_(freep)
	char *fresh = xasprintf("%s.new", path);
	int r;

	if ((r = home_remove(fresh, err)) < 0 ||
	    (r = ops->make(h, fresh, err)) < 0)
		return r;
	if (rename(fresh, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	return 0;
}

static int
open_dir(const char *path, int *ret_fd, struct err *err)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "open '%s'", path)
		   : 0;
}

/* An image doesn't shrink, and a home is never made to hold less than it was
 * promised; so only more, or for kinds that know it, no limit. */
static int
adjust(const struct home *h, const struct home_ops *ops, int fd,
    struct home_info *ret, struct err *err)
{
	_cleanup_(freep)
	char *path = home_path(h, ops);
	int r;

	if ((r = ops->look(path, fd, h, ret, err)) < 0)
		return r;
	if (h->size_mb == ret->size_mb ||
	    ((ops == &home_image || ops == &home_disk) &&
		h->size_mb < ret->size_mb))
		return 0;
	if ((r = ops->limit(path, fd, h, err)) < 0)
		return r;
	return ops->look(path, fd, h, ret, err);
}

int
home_mount(const struct home *h, const char *mnt_dir, struct home_info *ret,
    struct err *err)
{
	_cleanup_(freep)
	char *target = xasprintf("%s/homefs", mnt_dir);
	_cleanup_(freep)
	char *path = NULL;
	_cleanup_(closep)
	int fd = -1;
	const struct home_ops *ops;
	enum home_store store;
	bool there;
	int r;

	if ((r = settle(h, &store, &ops, &there, err)) < 0)
		return r;
	path = home_path(h, ops);
	if ((!there && (r = make_volume(h, ops, err)) < 0) ||
	    (r = adjust(h, ops, -1, ret, err)) < 0 ||
	    (r = fs_mkdirs(target, 0755, err)) < 0 ||
	    (r = ops->attach(path, target, err)) < 0 ||
	    (r = open_dir(target, &fd, err)) < 0)
		return r;
	ret->store = store;
	return ops->look(path, fd, h, ret, err);
}

int
home_look(const struct home *h, int fd, struct home_info *ret, struct err *err)
{
	_cleanup_(freep)
	char *path = NULL;
	const struct home_ops *ops;

	if (!home_find(h, &ret->store, &ops))
		return home_none(h, err);
	path = home_path(h, ops);
	return ops->look(path, fd, h, ret, err);
}

int
home_grow(const struct home *h, int fd, struct home_info *ret, struct err *err)
{
	const struct home_ops *ops;
	struct home_info now;
	int r;

	if ((r = home_look(h, fd, &now, err)) < 0)
		return r;
	home_find(h, &now.store, &ops);
	if (now.store == HOME_STORE_DIRECTORY)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is a plain directory, which has no "
		    "size; 'qvd home convert' gives it one",
		    (long long)h->vm_id);
	if (h->size_mb < now.size_mb)
		return err_set(err, ERR_PARAMETER,
		    "the home of VM %lld has %lld MiB already; it can only "
		    "grow",
		    (long long)h->vm_id, (long long)now.size_mb);
	ret->store = now.store;
	return adjust(h, ops, fd, ret, err);
}

/* Conversion: a second volume with the same files. */

static int
attach_at(const struct home_ops *ops, const char *path, const char *mnt_dir,
    const char *name, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *target = xasprintf("%s/%s", mnt_dir, name);
	int r;

	if ((r = fs_mkdirs(target, 0755, err)) < 0 ||
	    (r = ops->attach(path, target, err)) < 0)
		return r;
	*ret = take_ptr(target);
	return 0;
}

/* Fills the volume at `fresh`, and lets go of both. */
static int
fill_volume(const struct home_ops *from_ops, const char *from,
    const struct home_ops *to_ops, const char *fresh, const char *mnt_dir,
    struct err *err)
{
	_cleanup_(freep)
	char *old = NULL;
	_cleanup_(freep)
	char *new = NULL;
	int r;

	if ((r = attach_at(from_ops, from, mnt_dir, "homefs", &old, err)) < 0 ||
	    (r = attach_at(to_ops, fresh, mnt_dir, "homenew", &new, err)) < 0 ||
	    (r = tool_copy_tree(old, new, err)) < 0)
		return r;
	if (umount(new) < 0 || umount(old) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "unmount the homes");
	return 0;
}

/* From here on the new one is found. */
static int
take_place(
    const char *fresh, const char *path, const char *old, struct err *err)
{
	bool same = str_eq(path, old);
	int r;

	/* What a killed conversion may have left. */
	if (!same && (r = home_remove(path, err)) < 0)
		return r;
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, path,
		same ? RENAME_EXCHANGE : 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	return home_remove(same ? fresh : old, err);
}

static int
check_convertible(const struct home *h, enum home_store is,
    enum home_store wanted, struct err *err)
{
	_cleanup_(freep)
	char *snapshots =
	    xasprintf("%s/snapshots/%lld", h->data_dir, (long long)h->vm_id);
	int r;

	if (is == wanted)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is of the kind '%s' already",
		    (long long)h->vm_id, home_store_to_str(is));
	if ((r = home_forget_unfinished(h, err)) < 0)
		return r;
	/* Empty, it is removed; its volumes are of the old kind. */
	if (rmdir(snapshots) < 0 && errno != ENOENT)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld has snapshots, which would be lost; "
		    "remove them first ('qvd home forget')",
		    (long long)h->vm_id);
	return 0;
}

int
home_convert(const struct home *h, const char *mnt_dir, struct err *err)
{
	const struct home_ops *from_ops, *ops;
	_cleanup_(freep)
	char *from = NULL;
	_cleanup_(freep)
	char *path = NULL;
	_cleanup_(freep)
	char *fresh = NULL;
	enum home_store is, wanted = choose(h->store, h->size_mb);
	int r;

	if (!home_find(h, &is, &from_ops))
		return home_none(h, err);
	if (h->machine)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is the disk of a virtual machine, and "
		    "stays one",
		    (long long)h->vm_id);
	ops = stores[wanted];
	from = home_path(h, from_ops);
	path = home_path(h, ops);
	fresh = xasprintf("%s.new", path);
	if ((r = check_convertible(h, is, wanted, err)) < 0 ||
	    (r = check_size(h, wanted, false, err)) < 0 ||
	    (r = ops->check(h->data_dir, err)) < 0 ||
	    (r = home_remove(fresh, err)) < 0 ||
	    (r = ops->make(h, fresh, err)) < 0 ||
	    (h->size_mb > 0 && (r = ops->limit(fresh, -1, h, err)) < 0) ||
	    (r = fill_volume(from_ops, from, ops, fresh, mnt_dir, err)) < 0) {
		home_remove(fresh, NULL);
		return r;
	}
	return take_place(fresh, path, from, err);
}
