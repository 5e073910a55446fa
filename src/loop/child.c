/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"

#define KILL_AFTER_MS 2000 /* from TERM to KILL */

struct child {
	struct loop *loop;
	struct loop_orphan orphan; /* after child_free() */
	struct watch watch;        /* the pidfd is readable when it has ended */
	struct timer timer;
	pid_t pid;
	int pidfd;
	bool keep_group;
	bool timed_out;
	child_cb cb; /* NULL: child_free() was called */
	void *arg;
};

/* What the child writes to its error pipe if it can't become the program. */
struct start_error {
	int step;
	int errnum;
};

enum start_step {
	STEP_GROUP,
	STEP_FDS,
	STEP_USER,
	STEP_DEATH_SIGNAL,
	STEP_CWD,
	STEP_EXEC
};
static const char *const step_names[] = {
	[STEP_GROUP] = "make a process group",
	[STEP_FDS] = "pass descriptors",
	[STEP_USER] = "change to its user",
	[STEP_DEATH_SIGNAL] = "tie its life to ours",
	[STEP_CWD] = "change to its directory",
	[STEP_EXEC] = "execute",
};

static _noreturn_ void
fail(int err_fd, enum start_step step)
{
	struct start_error e = { step, errno };
	ssize_t n = write(err_fd, &e, sizeof(e));

	(void)n; /* nobody is left to tell */
	_exit(127);
}

