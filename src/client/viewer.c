/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "client/viewer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define NX_BUFFER_BYTES (256 * 1024)

void
viewer_init(struct viewer *v)
{
	memset(v, 0, sizeof(*v));
	v->pid = -1;
	v->pidfd = v->nx_fd = v->ctl_fd = v->log_fd = -1;
}

/* The whole group: libXcomp forks watchdogs and dialogs of its own. */
static void
kill_group(struct viewer *v)
{
	if (v->pid <= 0)
		return;
	kill(-v->pid, SIGKILL);
	while (waitpid(v->pid, NULL, 0) < 0 && errno == EINTR)
		;
	v->pid = -1;
}

void
viewer_done(struct viewer *v)
{
	kill_group(v);
	closep(&v->pidfd);
	closep(&v->nx_fd);
	closep(&v->ctl_fd);
	closep(&v->log_fd);
	if (v->dir[0] != '\0')
		fs_remove_tree(v->dir, NULL);
	v->dir[0] = '\0';
}

static int
make_dir(struct viewer *v, struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (base == NULL || base[0] != '/' || access(base, W_OK) < 0)
		base = getenv("TMPDIR");
	if (base == NULL || base[0] != '/' || strlen(base) > 80)
		base = "/tmp";
	snprintf(v->dir, sizeof(v->dir), "%s/qvd-client-XXXXXX", base);
	if (mkdtemp(v->dir) == NULL) {
		v->dir[0] = '\0';
		return err_errno(err, ERR_SYSTEM, errno,
		    "make a private directory in '%s'", base);
	}
	return 0;
}

/* libXcomp takes its directories from the environment, and the program that
 * shows its questions: the viewer itself, which asks nobody. */
struct viewer_env {
	char *v[16];
	int n;
};

static void
env_done(struct viewer_env *env)
{
	while (env->n > 0)
		free(env->v[--env->n]);
}

static void
env_add(struct viewer_env *env, const char *name, const char *value)
{
	if (value != NULL && env->n < (int)ARRAY_SIZE(env->v) - 1)
		env->v[env->n++] = xasprintf("%s=%s", name, value);
}

static void
fill_env(struct viewer_env *env, const char *dir, const char *display,
    const char *path)
{
	static const char *const kept[] = { "XAUTHORITY", "HOME", "LANG",
		"LC_ALL", "TZ", "LD_LIBRARY_PATH", "ASAN_OPTIONS",
		"UBSAN_OPTIONS", "LSAN_OPTIONS" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kept); i++)
		env_add(env, kept[i], getenv(kept[i]));
	env_add(env, "PATH", "/usr/bin:/bin");
	env_add(env, "DISPLAY", display);
	env_add(env, "NX_ROOT", dir);
	env_add(env, "NX_TEMP", dir);
	env_add(env, "NX_CLIENT", path);
}

struct pipes {
	int nx[2], ctl[2], log[2];
};

static void
pipes_done(struct pipes *p)
{
	closep(&p->nx[0]);
	closep(&p->nx[1]);
	closep(&p->ctl[0]);
	closep(&p->ctl[1]);
	closep(&p->log[0]);
	closep(&p->log[1]);
}

/* Moves a descriptor up, out of the way of the child's first five. */
static int
raise_fd(int *fd)
{
	int high = fcntl(*fd, F_DUPFD_CLOEXEC, 16);

	if (high < 0)
		return -1;
	close(*fd);
	*fd = high;
	return 0;
}

