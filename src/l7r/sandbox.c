/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "l7r/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "l7r/roles.h"

/* What a worker does all day: libuv's loop, OpenSSL, malloc, the relay. */
static const int streams_allowed[] = {
	SCMP_SYS(accept4),
	SCMP_SYS(brk),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(close),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(futex),
	SCMP_SYS(getpeername),
	SCMP_SYS(getpid),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt),
	SCMP_SYS(gettid),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(ioctl),
	SCMP_SYS(lseek),
	SCMP_SYS(madvise),
	SCMP_SYS(mremap),
	SCMP_SYS(munmap),
	SCMP_SYS(nanosleep),
	SCMP_SYS(newfstatat),
	SCMP_SYS(pipe2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(splice),
	SCMP_SYS(tgkill),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(write),
	SCMP_SYS(writev),
};

/* Nobody does these by mistake: the process ends. */
static const int hostile[] = {
	SCMP_SYS(add_key),
	SCMP_SYS(bpf),
	SCMP_SYS(chroot),
	SCMP_SYS(delete_module),
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(finit_module),
	SCMP_SYS(init_module),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(kexec_load),
	SCMP_SYS(keyctl),
	SCMP_SYS(mount),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(pivot_root),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(ptrace),
	SCMP_SYS(reboot),
	SCMP_SYS(request_key),
	SCMP_SYS(setns),
	SCMP_SYS(swapon),
	SCMP_SYS(umount2),
	SCMP_SYS(unshare),
	SCMP_SYS(userfaultfd),
};

static void
filter_freep(scmp_filter_ctx *filter)
{
	if (*filter != NULL)
		seccomp_release(*filter);
}

static int
add_rules(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n,
    struct err *err)
{
	size_t i;
	int r;

	for (i = 0; i < n; i++)
		if ((r = seccomp_rule_add(filter, action, calls[i], 0)) < 0)
			return err_errno(err, ERR_SYSTEM, -r,
			    "filter for system call %d", calls[i]);
	return 0;
}

/* Memory, but none that can be run. */
static int
allow_memory(scmp_filter_ctx filter, struct err *err)
{
	const struct scmp_arg_cmp not_exec =
	    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int r;

	r = seccomp_rule_add_array(
	    filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &not_exec);
	if (r == 0)
		r = seccomp_rule_add_array(
		    filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &not_exec);
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, -r, "filter for memory");
	return 0;
}

/* The sanitizer's leak check traces, its reports read files. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

static int
load_filter(enum sandbox_filter kind, struct err *err)
{
	_cleanup_(filter_freep)
	scmp_filter_ctx filter = NULL;
	int r;

	/* What is not listed fails rather than kills: a library that tries
	 * something new and can do without it may. */
	filter = seccomp_init(
	    kind == SANDBOX_STREAMS ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
	if (filter == NULL)
		return err_set(err, ERR_SYSTEM, "seccomp: out of memory");
	if (kind == SANDBOX_STREAMS &&
	    ((r = add_rules(filter, SCMP_ACT_ALLOW, streams_allowed,
		  ARRAY_SIZE(streams_allowed), err)) < 0 ||
		(r = allow_memory(filter, err)) < 0))
		return r;
	if ((r = add_rules(filter, SCMP_ACT_KILL_PROCESS, hostile,
		 ARRAY_SIZE(hostile), err)) < 0)
		return r;
	if ((r = seccomp_load(filter)) < 0)
		return err_errno(err, ERR_SYSTEM, -r,
		    "load the system call filter (the kernel needs seccomp)");
	return 0;
}

/* As many files as the role wants, or as the machine allows. */
static int
set_limits(const struct role *role, struct err *err)
{
	struct rlimit files = { (rlim_t)role->files, (rlim_t)role->files };
	struct rlimit none = { 0, 0 }, now;

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "limit core files");
	if (setrlimit(RLIMIT_NOFILE, &files) == 0)
		return 0;
	if (getrlimit(RLIMIT_NOFILE, &now) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "limit of files");
	now.rlim_cur = now.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &now) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "limit of files");
	return 0;
}

int
sandbox_enter(
    const struct role *role, const struct role_code *code, struct err *err)
{
	struct proc_user user;
	struct group *group;
	int r;

	if ((r = set_limits(role, err)) < 0)
		return r;
	if (role->user != NULL &&
	    (r = proc_find_user(role->user, &user, err)) < 0)
		return r;
	if (role->group != NULL) {
		if ((group = getgrnam(role->group)) == NULL)
			return err_set(err, ERR_CONFIG,
			    "system group '%s' does not exist; run "
			    "tools/setup or systemd-sysusers",
			    role->group);
		user.gid = group->gr_gid;
	}
	if (code->prepare != NULL && (r = code->prepare(err)) < 0)
		return r;
	if (role->empty_root && (chroot(".") < 0 || chdir("/") < 0))
		return err_errno(err, ERR_SYSTEM, errno, "chroot");
	if (role->user != NULL && (r = proc_drop_user(&user, err)) < 0)
		return r;
	if ((r = proc_harden(0, err)) < 0)
		return r;
	return role->filter == SANDBOX_NONE || SANITIZED
		   ? 0
		   : load_filter(role->filter, err);
}
