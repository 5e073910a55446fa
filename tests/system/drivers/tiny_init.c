/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stands in for the agent in tests of a container's life: PID 1 that needs
 * nothing of its image, listens on /run/qvd/vma.sock, answers each connection
 * with one line, ends at TERM. The image's file /etc/tiny says otherwise by
 * its first word: "deaf" (no socket), "stubborn" (ignores TERM), "fifo",
 * "file", "link" (what is at vma.sock instead), "dead" (ends at once), "late"
 * (listens after a second), "run" (does what the rest says with /bin/sh).
 *
 * As /sbin/init it stands in for systemd: TERM means nothing, RTMIN+3 ends it.
 *
 * As "tiny_init subvolume DIR" it tries to make subvolumes of btrfs in DIR, in
 * every way that the kernel knows, and says how that went.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET "/run/qvd/vma.sock"

static void
on_term(int signum)
{
	_exit(0);
}

static void
on_halt(int signum)
{
	int fd = open("/home/halted", O_WRONLY | O_CREAT, 0644);

	_exit(fd < 0);
}

static void
on_child(int signum)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int
listen_there(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, SOCKET, sizeof(SOCKET));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    listen(fd, 16) < 0) {
		perror("listen on " SOCKET);
		exit(3);
	}
	return fd;
}

static void
serve(int fd)
{
	for (;;) {
		int c = accept(fd, NULL, NULL);
		char name[64] = "";

		if (c < 0)
			continue;
		gethostname(name, sizeof(name) - 1);
		dprintf(c, "tiny %s uid %d\n", name, (int)getuid());
		close(c);
	}
}

static int
odd_channel(const char *mode)
{
	int fd;

	if (strncmp(mode, "fifo", 4) == 0)
		return mkfifo(SOCKET, 0666);
	if (strncmp(mode, "link", 4) == 0)
		return symlink("/run/host.sock", SOCKET);
	fd = open(SOCKET, O_WRONLY | O_CREAT, 0666);
	return fd < 0 ? -1 : close(fd);
}

static void
wait_for_ever(void)
{
	for (;;)
		pause();
}

static void
try_ioctl(const char *dir, const char *what, unsigned long request)
{
	/* The kernel ignores the upper half of a request. */
	const unsigned long dress = 1UL << 40;
	struct btrfs_ioctl_vol_args_v2 args = { .name = "" };
	int fd = open(dir, O_RDONLY | O_DIRECTORY), i;

	args.fd = fd;
	for (i = 0; i < 2; i++) {
		long r = syscall(
		    SYS_ioctl, fd, request | (i == 0 ? 0 : dress), &args);

		printf("%s %s\n", what, r == 0 ? "done" : strerror(errno));
	}
	close(fd);
}

static int
try_subvolumes(const char *dir)
{
	try_ioctl(dir, "create", BTRFS_IOC_SUBVOL_CREATE);
	try_ioctl(dir, "create2", BTRFS_IOC_SUBVOL_CREATE_V2);
	try_ioctl(dir, "snapshot", BTRFS_IOC_SNAP_CREATE);
	try_ioctl(dir, "snapshot2", BTRFS_IOC_SNAP_CREATE_V2);
	try_ioctl(dir, "terminal", TCGETS); /* others do get through */
	return 0;
}

int
main(int argc, char **argv)
{
	char mode[4096] = "";
	int fd = open("/etc/tiny", O_RDONLY), n;

	if (argc == 3)
		return try_subvolumes(argv[2]);
	if (fd >= 0) {
		n = (int)read(fd, mode, sizeof(mode) - 1);
		mode[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	if (strcmp(argv[0], "/sbin/init") == 0) {
		signal(SIGTERM, SIG_IGN);
		signal(SIGRTMIN + 3, on_halt);
	} else {
		signal(SIGTERM,
		    strncmp(mode, "stubborn", 8) == 0 ? SIG_IGN : on_term);
	}
	signal(SIGCHLD, on_child);
	printf("tiny init: %.20s\n", mode);
	fflush(stdout);
	if (strncmp(mode, "dead", 4) == 0)
		return 7;
	if (strncmp(mode, "deaf", 4) == 0)
		wait_for_ever();
	if (strncmp(mode, "fifo", 4) == 0 || strncmp(mode, "link", 4) == 0 ||
	    strncmp(mode, "file", 4) == 0) {
		odd_channel(mode);
		wait_for_ever();
	}
	if (strncmp(mode, "late", 4) == 0)
		sleep(1);
	if (strncmp(mode, "run ", 4) == 0 && fork() == 0) {
		execl("/bin/sh", "sh", "-c", mode + 4, NULL);
		_exit(127);
	}
	serve(listen_there());
	return 0;
}
