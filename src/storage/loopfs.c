/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/loopfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/tool.h"

#define MB          (INT64_C(1) << 20)
#define BLOCK       4096
#define LOOP_TRIES  64 /* others take devices, too */
#define LOOP_MAJOR  7
#define ROOM_MIN_MB 64 /* below it none is begun */

/* linux/ext4.h is not installed (fs/ext4/ext4.h of the kernel). */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

enum { MKFS, FSCK, RESIZE, TOOLS };
static const struct {
	const char *name;
	const char *paths[3];
} tools[TOOLS] = {
	[MKFS] = { "mkfs.ext4",
	    { "/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4", NULL } },
	[FSCK] = { "e2fsck", { "/sbin/e2fsck", "/usr/sbin/e2fsck", NULL } },
	[RESIZE] = { "resize2fs",
	    { "/sbin/resize2fs", "/usr/sbin/resize2fs", NULL } },
};

/* What we need of the superblock (linux/ext4.h is not installed). */
#define SUPER_AT     1024
#define SUPER_BYTES  0x154
#define BLOCKS_LO    0x04
#define MAGIC        0x38
#define STATE        0x3a
#define BLOCKS_HI    0x150
#define MAGIC_EXT4   0xef53
#define STATE_BROKEN 2

int
loopfs_check(struct err *err)
{
	int i;

	for (i = 0; i < TOOLS; i++)
		if (tool_find(tools[i].paths) == NULL)
			return err_set(err, ERR_CONFIG,
			    "file systems in files need %s, which is not "
			    "installed (package e2fsprogs)",
			    tools[i].name);
	if (access("/dev/loop-control", R_OK | W_OK) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "file systems in files need loop devices, and "
		    "/dev/loop-control can't be used ('modprobe loop')");
	return 0;
}

