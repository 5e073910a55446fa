/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "client/cli.h"

#define SECRET_MAX 4096

/* Takes a variable out of the environment, so that neither children nor
 * /proc/PID/environ have it. */
static char *
take_env(const char *name)
{
	char *value = getenv(name), *copy;

	if (value == NULL || value[0] == '\0')
		return NULL;
	copy = xstrdup(value);
	explicit_bzero(value, strlen(value));
	unsetenv(name);
	return copy;
}

/* One line from fd; NULL with errno, or 0 if it is empty or too long. */
static char *
read_line(int fd)
{
	char line[SECRET_MAX], *copy = NULL;
	size_t n = 0;
	ssize_t r;

	for (;;) {
		r = read(fd, line + n, 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0 || line[n] == '\n' || n == sizeof(line) - 1)
			break;
		n++;
	}
	if (r == 0 || (r > 0 && line[n] == '\n')) {
		line[n] = '\0';
		line[strcspn(line, "\r")] = '\0';
		errno = 0;
		if (line[0] != '\0')
			copy = xstrdup(line);
	}
	explicit_bzero(line, sizeof(line));
	return copy;
}

static int
from_file(const char *path, char **ret, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(
		    err, ERR_CONFIG, errno, "read the password in '%s'", path);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
		return err_set(err, ERR_CONFIG,
		    "others can read the password in '%s'; 'chmod 600' it, "
		    "and change the password if somebody may have seen it",
		    path);
	*ret = read_line(fd);
	if (*ret == NULL)
		return err_set(err, ERR_CONFIG,
		    "the first line of '%s' is no password", path);
	return 0;
}

/* Restored also when a signal ends the program meanwhile. */
static struct {
	volatile sig_atomic_t active;
	int fd;
	struct termios old;
} tty;

static void
on_signal(int signum)
{
	if (tty.active)
		tcsetattr(tty.fd, TCSAFLUSH, &tty.old);
	signal(signum, SIG_DFL);
	raise(signum);
}

static int
from_tty(const char *user, const char *host, char **ret, struct err *err)
{
	_cleanup_(closep)
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
	struct termios silent;

	if (fd < 0 || tcgetattr(fd, &tty.old) < 0)
		return err_set(err, ERR_USAGE,
		    "no terminal to ask for the password; use --password-file "
		    "or QVD_PASSWORD");
	tty.fd = fd;
	tty.active = 1;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	silent = tty.old;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
	tcsetattr(fd, TCSAFLUSH, &silent);
	dprintf(fd, "Password of %s at %s: ", user, host);
	*ret = read_line(fd);
	tcsetattr(fd, TCSAFLUSH, &tty.old);
	tty.active = 0;
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	dprintf(fd, "\n");
	if (*ret == NULL)
		return err_set(err, ERR_USAGE, "no password was given");
	return 0;
}

int
cli_secret_get(struct cli_options *o, struct err *err)
{
	char *password = take_env("QVD_PASSWORD");

	o->token = take_env("QVD_TOKEN");
	if (o->token != NULL || o->user == NULL) {
		wipe_str(password);
		if (o->token != NULL)
			return 0;
		return err_set(
		    err, ERR_USAGE, "who are you? Give --user or set QVD_USER");
	}
	if (o->password_file != NULL) {
		wipe_str(password);
		return from_file(o->password_file, &o->password, err);
	}
	if (password != NULL) {
		o->password = password;
		return 0;
	}
	return from_tty(o->user, o->host, &o->password, err);
}
