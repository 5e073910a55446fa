/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How full a volume is, by the limit that it has. Reads what the kernel has
 * at hand, and waits for no disk: it is asked for every VM of a node, again
 * and again. */
#include "storage/fill.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#define KB INT64_C(1024)

/* As df reckons: what only root may use is nobody's. */
static void
take(const struct statvfs *fs, struct fill_facts *ret)
{
	int64_t used = (int64_t)(fs->f_blocks - fs->f_bfree);

	*ret = (struct fill_facts){ 0 };
	ret->used_kb = used * (int64_t)fs->f_frsize / KB;
	ret->size_kb =
	    (used + (int64_t)fs->f_bavail) * (int64_t)fs->f_frsize / KB;
	if (fs->f_files > 0)
		ret->files_permille = (int64_t)(fs->f_files - fs->f_ffree) *
				      1000 / (int64_t)fs->f_files;
}

int
fill_of_file_system(const char *path, struct fill_facts *ret, struct err *err)
{
	struct statvfs fs;

	if (statvfs(path, &fs) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	take(&fs, ret);
	return 0;
}

/* The limit of a subvolume is its qgroup's. */
static int
fill_of_subvolume(
    int fd, enum btrfs_count count, struct fill_facts *ret, struct err *err)
{
	uint64_t limit;
	int64_t used;
	int r = btrfs_usage_lately(fd, count, &limit, &used, err);

	*ret = (struct fill_facts){ 0 };
	if (r < 0)
		return r;
	if (used >= 0) {
		ret->used_kb = used / KB;
		ret->size_kb = (int64_t)(limit / (uint64_t)KB);
	}
	return 0;
}

int
fill_of_volume(const char *data_dir, int fd, enum btrfs_count count,
    struct fill_facts *ret, struct err *err)
{
	struct statvfs fs, data;
	struct stat st, data_st;
	struct statfs kind;

	if (fstatfs(fd, &kind) < 0 || fstatvfs(fd, &fs) < 0 ||
	    fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at a volume");
	if (kind.f_type == BTRFS_SUPER_MAGIC)
		return fill_of_subvolume(fd, count, ret, err);
	*ret = (struct fill_facts){ 0 };
	if (statvfs(data_dir, &data) < 0 || stat(data_dir, &data_st) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "look at %s", data_dir);
	/* Of a directory with a project quota the kernel tells the quota; of
	 * one without a limit, the disk that all share. */
	if (st.st_dev != data_st.st_dev || fs.f_blocks != data.f_blocks)
		take(&fs, ret);
	return 0;
}

int
fill_of_disk(const char *path, struct fill_facts *ret, struct err *err)
{
	struct stat st;

	*ret = (struct fill_facts){ 0 };
	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0
				       : err_errno(err, ERR_SYSTEM, errno,
					     "look at %s", path);
	ret->used_kb = (int64_t)st.st_blocks * 512 / KB;
	ret->size_kb = (int64_t)st.st_size / KB;
	if (ret->used_kb > ret->size_kb)
		ret->used_kb = ret->size_kb; /* blocks of its own map */
	return 0;
}
