/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Disks of virtual machines. An image of one is a tree with a single disk,
 * disk.qcow2 or disk.raw, below which nothing lies, or a tree of files of
 * which a disk was made (machine.h). A VM's root is what it has changed: a
 * qcow2 file with blocks, or of a tree a file system with files:
 *
 *	<data>/vms/<id>/<commit>/root.qcow2	or volatile/root.qcow2
 *	                         root.raw	of a tree: ext4, sparse
 *	<data>/homes/<id>.raw			sparse, grows with home_mb
 *
 * Who opens them says which format each has and what lies below: what a
 * guest, or a QEMU that was taken over, writes into a header is never
 * believed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/disk.h"
#include "storage/fill.h"
#include "storage/machine.h"
#include "storage/qcow2.h"
#include "storage/tool.h"

#define SECTOR       512
#define BYTES_MAX    (INT64_C(64) << 40)
#define HOME_DEFAULT (INT64_C(16) << 30) /* sparse */
#define ROOT_DEFAULT (INT64_C(16) << 30) /* of a tree; sparse */

static const char qemu_img[] = "/usr/bin/qemu-img";
static const char *const formats[] = { "qcow2", "raw" };
static const char *const mkfs[] = { "/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4",
	NULL };

static int
read_qcow2(int fd, const char *path, struct qcow2_head *ret, struct err *err)
{
	struct qcow2_head h = { .magic = "" };
	uint64_t size;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) ||
	    memcmp(h.magic, QCOW2_MAGIC, 4) != 0)
		return err_set(err, ERR_IMAGE, "'%s' is no qcow2 file", path);
	if (h.backing_offset != 0)
		return err_set(err, ERR_IMAGE,
		    "'%s' has a backing file, and a node can have only what "
		    "is in the image: flatten it ('qemu-img convert -O qcow2')",
		    path);
	if (be32toh(h.version) >= 3 &&
	    (be64toh(h.incompatible) & QCOW2_DATAFILE) != 0)
		return err_set(err, ERR_IMAGE,
		    "'%s' has its contents in another file: convert it "
		    "('qemu-img convert -O qcow2')",
		    path);
	if (h.crypt_method != 0)
		return err_set(err, ERR_IMAGE,
		    "'%s' is encrypted, and nobody has the key", path);
	size = be64toh(h.size);
	if (size == 0 || size > (uint64_t)BYTES_MAX)
		return err_set(err, ERR_IMAGE,
		    "'%s' is a disk of %llu bytes, and at most 64 TiB can be "
		    "used",
		    path, (unsigned long long)size);
	*ret = h;
	return 0;
}

bool
storage_disk_is(const char *tree)
{
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/disk.%s", tree, formats[i]);

		if (lstat(path, &st) == 0)
			return true;
	}
	return false;
}

int
storage_disk_open(const char *tree, struct storage_disk *ret, struct err *err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/disk.%s", tree, formats[i]);
		_cleanup_(closep)
		/* It may be a pipe that nobody writes to. */
		int fd =
		    open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		struct qcow2_head head;
		struct stat st;
		int r;

		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || fstat(fd, &st) < 0)
			return err_errno(
			    err, ERR_IMAGE, errno, "open '%s'", path);
		ret->bytes = (int64_t)st.st_size;
		if (!S_ISREG(st.st_mode) || st.st_size < SECTOR)
			return err_set(err, ERR_IMAGE, "'%s' is no disk", path);
		if (i == 0 && (r = read_qcow2(fd, path, &head, err)) < 0)
			return r;
		if (i == 0)
			ret->bytes = (int64_t)be64toh(head.size);
		ret->format = formats[i];
		ret->fd = take_fd(&fd);
		return 0;
	}
	return err_set(err, ERR_IMAGE,
	    "the image has no disk of a virtual machine: a file disk.qcow2 or "
	    "disk.raw is needed at its top");
}

