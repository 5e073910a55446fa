/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd vm console and qvd vm screen: a stream of a virtual machine's own
 * device, that the API hands on. The console is shown on this terminal. The
 * screen (VNC) is offered on a unix socket for its caller alone, and a viewer
 * is started if there is one and somewhere to show it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/vm.h"
#include "json/json.h"

#define HEAD_MAX 65536
#define CHUNK    16384
#define ESCAPE   0x1d /* Ctrl-] */

/* ---- a stream through the API ---- */

static int
connect_api(const struct cli *cli, int *ret_fd, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
	    !str_copy(sun.sun_path, sizeof(sun.sun_path), cli->socket))
		return err_set(err, ERR_USAGE, "'%s' is too long for a socket",
		    cli->socket);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_errno(err, ERR_UNAVAILABLE, errno,
		    "connect to the API's socket '%s'", cli->socket);
	*ret_fd = take_fd(&fd);
	return 0;
}

static bool
write_all(int fd, const char *data, size_t n)
{
	ssize_t w;

	for (; n > 0; data += w, n -= (size_t)w) {
		w = write(fd, data, n);
		if (w < 0 && errno == EINTR)
			w = 0;
		if (w < 0)
			return false;
	}
	return true;
}

/* The head of the answer and, byte by byte, nothing of what follows it. */
static int
read_head(int fd, char *head, size_t size, struct err *err)
{
	size_t n = 0;

	while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0)
		if (n + 1 == size || read(fd, head + n++, 1) != 1)
			return err_set(err, ERR_PROTOCOL,
			    "what answers is not QVD's API, or has ended");
	head[n] = '\0';
	return 0;
}

/* The API closes after an error: its body is all that comes. */
static int
read_refusal(int fd, struct err *err)
{
	_cleanup_(freep)
	char *text = xcalloc(HEAD_MAX, 1);
	_cleanup_(json_decrefp)
	json_t *value = NULL;
	size_t len = 0;
	ssize_t n;

	while (len < HEAD_MAX - 1 &&
	       (n = read(fd, text + len, HEAD_MAX - 1 - len)) > 0)
		len += (size_t)n;
	if (json_parse(text, len, &value, err) < 0)
		return err_set(
		    err, ERR_PROTOCOL, "the API refused without a reason");
	return json_to_err(value, err);
}

