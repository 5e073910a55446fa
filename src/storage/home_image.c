/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Homes as ext4 file systems in sparse files (loopfs.h). */
#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "storage/copy.h"
#include "storage/home_priv.h"
#include "storage/loopfs.h"

#define MB (INT64_C(1) << 20)

static int
image_check(const char *data_dir, struct err *err)
{
	return loopfs_check(err);
}

static int
image_make(const struct home *h, const char *path, struct err *err)
{
	return loopfs_make(path, h->size_mb, err);
}

static int
image_limit(const char *path, int fd, const struct home *h, struct err *err)
{
	return loopfs_grow(path, fd, h->size_mb, err);
}

static int
image_look(const char *path, int fd, const struct home *h,
    struct home_info *ret, struct err *err)
{
	struct statvfs fs;
	struct stat st;
	int r;

	if ((r = loopfs_size(path, &ret->size_mb, err)) < 0)
		return r;
	if (stat(path, &st) < 0 || (fd >= 0 && fstatvfs(fd, &fs) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	/* Unmounted: what it takes of the node's disk. */
	ret->used_mb = fd >= 0 ? (int64_t)(fs.f_blocks - fs.f_bfree) *
				     (int64_t)fs.f_frsize / MB
			       : (int64_t)st.st_blocks * 512 / MB;
	return 0;
}

const struct home_ops home_image = {
	.suffix = ".img",
	.check = image_check,
	.make = image_make,
	.attach = loopfs_mount,
	.limit = image_limit,
	.look = image_look,
	.copy = copy_file,
};