int
storage_disk_file(const char *path, const char **ret_format, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char magic[4] = "";
	struct qcow2_head head;
	struct stat st;
	int r;

	*ret_format = NULL;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_NOT_FOUND, errno, "open '%s'", path);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    memcmp(magic, QCOW2_MAGIC, sizeof(magic)) == 0) {
		*ret_format = "qcow2";
		r = read_qcow2(fd, path, &head, err);
		return r < 0 ? r
			     : qcow2_check(
				   fd, path, (uint64_t)st.st_size, &head, err);
	}
	if (str_ends(path, ".qcow2"))
		return err_set(err, ERR_IMAGE, "'%s' is no qcow2 file", path);
	if (!str_ends(path, ".raw") && !str_ends(path, ".img") &&
	    !str_ends(path, ".iso"))
		return 0;
	if (st.st_size < SECTOR || st.st_size % SECTOR != 0)
		return err_set(err, ERR_IMAGE,
		    "'%s' is no disk: %lld bytes are no whole sectors of %d",
		    path, (long long)st.st_size, SECTOR);
	*ret_format = "raw";
	return 0;
}

int
storage_disk_convert(
    const char *raw, const char *to, void (*tell)(int percent), struct err *err)
{
	/* The format is said: nothing in the file is taken for a header. */
	const char *const argv[] = { qemu_img, "convert", "-p", "-f", "raw",
		"-O", "qcow2", raw, to, NULL };

	if (access(qemu_img, X_OK) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "%s (disks of virtual machines need the package "
		    "qemu-utils)",
		    qemu_img);
	return tool_run_telling(argv, 0, tell, err);
}

int
storage_disk_open_tree(
    const struct storage_disk_vm *vm, struct storage_disk *ret, struct err *err)
{
	_cleanup_(freep)
	char *dir = storage_machine_dir(vm->data_dir, vm->checksum);
	_cleanup_(freep)
	char *path = xasprintf("%s/root.erofs", dir);
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return err_set(err, ERR_IMAGE,
		    "no disk of a virtual machine was made of the image: it "
		    "needs a kernel (boot/vmlinuz-*) with its modules, or be "
		    "a disk (disk.qcow2 or disk.raw at its top)");
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_IMAGE, errno, "open '%s'", path);
	ret->format = "raw";
	ret->bytes = (int64_t)st.st_size;
	ret->fd = take_fd(&fd);
	return 0;
}

char *
storage_disk_dir(const struct storage_disk_vm *vm)
{
	return xasprintf("%s/vms/%lld/%s", vm->data_dir, (long long)vm->vm_id,
	    vm->is_volatile ? "volatile" : vm->checksum);
}

