/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Three disks, known by their serials: `image` (EROFS, read-only), `root`
 * (ext4 with the VM's own changes) and `home` (ext4). The node has formatted
 * the two that are written, and may have made them larger since.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "boot/boot.h"

#define TRIES     300 /* for a disk to appear, every TRY_US */
#define TRY_US    100000
#define DISK_NAME 64

/* linux/ext4.h is not installed (fs/ext4/ext4.h of the kernel). */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

static bool
has_serial(const char *disk, const char *serial)
{
	char path[300], text[32] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/block/%s/serial", disk);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, serial) == 0;
}

static bool
look_for_disk(const char *serial, char ret[static DISK_NAME])
{
	DIR *dir = opendir("/sys/block");
	const struct dirent *e;
	bool found = false;

	while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
		found =
		    has_serial(e->d_name, serial) &&
		    snprintf(ret, DISK_NAME, "/dev/%s", e->d_name) < DISK_NAME;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

/* Drivers find their devices while we go on. */
static void
find_disk(const char *serial, char ret[static DISK_NAME])
{
	int i;

	for (i = 0; i < TRIES; i++) {
		if (look_for_disk(serial, ret))
			return;
		usleep(TRY_US);
	}
	boot_say("the machine has no disk '%s', or the image's kernel has no "
		 "driver for it (virtio_blk)",
	    serial);
	errno = ENODEV;
	boot_fail(serial);
}

static void
make_dir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		boot_fail(path);
}

static void
mount_at(const char *from, const char *at, const char *fs, unsigned long flags,
    const char *options)
{
	if (mount(from, at, fs, flags, options) < 0) {
		boot_say("mount %s at %s (%s)", from, at, fs);
		boot_fail("mount");
	}
}

/* A disk that its node has made larger. */
static void
grow(const char *device, const char *at)
{
	int disk = open(device, O_RDONLY | O_CLOEXEC);
	int dir = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t bytes = 0, blocks;
	struct statfs fs;

	if (disk < 0 || dir < 0 || ioctl(disk, BLKGETSIZE64, &bytes) < 0 ||
	    fstatfs(dir, &fs) < 0)
		boot_fail(device);
	blocks = bytes / (uint64_t)fs.f_bsize;
	/* The size it has already is no error. */
	if (ioctl(dir, EXT4_IOC_RESIZE_FS, &blocks) < 0)
		boot_say("grow %s: %s", at, strerror(errno));
	close(disk);
	close(dir);
}

static void
mount_disk(const char *serial, const char *at, unsigned long flags)
{
	char device[DISK_NAME];

	find_disk(serial, device);
	mount_at(device, at, "ext4", flags, NULL);
	grow(device, at);
}

static void
copy_agent(void)
{
	int from = open("/qvd-vma", O_RDONLY | O_CLOEXEC), to;
	off_t at = 0;
	struct stat st;
	ssize_t n;

	to = open(BOOT_ROOT BOOT_AGENT, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		boot_fail(BOOT_AGENT);
	while (at < st.st_size)
		if ((n = sendfile(to, from, &at, (size_t)(st.st_size - at))) <=
		    0)
			boot_fail(BOOT_AGENT);
	close(from);
	close(to);
	unlink("/qvd-vma");
}

static void
mount_image(void)
{
	char device[DISK_NAME];

	make_dir("/image", 0755);
	make_dir("/disk", 0755);
	make_dir(BOOT_ROOT, 0755);
	find_disk("image", device);
	mount_at(device, "/image", "erofs", MS_RDONLY, NULL);
}

/* Image and changes, as a container has them. */
static void
mount_root(void)
{
	mount_image();
	mount_disk("root", "/disk", 0);
	make_dir(BOOT_CHANGES, 0755);
	make_dir("/disk/work", 0700);
	mount_at("overlay", BOOT_ROOT, "overlay", 0,
	    "lowerdir=/image,upperdir=" BOOT_CHANGES ",workdir=/disk/work,"
	    "redirect_dir=on");
}

void
boot_show_changes(void)
{
	const unsigned long flags =
	    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	char device[DISK_NAME];

	mount_image();
	find_disk("root", device);
	/* What its journal has is written first, as by the next start. */
	mount_at(device, "/disk", "ext4", flags, NULL);
	mount_at("overlay", BOOT_ROOT, "overlay", flags,
	    "lowerdir=" BOOT_CHANGES ":/image,redirect_dir=follow");
}

int
boot_open_disk(const char *serial)
{
	char device[DISK_NAME];
	int fd;

	find_disk(serial, device);
	fd = open(device, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		boot_fail(device);
	return fd;
}

void
boot_make_root(void)
{
	mount_root();
	make_dir(BOOT_ROOT "/home", 0755);
	mount_disk("home", BOOT_ROOT "/home", MS_NOSUID | MS_NODEV);
	make_dir(BOOT_ROOT "/dev", 0755);
	mount_at("devtmpfs", BOOT_ROOT "/dev", "devtmpfs", MS_NOSUID, NULL);
	make_dir(BOOT_ROOT "/dev/pts", 0755);
	mount_at("devpts", BOOT_ROOT "/dev/pts", "devpts", MS_NOSUID,
	    "gid=5,mode=620,ptmxmode=666");
	make_dir(BOOT_ROOT "/sys", 0755);
	mount_at(
	    "sysfs", BOOT_ROOT "/sys", "sysfs", MS_NOSUID | MS_NODEV, NULL);
	make_dir(BOOT_ROOT "/proc", 0755);
	make_dir(BOOT_ROOT "/run", 0755);
	mount_at("tmpfs", BOOT_ROOT "/run", "tmpfs", MS_NOSUID | MS_NODEV,
	    "mode=755,size=64m");
	make_dir(BOOT_ROOT "/run/qvd", 0700);
	make_dir(BOOT_ROOT "/usr", 0755);
	make_dir(BOOT_ROOT "/usr/lib", 0755);
	make_dir(BOOT_ROOT "/usr/lib/qvd", 0755);
	/* The node's own version of the agent, no part of the changes. */
	mount_at(
	    "qvd", BOOT_ROOT "/usr/lib/qvd", "tmpfs", MS_NODEV, "mode=755");
	copy_agent();
}

void
boot_enter_root(void)
{
	unlink("/init");
	if (chdir(BOOT_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
	    chroot(".") < 0 || chdir("/") < 0)
		boot_fail("enter the root file system");
}
