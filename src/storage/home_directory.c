/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Homes as plain directories: they work on any file system that knows
 * idmapped mounts, and have neither limit nor snapshots. */
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "storage/home_priv.h"

static int
directory_check(const char *data_dir, struct err *err)
{
	return 0;
}

int
home_directory_make(const struct home *h, const char *path, struct err *err)
{
	if (mkdir(path, 0755) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make directory %s", path);
	return 0;
}

int
home_directory_attach(const char *path, const char *target, struct err *err)
{
	if (mount(path, target, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount %s", path);
	return 0;
}

/* settle() has refused every limit. */
static int
directory_limit(const char *path, int fd, const struct home *h, struct err *err)
{
	return 0;
}

static int
directory_look(const char *path, int fd, const struct home *h,
    struct home_info *ret, struct err *err)
{
	ret->size_mb = 0;
	ret->used_mb = -1;
	return 0;
}

const struct home_ops home_directory = {
	.suffix = "",
	.check = directory_check,
	.make = home_directory_make,
	.attach = home_directory_attach,
	.limit = directory_limit,
	.look = directory_look,
};
