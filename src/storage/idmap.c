/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Namespaces of mounts and of ids, and idmapped mounts. A user namespace exists
 * only through a process or a descriptor: a child makes it, the parent writes
 * its maps and opens it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "storage/storage.h"

static int
write_map(pid_t pid, const char *file, uid_t id_base)
{
	_cleanup_(closep)
	int fd = -1;
	char path[64], map[64];
	int n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	n = snprintf(map, sizeof(map), "0 %u %u\n", (unsigned)id_base,
	    (unsigned)STORAGE_ID_COUNT);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, map, (size_t)n) == n ? 0 : -1;
}

/* Runs in the memory of its parent, on a stack of its own. */
static int
hold_userns(void *arg)
{
	while (pause() < 0)
		;
	return 0;
}

/*
 * Its process shares our memory: copying the page tables of a process costs
 * more than all the rest, and it only has to be there.
 */
int
storage_userns(uid_t id_base, int *ret_fd, struct err *err)
{
	_Alignas(16) char stack[16 * 1024];
	int fd = -1, errnum;
	char path[64];
	pid_t pid;

	pid = clone(hold_userns, stack + sizeof(stack),
	    CLONE_VM | CLONE_NEWUSER | SIGCHLD, NULL);
	if (pid > 0 && write_map(pid, "uid_map", id_base) == 0 &&
	    write_map(pid, "gid_map", id_base) == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	errnum = errno;
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errnum,
		    "make a user namespace for ids from %u", (unsigned)id_base);
	*ret_fd = fd;
	return 0;
}

int
storage_namespace(const char *mnt_dir, struct err *err)
{
	int r;

	/* Slave, not private: what the node unmounts later goes here too. */
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make a mount namespace");
	if ((r = fs_mkdirs(mnt_dir, 0755, err)) < 0)
		return r;
	if (mount("qvd", mnt_dir, "tmpfs", MS_NOSUID | MS_NODEV,
		"size=1m,mode=0755") < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "mount a tmpfs at %s", mnt_dir);
	return 0;
}

int
storage_mount_idmapped(const char *source, const char *target, int userns_fd,
    uint64_t attrs, struct err *err)
{
	_cleanup_(closep)
	int tree = -1;
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_IDMAP | attrs,
		.userns_fd = (uint64_t)userns_fd,
	};

	tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", source);
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "map the ids of '%s' (its file system must support "
		    "idmapped mounts: ext4, XFS, btrfs)",
		    source);
	if (move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount '%s'", source);
	return 0;
}

int
storage_check_writable(const char *path, struct err *err)
{
	struct statvfs fs;

	if (statvfs(path, &fs) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at '%s'", path);
	if ((fs.f_flag & ST_RDONLY) != 0)
		return err_set(err, ERR_SYSTEM,
		    "the root file system came up read-only; the kernel's log "
		    "says why (overlayfs needs a disk with xattrs and "
		    "d_type)");
	return 0;
}
