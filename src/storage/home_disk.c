/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The home of a virtual machine: a sparse raw disk (disk.h makes it at the
 * machine's first start). What is on it is the guest's: nobody here reads it
 * or mounts it, and it is copied only while nothing has it open.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/copy.h"
#include "storage/home_priv.h"

#define MB (INT64_C(1) << 20)

static int
disk_check(const char *data_dir, struct err *err)
{
	return 0;
}

static int
disk_make(const struct home *h, const char *path, struct err *err)
{
	return home_none(h, err);
}

static int
disk_attach(const char *path, const char *target, struct err *err)
{
	return err_set(err, ERR_CONFLICT,
	    "the home of a virtual machine is a disk of its guest's, which "
	    "the node doesn't mount");
}

static int
disk_limit(const char *path, int fd, const struct home *h, struct err *err)
{
	return truncate(path, (off_t)(h->size_mb * MB)) < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "grow %s", path)
		   : 0;
}

static int
disk_look(const char *path, int fd, const struct home *h, struct home_info *ret,
    struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	ret->size_mb = (int64_t)st.st_size / MB;
	/* What it takes of the node's disk. */
	ret->used_mb = (int64_t)st.st_blocks * 512 / MB;
	return 0;
}

const struct home_ops home_disk = {
	.suffix = ".raw",
	.check = disk_check,
	.make = disk_make,
	.attach = disk_attach,
	.limit = disk_limit,
	.look = disk_look,
	.copy = copy_file,
};