static int
open_owned(const char *path, uid_t uid, int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fchown(fd, uid, uid) < 0 || fchmod(fd, 0600) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Made under another name: one that is there is complete. */
static int
make_root(const char *path, const struct storage_disk_vm *vm,
    const struct storage_disk *base, struct err *err)
{
	_cleanup_(freep)
	char *tmp = xasprintf("%s.new", path);
	_cleanup_(freep)
	char *below = xasprintf("%s/images/trees/%s/disk.%s", vm->data_dir,
	    vm->checksum, base->format);
	char size[24];
	const char *const argv[] = { qemu_img, "create", "-q", "-f", "qcow2",
		"-u", "-b", below, "-F", base->format, tmp, size, NULL };
	int r;

	if (access(qemu_img, X_OK) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "%s (virtual machines need the package qemu-utils)",
		    qemu_img);
	snprintf(size, sizeof(size), "%lld", (long long)base->bytes);
	if ((r = tool_run(argv, 0, err)) < 0)
		return r;
	if (rename(tmp, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "rename '%s'", tmp);
	return 0;
}

/* A sparse file with an empty file system, complete or not there. Whoever
 * used it once has written what it liked: nobody here reads it again. */
static int
make_ext4(const char *path, int64_t bytes, struct err *err)
{
	_cleanup_(freep)
	char *tmp = xasprintf("%s.new", path);
	const char *const argv[] = { tool_find(mkfs), "-q", "-F", "-m", "0",
		"-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", tmp,
		NULL };
	_cleanup_(closep)
	int fd = open(
	    tmp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (argv[0] == NULL)
		return err_set(err, ERR_CONFIG,
		    "no program mkfs.ext4 is there (package e2fsprogs)");
	if (fd < 0 || ftruncate(fd, bytes) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make '%s'", tmp);
	if ((r = tool_run(argv, 0, err)) < 0)
		return r;
	if (fsync(fd) < 0 || rename(tmp, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "keep '%s'", path);
	return 0;
}

static int64_t
root_bytes(const struct storage_disk_vm *vm)
{
	return vm->root_mb > 0 ? (int64_t)vm->root_mb << 20 : ROOT_DEFAULT;
}

/* What would be cut off may hold files. */
static int
grow(int fd, const char *path, int64_t bytes, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0 ||
	    (st.st_size < bytes && ftruncate(fd, bytes) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "grow '%s'", path);
	return 0;
}

static char *
root_path(const struct storage_disk_vm *vm, const char *dir)
{
	return xasprintf("%s/root.%s", dir, vm->of_tree ? "raw" : "qcow2");
}

bool
storage_disk_has_root(const struct storage_disk_vm *vm)
{
	_cleanup_(freep)
	char *dir = storage_disk_dir(vm);
	_cleanup_(freep)
	char *path = root_path(vm, dir);

	return fs_exists(path);
}

int
storage_disk_scratch(const struct storage_disk_vm *vm, int64_t bytes,
    uint64_t need, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *dir = storage_disk_dir(vm);
	_cleanup_(closep)
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct statvfs fs;

	if (fd < 0 || fstatvfs(fd, &fs) < 0 || ftruncate(fd, bytes) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make a file in '%s'", dir);
	if (need > (uint64_t)fs.f_bavail * fs.f_frsize)
		return err_set(err, ERR_NO_SPACE,
		    "what it has changed needs %llu MB beside it on this "
		    "node's disk, which has %llu MB free; make room (qvd "
		    "image gc --dry-run)",
		    (unsigned long long)need / 1000000,
		    (unsigned long long)fs.f_bavail * fs.f_frsize / 1000000);
	*ret_fd = take_fd(&fd);
	return 0;
}

int
storage_disk_root(const struct storage_disk_vm *vm,
    const struct storage_disk *base, struct storage_disk *ret, struct err *err)
{
	_cleanup_(freep)
	char *dir = storage_disk_dir(vm);
	_cleanup_(freep)
	char *path = root_path(vm, dir);
	struct stat st;
	int r;

	if (vm->is_volatile && (r = fs_remove_tree(dir, err)) < 0)
		return r;
	if ((r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	if (!fs_exists(path) &&
	    (r = vm->of_tree ? make_ext4(path, root_bytes(vm), err)
			     : make_root(path, vm, base, err)) < 0)
		return err_wrap(err, r, "make the VM's disk");
	/* When it was last used; see storage_root_collect(). */
	if (utimensat(AT_FDCWD, dir, NULL, 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "touch %s", dir);
	ret->format = vm->of_tree ? "raw" : "qcow2";
	ret->bytes = vm->of_tree ? root_bytes(vm) : base->bytes;
	if ((r = open_owned(path, vm->uid, &ret->fd, err)) < 0 || !vm->of_tree)
		return r;
	if (vm->root_mb >= 0)
		return grow(ret->fd, path, ret->bytes, err);
	if (fstat(ret->fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at '%s'", path);
	ret->bytes = (int64_t)st.st_size;
	return 0;
}

static char *
home_path(const struct storage_disk_vm *vm)
{
	return xasprintf(
	    "%s/homes/%lld.raw", vm->data_dir, (long long)vm->vm_id);
}

int
storage_disk_home(
    const struct storage_disk_vm *vm, struct storage_disk *ret, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/homes", vm->data_dir);
	_cleanup_(freep)
	char *path = home_path(vm);
	int64_t bytes =
	    vm->home_mb > 0 ? (int64_t)vm->home_mb << 20 : HOME_DEFAULT;
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if ((r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	if (vm->of_tree && !fs_exists(path) &&
	    (r = make_ext4(path, bytes, err)) < 0)
		return err_wrap(err, r, "make the VM's home");
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", path);
	if ((r = grow(fd, path, bytes, err)) < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at '%s'", path);
	ret->format = "raw";
	ret->bytes = (int64_t)st.st_size;
	return open_owned(path, vm->uid, &ret->fd, err);
}

/* Of the blocks of a layer over an image's disk nobody can tell which are its
 * own files'. */
int
storage_disk_fill(const struct storage_disk_vm *vm,
    struct fill_facts *ret_system, struct fill_facts *ret_home, struct err *err)
{
	_cleanup_(freep)
	char *dir = storage_disk_dir(vm);
	_cleanup_(freep)
	char *root = root_path(vm, dir);
	_cleanup_(freep)
	char *home = home_path(vm);
	int r;

	*ret_system = (struct fill_facts){ 0 };
	if (vm->of_tree && (r = fill_of_disk(root, ret_system, err)) < 0)
		return r;
	return fill_of_disk(home, ret_home, err);
}