static void
reset_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;
	int i;

	for (i = 1; i < NSIG; i++)
		sigaction(i, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Only async-signal-safe calls: other threads of the parent may have held
 * locks when it forked. It may also run in the parent's memory (vfork: copying
 * a daemon's page tables costs more than all the rest), so it changes nothing
 * there; changing the user does, glibc's calls tell all threads, so that
 * takes a real fork. */
static _noreturn_ void
run_child(const struct child_spec *spec, char *const *argv, char *const *envp,
    pid_t parent, int err_fd)
{
	int fds[CHILD_FDS_MAX + 1], n = spec->n_fds < 3 ? 3 : spec->n_fds, i;

	if ((spec->new_session ? (setsid() < 0) : (setpgid(0, 0) < 0)))
		fail(err_fd, STEP_GROUP);
	for (i = 0; i < n; i++)
		fds[i] = i < spec->n_fds ? spec->fds[i] : -1;
	if (spec->n_fds <= 2 && fcntl(2, F_GETFD) >= 0)
		fds[2] = 2;
	fds[n] = err_fd;
	if (proc_place_fds(fds, n + 1) < 0)
		fail(err_fd, STEP_FDS);
	err_fd = n;
	fcntl(err_fd, F_SETFD, FD_CLOEXEC);
	if (spec->set_user &&
	    (setgroups(1, &spec->gid) < 0 ||
		setresgid(spec->gid, spec->gid, spec->gid) < 0 ||
		setresuid(spec->uid, spec->uid, spec->uid) < 0))
		fail(err_fd, STEP_USER);
	/* After the change of user, which clears it. */
	if (spec->parent_death_signal != 0) {
		if (prctl(PR_SET_PDEATHSIG, spec->parent_death_signal) < 0)
			fail(err_fd, STEP_DEATH_SIGNAL);
		if (getppid() != parent)
			_exit(127);
	}
	if (chdir(spec->cwd == NULL ? "/" : spec->cwd) < 0)
		fail(err_fd, STEP_CWD);
	reset_signals();
	execve(spec->path, argv, envp);
	fail(err_fd, STEP_EXEC);
}

static void
child_destroy(struct child *child)
{
	watch_done(&child->watch);
	timer_done(&child->timer);
	closep(&child->pidfd);
	list_del(&child->orphan.link);
	free(child);
}

static void
destroy_later(void *arg)
{
	child_destroy(arg);
}

/* The zombie still holds the pid, so the group id is surely ours. */
static void
kill_rest(struct child *child)
{
	if (!child->keep_group || child->timed_out || child->cb == NULL)
		kill(-child->pid, SIGKILL);
}

static void
on_exit_event(int events, void *arg)
{
	struct child *child = arg;
	siginfo_t info = { 0 };
	int status = 0;

	if (waitid(P_PID, (id_t)child->pid, &info,
		WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid == 0)
		return;
	kill_rest(child);
	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		status = 0; /* someone else reaped it */
	watch_set(&child->watch, 0);
	timer_stop(&child->timer);
	child->pid = -1;
	if (child->cb != NULL)
		child->cb(child, status, child->timed_out, child->arg);
	loop_defer(child->loop, destroy_later, child);
}

static void
on_deadline(void *arg)
{
	struct child *child = arg;

	child_kill(child, child->timed_out ? SIGKILL : SIGTERM);
	if (!child->timed_out)
		timer_start(&child->timer, KILL_AFTER_MS);
	child->timed_out = true;
}

/* Waits until the program runs or the child has failed to start it. */
static int
wait_started(const struct child_spec *spec, pid_t pid, int fd, struct err *err)
{
	struct start_error e;
	ssize_t n;

	do
		n = read(fd, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(e) || e.step < 0 ||
	    e.step >= (int)ARRAY_SIZE(step_names))
		return err_set(
		    err, ERR_SYSTEM, "start '%s': lost it", spec->path);
	return err_errno(err, ERR_SYSTEM, e.errnum, "start '%s': %s",
	    spec->path, step_names[e.step]);
}

/* argv and envp as execve() wants them; it doesn't write to the strings. */
static char *const *
unconst(const char *const *v)
{
	return (char *const *)(uintptr_t)v;
}

/* In a build with sanitizers their options go along. */
static int
add_sanitizer_env(char **env, int n)
{
#ifdef __SANITIZE_ADDRESS__
	static const char *const names[] = { "ASAN_OPTIONS=",
		"UBSAN_OPTIONS=" };
	size_t i;
	char **e;

	for (e = environ; *e != NULL; e++)
		for (i = 0; i < ARRAY_SIZE(names); i++)
			if (str_starts(*e, names[i]))
				env[n++] = *e;
#endif
	return n;
}

static int
fork_exec(const struct child_spec *spec, pid_t *ret_pid, struct err *err)
{
	char path_env[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:"
			  "/usr/bin:/sbin:/bin";
	char log_env[64] = "";
	const char *level = getenv("QVD_LOG");
	char *def_env[5] = { path_env };
	int n_env = 1;
	char *const *envp = spec->envp == NULL ? def_env : unconst(spec->envp);
	sigset_t all, old;
	pid_t pid, parent = getpid();
	int fds[2], r;

	if (level != NULL) {
		snprintf(log_env, sizeof(log_env), "QVD_LOG=%s", level);
		def_env[n_env++] = log_env;
	}
	n_env = add_sanitizer_env(def_env, n_env);
	def_env[n_env] = NULL;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	/* No handler of the parent may run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = spec->set_user ? fork() : vfork();
	if (pid == 0)
		run_child(spec, unconst(spec->argv), envp, parent, fds[1]);
	r = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return err_errno(
		    err, ERR_SYSTEM, r, "fork for '%s'", spec->path);
	}
	r = wait_started(spec, pid, fds[0], err);
	close(fds[0]);
	*ret_pid = pid;
	return r;
}

static struct child *
new_child(struct loop *loop, pid_t pid, int pidfd, bool keep_group,
    int64_t deadline_ms, child_cb cb, void *arg)
{
	struct child *child = new0(struct child);

	child->loop = loop;
	child->pid = pid;
	child->pidfd = pidfd;
	child->keep_group = keep_group;
	child->cb = cb;
	child->arg = arg;
	list_init(&child->orphan.link);
	timer_init(&child->timer, loop, on_deadline, child);
	watch_init(&child->watch, loop, pidfd, on_exit_event, child);
	watch_set(&child->watch, WATCH_READ);
	if (deadline_ms > 0)
		timer_start(&child->timer, deadline_ms);
	return child;
}

struct child *
child_spawn(struct loop *loop, const struct child_spec *spec, child_cb cb,
    void *arg, struct err *err)
{
	pid_t pid = -1;
	int pidfd;

	if (spec->n_fds < 0 || spec->n_fds > CHILD_FDS_MAX) {
		err_set(err, ERR_INTERNAL, "start '%s': %d descriptors",
		    spec->path, spec->n_fds);
		return NULL;
	}
	if (fork_exec(spec, &pid, err) < 0)
		return NULL;
	/* pidfd_open() sets close-on-exec; the pid can't be reused before we
	 * reap it. */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		err_errno(err, ERR_SYSTEM, errno, "pidfd_open");
		kill(-pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return NULL;
	}
	return new_child(
	    loop, pid, pidfd, spec->keep_group, spec->deadline_ms, cb, arg);
}

struct child *
child_adopt(struct loop *loop, pid_t pid, int pidfd, int64_t deadline_ms,
    child_cb cb, void *arg)
{
	/* It does the same; who comes first doesn't matter, and from now on
	 * the group is surely there to be killed. */
	setpgid(pid, pid);
	return new_child(loop, pid, pidfd, false, deadline_ms, cb, arg);
}

void
child_pass(struct child *child, int64_t deadline_ms, child_cb cb, void *arg)
{
	child->cb = cb;
	child->arg = arg;
	timer_stop(&child->timer);
	if (deadline_ms > 0)
		timer_start(&child->timer, deadline_ms);
}

pid_t
child_pid(const struct child *child)
{
	return child->pid;
}

void
child_kill(struct child *child, int signum)
{
	if (child->pid > 0)
		kill(-child->pid, signum);
}

/* The loop goes before the kernel has told of the child's end. */
static void
reap_orphan(struct loop_orphan *o)
{
	struct child *child = container_of(o, struct child, orphan);

	while (child->pid > 0 && waitpid(child->pid, NULL, 0) < 0 &&
	       errno == EINTR)
		;
	child_destroy(child);
}

void
child_free(struct child *child)
{
	if (child == NULL || child->pid < 0)
		return; /* inside its callback: freed after it anyway */
	child->cb = NULL;
	child->keep_group = false;
	kill(-child->pid, SIGKILL);
	timer_stop(&child->timer);
	child->orphan.end = reap_orphan;
	loop_orphan_add(child->loop, &child->orphan);
}

int
child_status_err(const char *name, int status, bool timed_out, struct err *err)
{
	if (timed_out)
		return err_set(
		    err, ERR_TIMEOUT, "%s: took too long and was ended", name);
	if (WIFSIGNALED(status))
		return err_set(err, ERR_SYSTEM, "%s: killed by signal %d (%s)",
		    name, WTERMSIG(status), strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status) != 0)
		return err_set(err, ERR_SYSTEM, "%s: exited with %d", name,
		    WEXITSTATUS(status));
	return 0;
}
