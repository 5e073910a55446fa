/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Homes as btrfs subvolumes, limited by their qgroups. Snapshots cost a few
 * milliseconds and, at first, no space, and can be made while the desktop
 * writes. What df shows in the desktop is the node's whole disk.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "storage/btrfs.h"
#include "storage/home_priv.h"

#define MB (UINT64_C(1) << 20)

static int
home_btrfs_check(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *homes = xasprintf("%s/homes", data_dir);

	return btrfs_check(homes, err);
}

static int
home_btrfs_make(const struct home *h, const char *path, struct err *err)
{
	return btrfs_create(path, err);
}

static int
home_btrfs_limit(
    const char *path, int fd, const struct home *h, struct err *err)
{
	return btrfs_limit(
	    path, BTRFS_REFERENCED, (uint64_t)h->size_mb * MB, err);
}

static int
home_btrfs_look(const char *path, int fd, const struct home *h,
    struct home_info *ret, struct err *err)
{
	uint64_t limit;
	int64_t used;
	int r = btrfs_usage(path, BTRFS_REFERENCED, &limit, &used, err);

	if (r < 0)
		return r;
	ret->size_mb = (int64_t)(limit / MB);
	ret->used_mb = used < 0 ? -1 : used / (int64_t)MB;
	return 0;
}

static int
home_btrfs_copy(const char *from, const char *to, bool in_use, struct err *err)
{
	return btrfs_snapshot(from, to, err);
}

const struct home_ops home_btrfs = {
	.suffix = "",
	.check = home_btrfs_check,
	.make = home_btrfs_make,
	.attach = home_directory_attach,
	.limit = home_btrfs_limit,
	.look = home_btrfs_look,
	.copy = home_btrfs_copy,
};
