/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Network namespaces by name, without `ip`. Making one leaves the calling
 * process where it was: a short-lived child unshares and its namespace is
 * opened through /proc before it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "confine/confine.h"

/* A file at which nothing is bound is no namespace. */
static int
open_bound(const char *path)
{
	struct statfs fs;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	return fd;
}

static int
raise_loopback(void)
{
	_cleanup_(closep)
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = { .ifr_name = "lo", .ifr_flags = IFF_UP };

	return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &req);
}

/* The child: its own namespace, tells so on the pipe, waits to be read. */
static _noreturn_ void
hold_netns(int ready_fd, int release_fd)
{
	char c = 0;
	ssize_t n _unused_;

	if (unshare(CLONE_NEWNET) < 0 || raise_loopback() < 0)
		_exit(errno == 0 ? 1 : errno & 127);
	n = write(ready_fd, &c, 1);
	n = read(release_fd, &c, 1);
	_exit(0);
}

static int
make_netns(int *ret_fd, struct err *err)
{
	char path[64], c;
	int ready[2], release[2], status, fd = -1;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	if (pipe2(release, O_CLOEXEC) < 0) {
		close(ready[0]);
		close(ready[1]);
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	}
	pid = fork();
	if (pid == 0) {
		close(release[1]);
		hold_netns(ready[1], release[0]);
	}
	close(ready[1]);
	close(release[0]);
	if (pid > 0 && read(ready[0], &c, 1) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	close(ready[0]);
	close(release[1]);
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (fd < 0)
		return err_set(err, ERR_SYSTEM,
		    "make a network namespace: not allowed, or out of "
		    "resources; the helper must run as root");
	*ret_fd = fd;
	return 0;
}

static int
bind_netns(int fd, const char *path, struct err *err)
{
	char self[64];
	int file = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);

	if (file < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	close(file);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (mount(self, path, NULL, MS_BIND, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "bind the network namespace at %s", path);
	return 0;
}

int
netns_open(
    const char *name, const char *bind_path, int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	char path[128];
	int r;

	if (!str_is_name(name, 64))
		return err_set(err, ERR_CONFIG,
		    "[node] netns '%.64s' is not a name", name);
	snprintf(path, sizeof(path), "/run/netns/%s", name);
	if ((fd = open_bound(path)) < 0)
		fd = open_bound(bind_path);
	if (fd < 0) {
		if ((r = make_netns(&fd, err)) < 0 ||
		    (r = bind_netns(fd, bind_path, err)) < 0)
			return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int
netns_self(int *ret_fd, struct err *err)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "open own network namespace");
	*ret_fd = fd;
	return 0;
}

int
netns_enter(int fd, struct err *err)
{
	if (setns(fd, CLONE_NEWNET) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "enter the network namespace");
	return 0;
}
