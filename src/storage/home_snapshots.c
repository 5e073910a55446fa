/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Snapshots of homes: volumes of the same kind in <data>/snapshots/<id>/,
 * each made under another name and renamed when it is whole. */
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/btrfs.h"
#include "storage/home_priv.h"

#define NEW ".new"

static char *
snapshots_dir(const struct home *h)
{
	return xasprintf("%s/snapshots/%lld", h->data_dir, (long long)h->vm_id);
}

static char *
snapshot_path(
    const struct home *h, const struct home_ops *ops, const char *name)
{
	_cleanup_(freep)
	char *dir = snapshots_dir(h);

	return xasprintf("%s/%s%s", dir, name, ops->suffix);
}

static int
check_name(const char *name, struct err *err)
{
	if (!str_is_name(name, HOME_NAME_MAX) || str_ends(name, NEW) ||
	    str_ends(name, home_image.suffix) ||
	    str_ends(name, home_disk.suffix))
		return err_set(err, ERR_PARAMETER,
		    "a snapshot's name is at most %d letters, digits and _.-, "
		    "and doesn't end in '%s', '%s' or '%s'",
		    HOME_NAME_MAX, NEW, home_image.suffix, home_disk.suffix);
	return 0;
}

/* The home's kind, and that it knows snapshots. */
static int
find_ops(const struct home *h, const struct home_ops **ret, struct err *err)
{
	enum home_store store;

	if (!home_find(h, &store, ret))
		return home_none(h, err);
	if ((*ret)->copy == NULL)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is a directory, which has no "
		    "snapshots; 'qvd home convert' makes it an image or a "
		    "btrfs subvolume",
		    (long long)h->vm_id);
	return 0;
}

static int
no_snapshot(const struct home *h, const char *name, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND,
	    "the home of VM %lld has no snapshot '%s'; 'qvd home show' lists "
	    "them",
	    (long long)h->vm_id, name);
}

static int
sync_volume(int fd, struct err *err)
{
	return fd >= 0 && syncfs(fd) < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "sync the home")
		   : 0;
}

int
home_snapshot(const struct home *h, const char *name, int fd, struct err *err)
{
	_cleanup_(freep)
	char *dir = snapshots_dir(h);
	_cleanup_(freep)
	char *from = NULL;
	_cleanup_(freep)
	char *to = NULL;
	_cleanup_(freep)
	char *fresh = NULL;
	const struct home_ops *ops;
	int r;

	if ((r = check_name(name, err)) < 0 ||
	    (r = find_ops(h, &ops, err)) < 0 ||
	    (r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	from = home_path(h, ops);
	to = snapshot_path(h, ops, name);
	fresh = xasprintf("%s" NEW, to);
	if (fs_exists(to))
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld has a snapshot '%s' already",
		    (long long)h->vm_id, name);
	/* What the desktop has written until now is in it. */
	if ((r = home_remove(fresh, err)) < 0 ||
	    (r = sync_volume(fd, err)) < 0 ||
	    (r = ops->copy(from, fresh, fd >= 0, err)) < 0)
		return r;
	if (rename(fresh, to) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	return 0;
}

/* The volumes change names at once, or not at all. */
int
home_restore(const struct home *h, const char *name, struct err *err)
{
	_cleanup_(freep)
	char *from = NULL;
	_cleanup_(freep)
	char *path = NULL;
	_cleanup_(freep)
	char *fresh = NULL;
	const struct home_ops *ops;
	int r;

	if ((r = check_name(name, err)) < 0 || (r = find_ops(h, &ops, err)) < 0)
		return r;
	from = snapshot_path(h, ops, name);
	path = home_path(h, ops);
	fresh = xasprintf("%s" NEW, path);
	if (!fs_exists(from))
		return no_snapshot(h, name, err);
	if ((r = home_remove(fresh, err)) < 0 ||
	    (r = ops->copy(from, fresh, false, err)) < 0)
		return r;
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_EXCHANGE) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename %s", fresh);
	return home_remove(fresh, err);
}

int
home_forget(const struct home *h, const char *name, struct err *err)
{
	_cleanup_(freep)
	char *path = NULL;
	const struct home_ops *ops;
	int r;

	if ((r = check_name(name, err)) < 0 || (r = find_ops(h, &ops, err)) < 0)
		return r;
	path = snapshot_path(h, ops, name);
	if (!fs_exists(path))
		return no_snapshot(h, name, err);
	return home_remove(path, err);
}

static int
forget_if_unfinished(const struct fs_entry *e, void *arg, struct err *err)
{
	return str_ends(e->name, NEW) ? home_remove(e->path, err) : 0;
}

int
home_forget_unfinished(const struct home *h, struct err *err)
{
	_cleanup_(freep)
	char *path = snapshots_dir(h);

	return fs_each_entry(path, forget_if_unfinished, NULL, err);
}

/* A subvolume's root has the times of what it is a snapshot of. */
static int64_t
made_us(const char *path)
{
	struct statx st;

	if (btrfs_is_subvolume(path))
		return btrfs_made_us(path);
	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &st) < 0 ||
	    (st.stx_mask & STATX_BTIME) == 0)
		return 0;
	return (int64_t)st.stx_btime.tv_sec * 1000000 +
	       st.stx_btime.tv_nsec / 1000;
}

struct snapshots {
	bool machine;
	void (*fn)(const char *name, int64_t made_us, void *arg);
	void *arg;
};

static int
tell_snapshot(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct snapshots *s = arg;
	char name[NAME_MAX + 1];

	str_copy(name, sizeof(name), e->name);
	/* Of the home of that hypervisor. */
	if (s->machine != str_ends(name, home_disk.suffix))
		return 0;
	if (s->machine || str_ends(name, home_image.suffix))
		*strrchr(name, '.') = '\0';
	if (check_name(name, NULL) == 0)
		s->fn(name, made_us(e->path), s->arg);
	return 0;
}

int
home_each_snapshot(const struct home *h,
    void (*fn)(const char *name, int64_t made_us, void *arg), void *arg,
    struct err *err)
{
	_cleanup_(freep)
	char *path = snapshots_dir(h);
	struct snapshots s = { .machine = h->machine, .fn = fn, .arg = arg };

	return fs_each_entry(path, tell_snapshot, &s, err);
}