static int
open_stream(struct cli *cli, const char *path, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *ask = xasprintf("POST %s HTTP/1.1\r\nHost: qvd\r\n"
			      "Connection: Upgrade\r\n"
			      "Upgrade: qvd-stream/1\r\n\r\n",
	    path);
	_cleanup_(freep)
	char *head = xcalloc(HEAD_MAX, 1);
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = connect_api(cli, &fd, err)) < 0)
		return r;
	if (!write_all(fd, ask, strlen(ask)))
		return err_errno(
		    err, ERR_NETWORK, errno, "ask the API for the stream");
	if ((r = read_head(fd, head, HEAD_MAX, err)) < 0)
		return r;
	if (!str_starts(head, "HTTP/1.1 101 ")) {
		shutdown(fd, SHUT_WR);
		return read_refusal(fd, err);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- from one to the other ---- */

static volatile sig_atomic_t interrupted;

static void
on_signal(int signum)
{
	interrupted = 1;
}

static void
catch_signals(void)
{
	const struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* What is there to read goes to the other side; false at its end. escape: a
 * byte that ends it, -1: none. */
static bool
pass(int from, int to, int escape)
{
	char chunk[CHUNK];
	const char *end;
	ssize_t n = read(from, chunk, sizeof(chunk));

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	end = escape >= 0 ? memchr(chunk, escape, (size_t)n) : NULL;
	if (end != NULL)
		n = end - chunk;
	return write_all(to, chunk, (size_t)n) && end == NULL;
}

/* Until the stream ends, the escape is typed, the watched descriptor (-1:
 * none) becomes readable or a signal comes. What is typed may end earlier
 * than what is shown. */
static void
relay(int in, int out, int stream, int escape, int watched)
{
	struct pollfd fds[] = { { stream, POLLIN, 0 }, { in, POLLIN, 0 },
		{ watched, POLLIN, 0 } };

	while (!interrupted) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (fds[2].revents != 0)
			return;
		if (fds[0].revents != 0 && !pass(stream, out, -1))
			return;
		if (fds[1].revents != 0 && !pass(in, stream, escape)) {
			if (escape >= 0 || in == out)
				return;
			fds[1].fd = -1;
		}
	}
}

/* ---- the console ---- */

int
vm_console(struct cli *cli, const struct values *values, struct err *err)
{
	struct termios saved, raw;
	bool terminal = tcgetattr(STDIN_FILENO, &saved) == 0;
	_cleanup_(closep)
	int fd = -1;
	int64_t id;
	int r;

	if ((r = api_id(cli, ARG_VM, value_get(values, "VM"), &id, err)) < 0 ||
	    (r = open_stream(cli, api_path(cli, values->noun, id, "/console"),
		 &fd, err)) < 0)
		return r;
	catch_signals();
	if (terminal) {
		fprintf(stderr,
		    "The console of VM %lld; Ctrl-] leaves it, "
		    "Enter may show its prompt.\n",
		    (long long)id);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	relay(STDIN_FILENO, STDOUT_FILENO, fd, terminal ? ESCAPE : -1, -1);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
		fputs("\n", stderr);
	}
	return 0;
}

/* ---- the screen ---- */

struct screen {
	char dir[64]; /* ours alone */
	char path[80];
	int listening;
	pid_t viewer; /* 0: none was started */
	int viewer_fd;
};

static int
listen_privately(struct screen *s, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	str_copy(s->dir, sizeof(s->dir), "/tmp/qvd-screen-XXXXXX");
	if (mkdtemp(s->dir) == NULL)
		return err_errno(err, ERR_SYSTEM, errno, "make a directory");
	snprintf(s->path, sizeof(s->path), "%s/vnc", s->dir);
	str_copy(sun.sun_path, sizeof(sun.sun_path), s->path);
	s->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listening < 0 ||
	    bind(s->listening, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    chmod(s->path, 0600) < 0 || listen(s->listening, 4) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "listen at %s", s->path);
	return 0;
}

/* TigerVNC's takes a unix socket by its path. */
static void
start_viewer(struct screen *s)
{
	static const char viewer[] = "/usr/bin/vncviewer";
	const char *display = getenv("DISPLAY");

	if (display == NULL || display[0] == '\0' || access(viewer, X_OK) < 0)
		return;
	s->viewer = fork();
	if (s->viewer == 0) {
		execl(viewer, viewer, s->path, (char *)NULL);
		_exit(127);
	}
	if (s->viewer > 0)
		s->viewer_fd = (int)syscall(SYS_pidfd_open, s->viewer, 0);
}

static void
screen_done(struct screen *s)
{
	if (s->viewer > 0 && s->viewer_fd >= 0) {
		kill(s->viewer, SIGTERM);
		waitpid(s->viewer, NULL, 0);
	}
	closep(&s->viewer_fd);
	closep(&s->listening);
	if (s->path[0] != '\0')
		unlink(s->path);
	if (s->dir[0] != '\0')
		rmdir(s->dir);
}

/* Viewers one after the other: QEMU shares the screen, a terminal has one
 * user. */
static int
serve_viewers(struct cli *cli, struct screen *s, const char *path, int first,
    struct err *err)
{
	struct pollfd fds[] = { { s->listening, POLLIN, 0 },
		{ s->viewer_fd, POLLIN, 0 } };
	int r;

	while (!interrupted) {
		_cleanup_(closep)
		int viewer = -1;
		_cleanup_(closep)
		int stream = -1;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 || fds[1].revents != 0)
			break;
		viewer = accept4(s->listening, NULL, NULL, SOCK_CLOEXEC);
		if (viewer < 0)
			continue;
		stream = first;
		first = -1;
		if (stream < 0 &&
		    (r = open_stream(cli, path, &stream, err)) < 0)
			return r;
		relay(viewer, viewer, stream, -1, s->viewer_fd);
	}
	closep(&first);
	return 0;
}

int
vm_screen(struct cli *cli, const struct values *values, struct err *err)
{
	struct screen s = { .listening = -1, .viewer_fd = -1 };
	const char *path;
	int64_t id;
	int fd = -1, r;

	if ((r = api_id(cli, ARG_VM, value_get(values, "VM"), &id, err)) < 0)
		return r;
	path = api_path(cli, values->noun, id, "/screen");
	/* Before anything is offered: whether there is a screen. */
	if ((r = open_stream(cli, path, &fd, err)) < 0)
		return r;
	catch_signals();
	if ((r = listen_privately(&s, err)) == 0) {
		printf(
		    "The screen of VM %lld (VNC): %s\n", (long long)id, s.path);
		if (!cli->quiet)
			printf("Ctrl-C ends it. Here: vncviewer %s\n"
			       "From elsewhere: ssh -L 5900:%s root@NODE, "
			       "then vncviewer localhost:5900\n",
			    s.path, s.path);
		fflush(stdout);
		start_viewer(&s);
		r = serve_viewers(cli, &s, path, take_fd(&fd), err);
	}
	closep(&fd);
	screen_done(&s);
	return r;
}
