/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/btrfs.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

static int
open_dir(const char *path, int *ret_fd, struct err *err)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret_fd < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "open '%s'", path)
		   : 0;
}

/* The directory that path is in. */
static int
open_parent(const char *path, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrdup(path);

	*strrchr(dir, '/') = '\0';
	return open_dir(dir, ret_fd, err);
}

static const char *
last_part(const char *path)
{
	return strrchr(path, '/') + 1;
}

int
btrfs_check(const char *dir, struct err *err)
{
	struct statfs fs;

	if (statfs(dir, &fs) < 0)
		return err_errno(err, ERR_CONFIG, errno, "look at %s", dir);
	if (fs.f_type != BTRFS_SUPER_MAGIC)
		return err_set(err, ERR_CONFIG,
		    "%s is not on a btrfs file system; mount one there "
		    "(mkfs.btrfs), or choose another storage",
		    dir);
	return 0;
}

bool
btrfs_is_subvolume(const char *path)
{
	struct statfs fs;
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       st.st_ino == BTRFS_FIRST_FREE_OBJECTID &&
	       statfs(path, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC;
}

int64_t
btrfs_made_us(const char *path)
{
	struct btrfs_ioctl_get_subvol_info_args info;
	_cleanup_(closep)
	int fd = -1;

	if (open_dir(path, &fd, NULL) < 0 ||
	    ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, &info) < 0)
		return 0;
	return (int64_t)info.otime.sec * 1000000 + info.otime.nsec / 1000;
}

int
btrfs_create(const char *path, struct err *err)
{
	struct btrfs_ioctl_vol_args args = { 0 };
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_parent(path, &fd, err)) < 0)
		return r;
	str_copy(args.name, sizeof(args.name), last_part(path));
	if (ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, &args) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make the subvolume %s", path);
	return 0;
}

int
btrfs_snapshot(const char *from, const char *to, struct err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = { 0 };
	_cleanup_(closep)
	int dir = -1;
	_cleanup_(closep)
	int source = -1;
	int r;

	if ((r = open_parent(to, &dir, err)) < 0 ||
	    (r = open_dir(from, &source, err)) < 0)
		return r;
	args.fd = source;
	str_copy(args.name, sizeof(args.name), last_part(to));
	if (ioctl(dir, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "make a snapshot of the subvolume %s", from);
	return 0;
}

static int
subvolume_id(int fd, uint64_t *ret, struct err *err)
{
	struct btrfs_ioctl_ino_lookup_args args = {
		.objectid = BTRFS_FIRST_FREE_OBJECTID
	};

	if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "ask for the subvolume's id");
	*ret = args.treeid;
	return 0;
}

/* A subvolume that lies in that one; false: there is none. */
static bool
first_below(int fd, uint64_t id, uint64_t *ret)
{
	struct btrfs_ioctl_search_args args = {
		.key = { .tree_id = BTRFS_ROOT_TREE_OBJECTID,
		    .min_objectid = id,
		    .max_objectid = id,
		    .min_type = BTRFS_ROOT_REF_KEY,
		    .max_type = BTRFS_ROOT_REF_KEY,
		    .max_offset = UINT64_MAX,
		    .max_transid = UINT64_MAX,
		    .nr_items = 1 }
	};
	struct btrfs_ioctl_search_header head;

	if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0 ||
	    args.key.nr_items == 0)
		return false;
	memcpy(&head, args.buf, sizeof(head));
	*ret = head.offset;
	return true;
}

/*
 * Without them none that holds others can be removed. Whoever can write to a
 * directory can make subvolumes in it, as deep as it likes: always the
 * deepest goes first, by its id, and no memory is needed for the way there.
 */
static int
delete_below(int fd, const char *path, struct err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = { .flags =
						    BTRFS_SUBVOL_SPEC_BY_ID };
	uint64_t top = 0, id;
	int r;

	if ((r = subvolume_id(fd, &top, err)) < 0)
		return r;
	while (first_below(fd, top, &id)) {
		while (first_below(fd, id, &id))
			;
		args.subvolid = id;
		if (ioctl(fd, BTRFS_IOC_SNAP_DESTROY_V2, &args) < 0)
			return err_errno(err, ERR_SYSTEM, errno,
			    "remove the subvolume %llu in %s",
			    (unsigned long long)id, path);
	}
	return 0;
}

