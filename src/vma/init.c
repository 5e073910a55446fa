/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <linux/magic.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vma/task.h"

#define END_GRACE_MS 2000
#define RETRY_MS     10

struct init {
	struct vma *vma;
	struct sigwatch sigchld;
	struct timer again;
	struct timer grace;
	bool killed;
	void (*done)(void *arg);
	void *arg;
};
static struct init init; /* there is one process 1 */

static bool
is_tmpfs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static void
complain(const char *what)
{
	log_warn("%s: %s", what, strerror(errno));
}

/* A directory of root's with exactly this mode. */
static void
make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST) {
		complain(path);
		return;
	}
	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	    (st.st_mode & 07777) != mode && chmod(path, mode) < 0)
		complain(path);
}

/* A fresh /run, so that no pid file of the last run survives; the node's
 * channel, mounted below it, comes along. */
static void
mount_run(void)
{
	_cleanup_(closep)
	int channel =
	    open("/run/qvd", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char self[64];

	if (is_tmpfs("/run"))
		return;
	if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV,
		"mode=755,size=64m") < 0) {
		complain("mount /run");
		return;
	}
	if (channel < 0)
		return;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", channel);
	if (mkdir("/run/qvd", 0700) < 0 ||
	    mount(self, "/run/qvd", NULL, MS_BIND | MS_REC, NULL) < 0) {
		complain("keep /run/qvd");
		umount2("/run", MNT_DETACH);
	}
}

/* What X servers of the last run left behind; /tmp may be on disk. */
static void
clean_tmp(void)
{
	DIR *dir = opendir("/tmp");
	const struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (str_starts(e->d_name, ".X") && str_ends(e->d_name, "-lock"))
			unlinkat(dirfd(dir), e->d_name, 0);
	}
	if (dir != NULL)
		closedir(dir);
	fs_remove_tree("/tmp/.X11-unix", NULL);
	fs_remove_tree("/tmp/.ICE-unix", NULL);
}

/* An image has none of its own, so that no two machines share one. */
static void
make_machine_id(void)
{
	unsigned char random[16];
	char text[34];
	struct stat st;

	if (stat("/etc/machine-id", &st) == 0 && st.st_size > 0)
		return;
	while (getrandom(random, sizeof(random), 0) != sizeof(random))
		;
	str_hex(text, random, sizeof(random));
	text[32] = '\n';
	if (fs_write_file("/etc/machine-id", text, 33, 0444, NULL) < 0)
		complain("write /etc/machine-id");
}

static void
loopback_up(void)
{
	struct ifreq req = { .ifr_name = "lo" };
	_cleanup_(closep)
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &req) < 0 ||
	    (req.ifr_flags & IFF_UP) != 0)
		return;
	req.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &req) < 0)
		complain("bring up the loopback device");
}

void
init_setup(const struct vma *vma)
{
	umask(022);
	if (!fs_exists("/proc/self") &&
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL) < 0)
		complain("mount /proc");
	mount_run();
	make_dir("/dev/shm", 01777);
	if (!is_tmpfs("/dev/shm") && mount("tmpfs", "/dev/shm", "tmpfs",
					 MS_NOSUID | MS_NODEV, "mode=1777") < 0)
		complain("mount /dev/shm");
	make_dir("/run/lock", 01777);
	make_dir("/run/user", 0755);
	make_dir("/tmp", 01777);
	clean_tmp();
	make_dir("/tmp/.X11-unix", 01777);
	make_dir("/tmp/.ICE-unix", 01777);
	make_machine_id();
	loopback_up();
}

static bool
anybody_left(void)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;
	bool found = false;
	int pid;

	while (dir != NULL && !found && (e = readdir(dir)) != NULL)
		found = str_to_int(e->d_name, 2, INT32_MAX, &pid);
	if (dir != NULL)
		closedir(dir);
	return found;
}

static void
check_end(struct init *i)
{
	void (*done)(void *arg) = i->done;

	if (done == NULL || anybody_left())
		return;
	i->done = NULL;
	timer_stop(&i->grace);
	done(i->arg);
}

/* Our own children are their owners' to reap: a look, then the reaping.
 * While the first that has ended is one of those, the others wait. */
static void
reap(void *arg)
{
	struct init *i = arg;
	siginfo_t info;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
		    info.si_pid == 0)
			break;
		if (task_is_own(i->vma, info.si_pid)) {
			timer_start(&i->again, RETRY_MS);
			break;
		}
		waitpid(info.si_pid, NULL, WNOHANG);
	}
	check_end(i);
}

static void
on_sigchld(int signum, void *arg)
{
	reap(arg);
}

void
init_reap(struct vma *vma)
{
	init.vma = vma;
	timer_init(&init.again, vma->loop, reap, &init);
	sigwatch_init(&init.sigchld, vma->loop, SIGCHLD, on_sigchld, &init);
	reap(&init);
}

static void
on_grace(void *arg)
{
	struct init *i = arg;

	if (i->killed) { /* stuck in the kernel; the container ends anyway */
		void (*done)(void *arg) = take_ptr(i->done);

		log_warn("processes are left that can't be killed");
		if (done != NULL)
			done(i->arg);
		return;
	}
	i->killed = true;
	kill(-1, SIGKILL);
	timer_start(&i->grace, END_GRACE_MS);
	reap(i);
}

void
init_end_all(struct vma *vma, void (*done)(void *arg), void *arg)
{
	init.done = done;
	init.arg = arg;
	timer_init(&init.grace, vma->loop, on_grace, &init);
	kill(-1, SIGTERM);
	kill(-1, SIGCONT); /* a stopped process can't end */
	timer_start(&init.grace, END_GRACE_MS);
	reap(&init);
}

/* The real uid of a process, or -1. */
static int64_t
uid_of(int proc, const char *pid)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/status", pid);
	_cleanup_(closep)
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	const char *p;
	int64_t uid;
	ssize_t n;

	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	p = strstr(text, "\nUid:\t");
	if (p == NULL)
		return -1;
	p += strlen("\nUid:\t");
	text[(size_t)(p - text) + strcspn(p, "\t\n")] = '\0';
	return str_to_i64(p, 0, UINT32_MAX, &uid) ? uid : -1;
}

void
init_kill_user(uid_t uid, int signum, pid_t except)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;
	int pid;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (str_to_int(e->d_name, 2, INT32_MAX, &pid) &&
		    pid != except && uid_of(dirfd(dir), e->d_name) == uid)
			kill(pid, signum);
	}
	if (dir != NULL)
		closedir(dir);
}