int
loopfs_check_room(const char *dir, struct err *err)
{
	struct statvfs fs;
	int64_t mb;

	if (statvfs(dir, &fs) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", dir);
	mb = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize / MB;
	if (mb < ROOM_MIN_MB)
		return err_set(err, ERR_NO_SPACE,
		    "the node's disk has %lld MiB left (%s), and no new file "
		    "system or volume is begun with less than %d",
		    (long long)mb, dir, ROOM_MIN_MB);
	return 0;
}

/* The journal counts as used space on the node's disk: small. */
static int
make_fs(const char *path, int64_t size_mb, struct err *err)
{
	const char *argv[] = { tool_find(tools[MKFS].paths), "-q", "-F", "-b",
		"4096", "-m", "0", "-J", size_mb >= 1024 ? "size=32" : "size=4",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", path,
		NULL };

	return tool_run(argv, 0, err);
}

int
loopfs_make(const char *path, int64_t size_mb, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrdup(path);
	_cleanup_(closep)
	int fd = -1;
	int r;

	*strrchr(dir, '/') = '\0';
	if ((r = loopfs_check_room(dir, err)) < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size_mb * MB) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	if ((r = make_fs(path, size_mb, err)) < 0)
		return r;
	if (fsync(fd) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", path);
	return 0;
}

/* Another process may take the device first. */
static int
try_loop(int control, int file, const char *path, char name[static 32])
{
	struct loop_config config = { .fd = (unsigned)file,
		.block_size = BLOCK,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO };
	_cleanup_(closep)
	int fd = -1;
	int n = ioctl(control, LOOP_CTL_GET_FREE);

	if (n < 0)
		return -errno;
	snprintf(name, 32, "/dev/loop%d", n);
	str_copy((char *)config.info.lo_file_name, LO_NAME_SIZE, path);
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return ioctl(fd, LOOP_CONFIGURE, &config) < 0 ? -errno : take_fd(&fd);
}

static int
open_loop(const char *path, int *ret_fd, char name[static 32], struct err *err)
{
	_cleanup_(closep)
	int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_(closep)
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int i, fd = -EBUSY;

	if (file < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	if (control < 0)
		return err_errno(
		    err, ERR_CONFIG, errno, "open /dev/loop-control");
	for (i = 0; i < LOOP_TRIES && fd == -EBUSY; i++)
		fd = try_loop(control, file, path, name);
	if (fd < 0)
		return err_errno(
		    err, ERR_SYSTEM, -fd, "set up a loop device for %s", path);
	*ret_fd = fd;
	return 0;
}

static uint32_t
le(const unsigned char *p, int bytes)
{
	uint32_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

/* Of the file system itself; the file may be larger already. */
static int
read_super(const char *path, int64_t *ret_mb, bool *ret_broken, struct err *err)
{
	unsigned char super[SUPER_BYTES];
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint64_t blocks;

	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	if (pread(fd, super, sizeof(super), SUPER_AT) !=
		(ssize_t)sizeof(super) ||
	    le(super + MAGIC, 2) != MAGIC_EXT4)
		return err_set(err, ERR_SYSTEM,
		    "%s is no ext4 file system any more; if it is a home, "
		    "restore a snapshot ('qvd home restore')",
		    path);
	blocks =
	    (uint64_t)le(super + BLOCKS_HI, 4) << 32 | le(super + BLOCKS_LO, 4);
	*ret_mb = (int64_t)(blocks * BLOCK) / MB;
	*ret_broken = (le(super + STATE, 2) & STATE_BROKEN) != 0;
	return 0;
}

static int
repair(const char *path, struct err *err)
{
	const char *argv[] = { tool_find(tools[FSCK].paths), "-f", "-p", path,
		NULL };

	return tool_run(argv, 1, err);
}

int
loopfs_mount(const char *path, const char *target, struct err *err)
{
	_cleanup_(freep)
	char *found = xasprintf("%s/lost+found", target);
	_cleanup_(closep)
	int loop = -1;
	char name[32];
	bool broken;
	int64_t mb;
	int r;

	if ((r = read_super(path, &mb, &broken, err)) < 0 ||
	    (broken && (r = repair(path, err)) < 0) ||
	    (r = open_loop(path, &loop, name, err)) < 0)
		return r;
	/* noinit_itable: zeroes are what a sparse file has anyway. */
	if (mount(name, target, "ext4", MS_NODEV | MS_NOSUID,
		"discard,noinit_itable,errors=remount-ro") < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "mount %s (if its file system is damaged: "
		    "e2fsck -f %s)",
		    path, path);
	rmdir(found); /* e2fsck makes it when it needs it */
	return 0;
}

/* The mounted volume's own device, which the file backs. */
static int
grow_loop(const struct stat *st, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	char name[32];

	snprintf(name, sizeof(name), "/dev/loop%u", minor(st->st_dev));
	fd = major(st->st_dev) == LOOP_MAJOR ? open(name, O_RDWR | O_CLOEXEC)
					     : -1;
	if (fd < 0 || ioctl(fd, LOOP_SET_CAPACITY) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "enlarge %s", name);
	return 0;
}

static int
grow_mounted(const char *path, int fd, int64_t size_mb, struct err *err)
{
	uint64_t blocks = (uint64_t)(size_mb * MB / BLOCK);
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	if ((r = grow_loop(&st, err)) < 0)
		return r;
	if (ioctl(fd, EXT4_IOC_RESIZE_FS, &blocks) == 0)
		return 0;
	if (errno == EPERM)
		return err_set(err, ERR_CONFIG,
		    "a home can grow while its VM runs only if qvd-hkd has "
		    "CAP_SYS_RESOURCE, which this node's root lacks; it grows "
		    "when the VM starts the next time");
	return err_errno(err, ERR_SYSTEM, errno,
	    "enlarge the file system in %s to %lld MiB", path,
	    (long long)size_mb);
}

static int
grow_unmounted(const char *path, struct err *err)
{
	const char *argv[] = { tool_find(tools[RESIZE].paths), path, NULL };
	int r = repair(path, err);

	return r < 0 ? r : tool_run(argv, 0, err);
}

int
loopfs_grow(const char *path, int fd, int64_t size_mb, struct err *err)
{
	if (truncate(path, size_mb * MB) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "enlarge %s", path);
	return fd >= 0 ? grow_mounted(path, fd, size_mb, err)
		       : grow_unmounted(path, err);
}

int
loopfs_size(const char *path, int64_t *ret_mb, struct err *err)
{
	bool broken;

	return read_super(path, ret_mb, &broken, err);
}