static int
open_pipes(struct pipes *p, struct err *err)
{
	const int size = NX_BUFFER_BYTES;
	int i;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->nx) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->ctl) < 0 ||
	    pipe2(p->log, O_CLOEXEC) < 0 || raise_fd(&p->nx[1]) < 0 ||
	    raise_fd(&p->ctl[1]) < 0 || raise_fd(&p->log[1]) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make pipes for the viewer");
	for (i = 0; i < 2; i++)
		setsockopt(
		    p->nx[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (fcntl(p->nx[0], F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(p->log[0], F_SETFL, O_NONBLOCK) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make pipes for the viewer");
	return 0;
}

/* The descriptors were raised above 4 before, so that none overwrites
 * another on its way down. */
static int
add_actions(posix_spawn_file_actions_t *acts, const struct pipes *p)
{
	const int from[] = { -1, p->log[1], p->log[1], p->nx[1], p->ctl[1] };
	int i, r;

	r = posix_spawn_file_actions_addopen(acts, 0, "/dev/null", O_RDWR, 0);
	for (i = 1; i < (int)ARRAY_SIZE(from) && r == 0; i++)
		r = posix_spawn_file_actions_adddup2(acts, from[i], i);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(
		    acts, ARRAY_SIZE(from));
	return r;
}

static int
spawn(
    struct viewer *v, const char *path, struct pipes *p, struct viewer_env *env)
{
	char name[] = VIEWER_PROGRAM, arg[] = "nx/nx,slave=0:0";
	char *argv[] = { name, arg, NULL };
	posix_spawn_file_actions_t acts;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&acts);
	posix_spawnattr_init(&attr);
	/* Its own group, so that Ctrl-C is ours to answer. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP |
					    POSIX_SPAWN_SETSIGMASK |
					    POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	r = add_actions(&acts, p);
	if (r == 0)
		r = posix_spawn(&v->pid, path, &acts, &attr, argv, env->v);
	if (r != 0)
		v->pid = -1;
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&acts);
	return r;
}

int
viewer_start(struct viewer *v, const char *program_dir, const char *display,
    struct err *err)
{
	_cleanup_(pipes_done)
	struct pipes p = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	_cleanup_(env_done)
	struct viewer_env env = { .n = 0 };
	_cleanup_(freep)
	char *path = xasprintf("%s/" VIEWER_PROGRAM, program_dir);
	int r;

	if (display == NULL)
		display = getenv("DISPLAY");
	if (display == NULL || display[0] == '\0')
		return err_set(err, ERR_SESSION,
		    "there is no X server to show the desktop on: DISPLAY is "
		    "not set");
	str_copy(v->display, sizeof(v->display), display);
	if ((r = make_dir(v, err)) < 0 || (r = open_pipes(&p, err)) < 0)
		return r;
	fill_env(&env, v->dir, display, path);
	r = spawn(v, path, &p, &env);
	if (r != 0)
		return err_errno(err, ERR_SYSTEM, r,
		    "start the viewer '%s'; is qvd-client installed as a "
		    "whole?",
		    path);
	v->pidfd = pidfd_open(v->pid, 0);
	if (v->pidfd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "watch the viewer");
	v->nx_fd = take_fd(&p.nx[0]);
	v->ctl_fd = take_fd(&p.ctl[0]);
	v->log_fd = take_fd(&p.log[0]);
	return 0;
}

/* What libXcomp says is text for people, but these few lines have been the
 * same for fifteen years, and nothing else tells an end from a loss. */
static void
take_line(struct viewer *v)
{
	char text[512];

	v->line[v->line_len] = '\0';
	if (!str_is_text(v->line, sizeof(v->line)))
		str_escape(text, sizeof(text), v->line, v->line_len);
	else
		str_copy(text, sizeof(text), v->line);
	v->line_len = 0;
	if (str_starts(text, "Session: Session started at"))
		v->started = true;
	else if (str_starts(text, "Error: Connection with remote peer broken"))
		v->link_lost = true;
	else if (str_starts(text, "Info: Your session was closed before"))
		v->refused = true;
	else if (str_starts(text, "Error: "))
		str_copy(v->last, sizeof(v->last), text + 7);
	if (v->on_line != NULL && text[0] != '\0')
		v->on_line(text, v->arg);
}

void
viewer_read_log(struct viewer *v)
{
	char data[4096];
	ssize_t n, i;

	while (v->log_fd >= 0) {
		n = read(v->log_fd, data, sizeof(data));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || (n < 0 && errno != EAGAIN))
			closep(&v->log_fd);
		if (n <= 0)
			break;
		for (i = 0; i < n; i++)
			if (data[i] == '\n' ||
			    v->line_len == sizeof(v->line) - 1)
				take_line(v);
			else
				v->line[v->line_len++] = data[i];
	}
}

int
viewer_wait_ready(
    struct viewer *v, int cancel_fd, int64_t deadline_ms, struct err *err)
{
	struct pollfd p[] = {
		{ .fd = v->ctl_fd, .events = POLLIN },
		{ .fd = cancel_fd, .events = POLLIN },
	};
	int64_t left;
	char word = 0;
	int r;

	do {
		left = deadline_ms - time_now_ms();
		if (left <= 0)
			return err_set(
			    err, ERR_TIMEOUT, "the X server doesn't answer");
		r = poll(p, ARRAY_SIZE(p), left > 60000 ? 60000 : (int)left);
	} while (r == 0 || (r < 0 && errno == EINTR));
	if (p[1].revents != 0)
		return err_set(err, ERR_CANCELLED, "interrupted");
	if (read(v->ctl_fd, &word, 1) == 1 && word == VIEWER_READY)
		return 0;
	/* It closed the control socket, so it is ending. */
	r = viewer_reap(v, err);
	return r < 0 ? r
		     : err_set(err, ERR_SESSION, "the viewer ended at once");
}

int
viewer_go(struct viewer *v, struct err *err)
{
	const char word = VIEWER_GO;

	if (send(v->ctl_fd, &word, 1, MSG_NOSIGNAL) == 1)
		return 0;
	return err_errno(err, ERR_SESSION, errno, "start the viewer");
}

int
viewer_reap(struct viewer *v, struct err *err)
{
	const char *why = "";
	int status = 0;

	if (v->pid > 0) {
		/* Its helpers too, while the zombie keeps the group's id. */
		while (
		    waitid(P_PID, (id_t)v->pid, NULL, WEXITED | WNOWAIT) < 0 &&
		    errno == EINTR)
			;
		kill(-v->pid, SIGKILL);
		while (waitpid(v->pid, &status, 0) < 0 && errno == EINTR)
			;
		v->pid = -1;
	}
	viewer_read_log(v);
	why = v->last[0] != '\0' ? v->last : "it gave no reason";
	if (WIFSIGNALED(status))
		return err_set(err, ERR_SESSION,
		    "the viewer was ended by signal %d (%s)%s%s",
		    WTERMSIG(status), strsignal(WTERMSIG(status)),
		    v->last[0] != '\0' ? ": " : "", v->last);
	switch (WEXITSTATUS(status)) {
	case VIEWER_EXIT_ENDED:
		if (v->refused)
			return err_set(err, ERR_SESSION,
			    "the X server '%s' refused the desktop's windows; "
			    "check DISPLAY and XAUTHORITY",
			    v->display);
		return 0;
	case VIEWER_EXIT_DISPLAY:
		return err_set(err, ERR_SESSION, "%s", why);
	default:
		return err_set(err, ERR_SESSION,
		    "the viewer failed with %d: %s", WEXITSTATUS(status), why);
	}
}
