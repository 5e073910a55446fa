/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The agent is process 1 of a PID namespace: it finds the same world as in a
 * container, and its end ends everything that runs. We are outside of it, with
 * the power button and the serial console.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot/boot.h"

#define CONSOLE     "/dev/console"
#define BUTTONS_MAX 8

/* What we wait for. */
enum { AGENT, TERMINAL, BUTTON };

struct machine {
	struct pollfd fds[BUTTON + BUTTONS_MAX];
	int n_fds;
	pid_t shell; /* 0: none */
};

static char *const environment[] = {
	(char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
		  "/sbin:/bin" },
	(char[]){ "TERM=vt102" },
	(char[]){ "HOME=/root" },
	NULL,
};

static _Noreturn void
become_agent(void)
{
	static char self[] = BOOT_AGENT;
	static char machine[] = "--machine";
	char *const argv[] = { self, machine, NULL };

	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		NULL) < 0)
		boot_say("mount /proc: %s", strerror(errno));
	setsid();
	execve(self, argv, environment);
	boot_say("start %s: %s", self, strerror(errno));
	_exit(127);
}

/* A pidfd of it. */
static int
start_agent(void)
{
	int pidfd = -1;
	struct clone_args args = { .flags = CLONE_NEWPID | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0)
		boot_fail("start the agent");
	if (pid == 0)
		become_agent();
	return pidfd;
}

static bool
has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1] = { 0 };

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       (keys[KEY_POWER / 8] & (1 << (KEY_POWER % 8))) != 0;
}

static void
find_buttons(struct machine *m)
{
	DIR *dir = opendir("/dev/input");
	const struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL &&
	       m->n_fds < BUTTON + BUTTONS_MAX) {
		char path[300];
		int fd;

		snprintf(path, sizeof(path), "/dev/input/%s", e->d_name);
		if (strncmp(e->d_name, "event", 5) != 0 ||
		    (fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
			continue;
		if (has_power_key(fd))
			m->fds[m->n_fds++] = (struct pollfd){ fd, POLLIN, 0 };
		else
			close(fd);
	}
	if (dir != NULL)
		closedir(dir);
	if (m->n_fds == BUTTON)
		boot_say("the kernel shows no power button (button, evdev): "
			 "this machine ends only by force");
}

static bool
was_pressed(int fd)
{
	struct input_event event;
	bool pressed = false;

	while (read(fd, &event, sizeof(event)) == sizeof(event))
		pressed |= event.type == EV_KEY && event.code == KEY_POWER &&
			   event.value == 1;
	return pressed;
}

static _Noreturn void
become_shell(void)
{
	static char shell[] = "/bin/sh";
	static char name[] = "-sh";
	char *const argv[] = { name, NULL };
	int fd;

	setsid();
	fd = open(CONSOLE, O_RDWR);
	if (fd < 0 || ioctl(fd, TIOCSCTTY, 1) < 0 || dup2(fd, 0) < 0 ||
	    dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
		_exit(126);
	if (chdir("/root") < 0)
		boot_say("no /root: %s", strerror(errno));
	execve(shell, argv, environment);
	_exit(127);
}

/* Among the agent's processes, so that it sees them and ends with them. Who
 * has the console is root on the node, and needs no password. */
static void
start_shell(struct machine *m)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setns(m->fds[AGENT].fd, CLONE_NEWPID) < 0 ||
		    (pid = fork()) < 0)
			_exit(126);
		if (pid == 0)
			become_shell();
		/* Its parent stays outside, and tells us its end. */
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		_exit(0);
	}
	m->shell = pid > 0 ? pid : 0;
	/* The terminal is the shell's. */
	m->fds[TERMINAL].events = 0;
}

static void
on_child(struct machine *m)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		if (pid == m->shell) {
			m->shell = 0;
			m->fds[TERMINAL].events = POLLIN;
		}
}

static void
on_sigchld(int signum)
{
	/* It interrupts ppoll(). */
}

static void
look(struct machine *m)
{
	int i;

	on_child(m);
	if ((m->fds[TERMINAL].revents & POLLIN) != 0 && m->shell == 0)
		start_shell(m);
	for (i = BUTTON; i < m->n_fds; i++)
		if ((m->fds[i].revents & POLLIN) != 0 &&
		    was_pressed(m->fds[i].fd) &&
		    syscall(SYS_pidfd_send_signal, m->fds[AGENT].fd, SIGTERM,
			NULL, 0) < 0)
			boot_say("tell the agent: %s", strerror(errno));
}

void
boot_run(void)
{
	const struct sigaction action = { .sa_handler = on_sigchld };
	struct machine m = { .n_fds = BUTTON };
	sigset_t child, none;

	sigemptyset(&none);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	m.fds[TERMINAL] =
	    (struct pollfd){ open(CONSOLE, O_RDWR | O_NOCTTY | O_CLOEXEC),
		    POLLIN, 0 };
	m.fds[AGENT] = (struct pollfd){ start_agent(), POLLIN, 0 };
	/* After the start: the agent gets a mask with nothing in it. */
	if (sigaction(SIGCHLD, &action, NULL) < 0 ||
	    sigprocmask(SIG_BLOCK, &child, NULL) < 0)
		boot_fail("watch for ends");
	find_buttons(&m);
	boot_say("the agent is started; Enter gives a shell");
	while ((m.fds[AGENT].revents & POLLIN) == 0) {
		if (ppoll(m.fds, (nfds_t)m.n_fds, NULL, &none) >= 0)
			look(&m);
		else if (errno == EINTR)
			on_child(&m);
		else
			boot_fail("wait");
	}
	boot_say("the agent has ended");
	if (umount2("/home", 0) < 0)
		boot_say("unmount /home: %s", strerror(errno));
}
