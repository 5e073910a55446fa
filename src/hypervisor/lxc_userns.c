/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What no cgroup counts: things of the kernel of which a user, or the whole
 * node, has only so many. A container's are counted in its user namespace for
 * each of its users, and in the node's for all containers together; without
 * limits of their own one desktop could have all of them, and no other's file
 * manager or D-Bus would start. They are files that only someone in the
 * namespace can write, in whose mounts they are read-only: so a child goes in
 * and writes ours.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "hypervisor/lxc_priv.h"

/* Each of a desktop's users may have so many. */
static const struct user_limit {
	const char *file; /* of /proc/sys/user */
	const char *value;
} limits[] = {
	/* What docs/density.md has the node provide for a desktop. */
	{ "max_inotify_instances", "100" },
	{ "max_inotify_watches", "65536" },
	/* Browsers make some for their sandboxes. Each network has tables,
	 * and one worker of the kernel ends those of the whole node. */
	{ "max_user_namespaces", "256" },
	{ "max_net_namespaces", "64" },
	{ "max_mnt_namespaces", "256" },
	{ "max_pid_namespaces", "256" },
	{ "max_ipc_namespaces", "256" },
	{ "max_uts_namespaces", "256" },
	{ "max_cgroup_namespaces", "64" },
	{ "max_time_namespaces", "64" },
};

/* A kernel that lacks one of them has nothing to limit. */
static _no_sanitize_ bool
write_limit(const struct user_limit *l)
{
	_cleanup_(closep)
	int fd = -1;
	ssize_t len = (ssize_t)strlen(l->value);
	char path[64];

	snprintf(path, sizeof(path), "/proc/sys/user/%s", l->file);
	if (access(path, F_OK) < 0)
		return true;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, l->value, (size_t)len) == len;
}

/* Its status tells which one failed; all of them: the way in. */
static _no_sanitize_ int
write_limits(void *arg)
{
	const int *pidfd = arg;
	size_t i;

	if (setns(*pidfd, CLONE_NEWUSER) < 0)
		return ARRAY_SIZE(limits) + 1;
	for (i = 0; i < ARRAY_SIZE(limits); i++)
		if (!write_limit(&limits[i]))
			return (int)i + 1;
	return 0;
}

int
lxc_userns_limit(const struct hv_run *run, struct err *err)
{
	_Alignas(16) char stack[32 * 1024];
	int pidfd = run->pidfd, status = -1, failed;
	pid_t pid = clone(write_limits, stack + sizeof(stack),
	    CLONE_VM | CLONE_VFORK | SIGCHLD, &pidfd);

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return err_set(err, ERR_SYSTEM,
		    "no process to set the limits of its user namespace");
	failed = WEXITSTATUS(status) - 1;
	if (failed < 0)
		return 0;
	if (failed >= (int)ARRAY_SIZE(limits))
		return err_set(err, ERR_VM_START,
		    "its user namespace can't be entered to set its limits");
	return err_set(err, ERR_VM_START,
	    "the kernel refuses its limit user.%s = %s", limits[failed].file,
	    limits[failed].value);
}
