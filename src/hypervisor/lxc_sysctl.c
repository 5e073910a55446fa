/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What of /proc/sys a container has for itself. Its limits, of what no cgroup
 * counts: things of the kernel of which a user, or the whole node, has only so
 * many. They are counted in its user namespace for each of its users, and in
 * the node's for all containers together; without limits of their own one
 * desktop could have all of them, and no other's file manager or D-Bus would
 * start. And what its network is like.
 *
 * Only someone in its namespaces can write them, and in its mounts they are
 * read-only: so a child goes in, with the node's mounts, and writes them.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "hypervisor/lxc_priv.h"
#include "storage/storage.h"

struct setting {
	const char *file; /* of /proc/sys */
	const char *value;
};

/* Each of a desktop's users may have so many. */
static const struct setting limits[] = {
	/* What docs/density.md has the node provide for a desktop. */
	{ "user/max_inotify_instances", "100" },
	{ "user/max_inotify_watches", "65536" },
	/* Browsers make some for their sandboxes. Each network has tables,
	 * and one worker of the kernel ends those of the whole node. */
	{ "user/max_user_namespaces", "256" },
	{ "user/max_net_namespaces", "64" },
	{ "user/max_mnt_namespaces", "256" },
	{ "user/max_pid_namespaces", "256" },
	{ "user/max_ipc_namespaces", "256" },
	{ "user/max_uts_namespaces", "256" },
	{ "user/max_cgroup_namespaces", "64" },
	{ "user/max_time_namespaces", "64" },
	{ NULL, NULL },
};

/* Ping needs no capability, of whichever group. */
_Static_assert(STORAGE_ID_COUNT == 65536, "ping_group_range");
static const struct setting network[] = {
	{ "net/ipv4/ping_group_range", "0 65535" },
	{ NULL, NULL },
};

/* Where the node gives no IPv6 the firewall passes none, and without an
 * address no program waits for it. */
static const struct setting without_ipv6[] = {
	{ "net/ipv6/conf/all/disable_ipv6", "1" },
	{ NULL, NULL },
};
static const struct setting with_ipv6[] = {
	{ "net/ipv6/conf/eth0/accept_ra", "0" },
	{ NULL, NULL },
};

struct task {
	int pidfd; /* the container's init */
	const struct setting *lists[3];
	const struct setting *failed; /* NULL: none yet */
	bool inside;
};

/* A kernel that lacks one of them has nothing to set. */
static _no_sanitize_ bool
write_setting(const struct setting *s)
{
	_cleanup_(closep)
	int fd = -1;
	ssize_t len = (ssize_t)strlen(s->value);
	char path[64];

	snprintf(path, sizeof(path), "/proc/sys/%s", s->file);
	if (access(path, F_OK) < 0)
		return true;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, s->value, (size_t)len) == len;
}

/* In the memory of the process that waits for it. */
static _no_sanitize_ int
write_settings(void *arg)
{
	struct task *task = arg;
	const struct setting *s;
	size_t i;

	if (setns(task->pidfd, CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return EXIT_FAILURE;
	task->inside = true;
	for (i = 0; i < ARRAY_SIZE(task->lists); i++)
		for (s = task->lists[i]; s->file != NULL; s++)
			if (!write_setting(s)) {
				task->failed = s;
				return EXIT_FAILURE;
			}
	return EXIT_SUCCESS;
}

int
lxc_sysctl_set(
    const struct hv_op *op, const struct hv_run *run, struct err *err)
{
	_Alignas(16) char stack[32 * 1024];
	bool ipv6 = op->node->gateway6[0] != '\0';
	struct task task = {
		.pidfd = run->pidfd,
		.lists = { limits, network, ipv6 ? with_ipv6 : without_ipv6 },
	};
	int status = -1;
	pid_t pid = clone(write_settings, stack + sizeof(stack),
	    CLONE_VM | CLONE_VFORK | SIGCHLD, &task);

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return err_set(err, ERR_SYSTEM,
		    "no process to set what /proc/sys has for it");
	if (WEXITSTATUS(status) == EXIT_SUCCESS)
		return 0;
	if (!task.inside)
		return err_set(err, ERR_VM_START,
		    "its namespaces can't be entered to set what /proc/sys "
		    "has for it");
	return err_set(err, ERR_VM_START, "the kernel refuses its %s = %s",
	    task.failed->file, task.failed->value);
}
