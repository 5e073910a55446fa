/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Passwords come from the terminal, standard input or a file, never from the
 * command line, which every user of the machine can read. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

#define PASSWORD_MAX 512

/* Reads up to a line's end; wipes what it leaves. */
static int
read_line(int fd, char *line, size_t size, struct err *err)
{
	size_t n = 0;
	ssize_t got;
	char c;

	while ((got = read(fd, &c, 1)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "read the password");
		if (c == '\n')
			break;
		if (n + 1 == size)
			return err_set(err, ERR_USAGE,
			    "the password is longer than %d bytes",
			    PASSWORD_MAX);
		line[n++] = c;
	}
	line[n] = '\0';
	if (n > 0 && line[n - 1] == '\r')
		line[n - 1] = '\0';
	return 0;
}

static int
ask(int tty, const char *prompt, char *line, size_t size, struct err *err)
{
	struct termios old, quiet;
	ssize_t w _unused_;
	int r;

	if (tcgetattr(tty, &old) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "terminal");
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(tty, TCSAFLUSH, &quiet);
	w = write(tty, prompt, strlen(prompt));
	r = read_line(tty, line, size, err);
	tcsetattr(tty, TCSADRAIN, &old);
	w = write(tty, "\n", 1);
	return r;
}

static int
from_terminal(const char *prompt, char *ret, size_t size, struct err *err)
{
	_cleanup_(closep)
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	char again[PASSWORD_MAX + 1];
	int r;

	if (tty < 0)
		return err_set(err, ERR_USAGE,
		    "no terminal to ask for the password; give it on "
		    "standard input with --password-file -");
	r = ask(tty, prompt, ret, size, err);
	if (r == 0)
		r = ask(tty, "Again: ", again, sizeof(again), err);
	if (r == 0 && !str_eq(ret, again))
		r = err_set(err, ERR_USAGE, "the two passwords differ");
	explicit_bzero(again, sizeof(again));
	return r;
}

static int
from_file(const char *file, char *ret, size_t size, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;

	if (str_eq(file, "-"))
		return read_line(STDIN_FILENO, ret, size, err);
	if ((fd = open(file, O_RDONLY | O_CLOEXEC)) < 0)
		return err_errno(err, ERR_USAGE, errno, "'%s'", file);
	return read_line(fd, ret, size, err);
}

int
password_read(const char *file, const char *prompt, char **ret, struct err *err)
{
	char line[PASSWORD_MAX + 1];
	int r;

	r = file != NULL ? from_file(file, line, sizeof(line), err)
			 : from_terminal(prompt, line, sizeof(line), err);
	if (r == 0 && *line == '\0')
		r = err_set(err, ERR_USAGE, "the password is empty");
	if (r == 0)
		*ret = xstrdup(line);
	explicit_bzero(line, sizeof(line));
	return r;
}
