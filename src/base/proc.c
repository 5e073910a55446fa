/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/mem.h"

int
proc_find_user(const char *name, struct proc_user *ret, struct err *err)
{
	struct passwd *pw = getpwnam(name);

	if (pw == NULL)
		return err_set(err, ERR_CONFIG,
		    "system user '%s' does not exist; run tools/setup or "
		    "systemd-sysusers",
		    name);
	ret->uid = pw->pw_uid;
	ret->gid = pw->pw_gid;
	return 0;
}

int
proc_drop_user(const struct proc_user *user, struct err *err)
{
	if (setgroups(1, &user->gid) < 0 ||
	    setresgid(user->gid, user->gid, user->gid) < 0 ||
	    setresuid(user->uid, user->uid, user->uid) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "change to uid %d gid %d", (int)user->uid, (int)user->gid);
	if (user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		return err_set(err, ERR_INTERNAL,
		    "root could be regained after giving it up");
	return 0;
}

int
proc_harden(int parent_death_signal, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "prctl");
	if (parent_death_signal != 0 &&
	    prctl(PR_SET_PDEATHSIG, parent_death_signal, 0, 0, 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "prctl");
	return 0;
}

int
proc_place_fds(const int *fds, int n)
{
	int high[16], i, null;

	if (n > (int)ARRAY_SIZE(high)) {
		errno = EINVAL;
		return -1;
	}
	/* First out of the way of 0..n-1, then down into place. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -1;
	for (i = 0; i < n; i++) {
		high[i] =
		    fcntl(fds[i] < 0 ? null : fds[i], F_DUPFD_CLOEXEC, n + 16);
		if (high[i] < 0)
			return -1;
	}
	for (i = 0; i < n; i++)
		if (dup2(high[i], i) < 0)
			return -1;
	return close_range((unsigned)n, ~0U, 0);
}

unsigned long long
proc_start_time(pid_t pid)
{
	_cleanup_(closep)
	int fd = -1;
	char path[32], text[1024], *p;
	unsigned long long start = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (n = read(fd, text, sizeof(text) - 1)) <= 0)
		return 0;
	text[n] = '\0';
	/* The name, in parentheses, may hold anything, a newline too: go past
	 * its end. */
	if ((p = strrchr(text, ')')) == NULL)
		return 0;
	if (sscanf(p + 2,
		"%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u "
		"%*u %*d %*d %*d %*d %*d %*d %llu",
		&start) != 1)
		return 0;
	return start;
}