int
btrfs_delete(const char *path, struct err *err)
{
	struct btrfs_ioctl_vol_args args = { 0 };
	_cleanup_(closep)
	int parent = -1;
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_parent(path, &parent, err)) < 0 ||
	    (r = open_dir(path, &fd, err)) < 0 ||
	    (r = delete_below(fd, path, err)) < 0)
		return r;
	str_copy(args.name, sizeof(args.name), last_part(path));
	if (ioctl(parent, BTRFS_IOC_SNAP_DESTROY, &args) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "remove the subvolume %s", path);
	return 0;
}

int
btrfs_limit(
    const char *path, enum btrfs_count count, uint64_t bytes, struct err *err)
{
	struct btrfs_ioctl_quota_ctl_args on = { .cmd =
						     BTRFS_QUOTA_CTL_ENABLE };
	/* qgroupid 0: the subvolume's own. All ones clear the limit. */
	uint64_t max = bytes != 0 ? bytes : UINT64_MAX;
	struct btrfs_ioctl_qgroup_limit_args args = { 0 };
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_dir(path, &fd, err)) < 0)
		return r;
	if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &on) < 0 && errno != EEXIST)
		return err_errno(err, ERR_SYSTEM, errno,
		    "begin to count in qgroups (btrfs quota enable)");
	if (count == BTRFS_REFERENCED) {
		args.lim.flags = BTRFS_QGROUP_LIMIT_MAX_RFER;
		args.lim.max_rfer = max;
	} else {
		args.lim.flags = BTRFS_QGROUP_LIMIT_MAX_EXCL;
		args.lim.max_excl = max;
	}
	if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "limit the subvolume %s (qgroup)", path);
	return 0;
}

/* The item of the quota tree; false: there is none, or no such tree. */
static bool
quota_item(int fd, uint32_t type, uint64_t id, void *item, size_t size)
{
	struct btrfs_ioctl_search_args args = {
		.key = { .tree_id = BTRFS_QUOTA_TREE_OBJECTID,
		    .min_type = type,
		    .max_type = type,
		    .min_offset = id,
		    .max_offset = id,
		    .max_transid = UINT64_MAX,
		    .nr_items = 1 }
	};
	struct btrfs_ioctl_search_header head;

	if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0 ||
	    args.key.nr_items == 0)
		return false;
	memcpy(&head, args.buf, sizeof(head));
	if (head.len < size)
		return false;
	memcpy(item, args.buf + sizeof(head), size);
	return true;
}

static int
read_usage(int fd, enum btrfs_count count, uint64_t *ret_limit,
    int64_t *ret_used, struct err *err)
{
	struct btrfs_qgroup_limit_item limit;
	struct btrfs_qgroup_info_item info;
	uint64_t id = 0, flag;
	int r;

	if ((r = subvolume_id(fd, &id, err)) < 0)
		return r;
	*ret_limit = 0;
	*ret_used = -1;
	if (quota_item(fd, BTRFS_QGROUP_INFO_KEY, id, &info, sizeof(info)))
		*ret_used = (int64_t)le64toh(
		    count == BTRFS_REFERENCED ? info.rfer : info.excl);
	flag = count == BTRFS_REFERENCED ? BTRFS_QGROUP_LIMIT_MAX_RFER
					 : BTRFS_QGROUP_LIMIT_MAX_EXCL;
	if (quota_item(fd, BTRFS_QGROUP_LIMIT_KEY, id, &limit, sizeof(limit)) &&
	    (le64toh(limit.flags) & flag) != 0)
		*ret_limit =
		    le64toh(count == BTRFS_REFERENCED ? limit.max_rfer
						      : limit.max_excl);
	return 0;
}

int
btrfs_usage(const char *path, enum btrfs_count count, uint64_t *ret_limit,
    int64_t *ret_used, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_dir(path, &fd, err)) < 0)
		return r;
	/* The tree on disk follows with the transaction. */
	if (syncfs(fd) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "sync %s", path);
	return read_usage(fd, count, ret_limit, ret_used, err);
}

int
btrfs_usage_lately(int fd, enum btrfs_count count, uint64_t *ret_limit,
    int64_t *ret_used, struct err *err)
{
	struct stat st;

	*ret_limit = 0;
	*ret_used = -1;
	if (fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at a subvolume");
	return st.st_ino != BTRFS_FIRST_FREE_OBJECTID
		   ? 0
		   : read_usage(fd, count, ret_limit, ret_used, err);
}
