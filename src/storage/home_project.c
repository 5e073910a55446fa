/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Homes as directories with a project quota (ext4, XFS): the project's
 * number is the VM's id, and what is made in the home inherits it. A desktop
 * can't change it (only the node's own user namespace can), and its df shows
 * the limit. By quotactl_fd(2), which takes XFS's quotas, too.
 *
 * After Documentation/filesystems/quota.rst and quotactl(2). The quota itself
 * is tested on ext4 in the emulated machine (tests/vm/test_kernel.py), for
 * kernels that run the other tests may have none; XFS was not tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "storage/home_priv.h"

#define KB_PER_MB INT64_C(1024)

static int
quota(int fd, int cmd, int64_t project, struct if_dqblk *block)
{
	/* QCMD() shifts its first argument out of a signed one's range. */
	return (int)syscall(SYS_quotactl_fd, fd, QCMD((unsigned)cmd, PRJQUOTA),
	    (int)project, block);
}

static int
open_dir(const char *path, int *ret_fd, struct err *err)
{
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret_fd < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "open '%s'", path)
		   : 0;
}

uint32_t
project_of(const char *path)
{
	_cleanup_(closep)
	int fd = -1;
	struct fsxattr attr;

	if (open_dir(path, &fd, NULL) < 0 ||
	    ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0)
		return 0;
	return attr.fsx_projid;
}

static int
project_check(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *homes = xasprintf("%s/homes", data_dir);
	struct if_dqblk block = { 0 };
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_dir(homes, &fd, err)) < 0)
		return r;
	if (quota(fd, Q_GETQUOTA, 0, &block) == 0)
		return 0;
	if (errno == ENOSYS || errno == EOPNOTSUPP)
		return err_set(err, ERR_CONFIG,
		    "the kernel of this node, or the file system of %s, has "
		    "no project quotas (ext4 and XFS have, with CONFIG_QUOTA "
		    "and CONFIG_QFMT_V2 or CONFIG_XFS_QUOTA)",
		    homes);
	if (errno == ESRCH)
		return err_set(err, ERR_CONFIG,
		    "project quotas are off on the file system of %s; mount it "
		    "with the option prjquota (ext4 needs 'tune2fs -O "
		    "project,quota' before)",
		    homes);
	return err_errno(
	    err, ERR_CONFIG, errno, "ask for the project quota of %s", homes);
}

static int
project_make(const struct home *h, const char *path, struct err *err)
{
	struct fsxattr attr;
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = home_directory_make(h, path, err)) < 0 ||
	    (r = open_dir(path, &fd, err)) < 0)
		return r;
	if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "read the project of %s", path);
	attr.fsx_projid = (uint32_t)h->vm_id;
	attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	if (ioctl(fd, FS_IOC_FSSETXATTR, &attr) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "make %s the project %lld", path, (long long)h->vm_id);
	return 0;
}

static int
project_limit(const char *path, int fd, const struct home *h, struct err *err)
{
	struct if_dqblk block = {
		.dqb_bhardlimit = (uint64_t)(h->size_mb * KB_PER_MB),
		.dqb_bsoftlimit = (uint64_t)(h->size_mb * KB_PER_MB),
		.dqb_valid = QIF_BLIMITS,
	};
	_cleanup_(closep)
	int dir = -1;
	int r;

	if ((r = open_dir(path, &dir, err)) < 0)
		return r;
	if (quota(dir, Q_SETQUOTA, h->vm_id, &block) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "set the quota of the project %lld (%s)",
		    (long long)h->vm_id, path);
	return 0;
}

static int
project_look(const char *path, int fd, const struct home *h,
    struct home_info *ret, struct err *err)
{
	struct if_dqblk block = { 0 };
	_cleanup_(closep)
	int dir = -1;
	int r;

	if ((r = open_dir(path, &dir, err)) < 0)
		return r;
	if (quota(dir, Q_GETQUOTA, h->vm_id, &block) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "read the quota of the project %lld (%s)",
		    (long long)h->vm_id, path);
	ret->size_mb = (int64_t)block.dqb_bhardlimit / KB_PER_MB;
	ret->used_mb = (int64_t)(block.dqb_curspace >> 20);
	return 0;
}

const struct home_ops home_project = {
	.suffix = "",
	.check = project_check,
	.make = project_make,
	.attach = home_directory_attach,
	.limit = project_limit,
	.look = project_look,
};
