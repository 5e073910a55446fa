/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"

#define SAID_MAX 300

const char *
tool_find(const char *const *paths)
{
	for (; *paths != NULL; paths++)
		if (access(*paths, X_OK) == 0)
			return *paths;
	return NULL;
}

static _noreturn_ void
become(const char *const *argv, int out)
{
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	static char locale[] = "LC_ALL=C.UTF-8";
	char *const env[] = { path, locale, NULL };
	const int fds[] = { -1, out, out };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (proc_place_fds(fds, 3) == 0)
		/* execve() doesn't write to them. */
		execve(argv[0], (char *const *)(uintptr_t)argv, env);
	_exit(127);
}

/* qemu-img says "    (12.34/100%)" and goes back to the line's begin. */
static void
hear_percent(const char *said, tool_tell_cb tell)
{
	const char *p = strrchr(said, '(');
	int percent = 0;

	if (p == NULL || strstr(p, "/100%)") == NULL)
		return;
	for (p++; *p >= '0' && *p <= '9' && percent < 100; p++)
		percent = 10 * percent + (*p - '0');
	tell(percent < 100 ? percent : 100);
}

/* All that it says, of which the end is kept. */
static void
listen_to(int fd, tool_tell_cb tell, char said[static SAID_MAX])
{
	size_t n = 0;
	char buf[512];
	ssize_t got;

	while ((got = read(fd, buf, sizeof(buf))) > 0 ||
	       (got < 0 && errno == EINTR)) {
		size_t len = got < 0 ? 0 : (size_t)got;
		const char *end = buf + len;

		if (len > SAID_MAX - 1)
			len = SAID_MAX - 1;
		if (n + len > SAID_MAX - 1) {
			size_t cut = n + len - (SAID_MAX - 1);

			memmove(said, said + cut, n - cut);
			n -= cut;
		}
		memcpy(said + n, end - len, len);
		n += len;
		said[n] = '\0';
		if (tell != NULL)
			hear_percent(said, tell);
	}
	while (n > 0 && said[n - 1] == '\n')
		n--;
	said[n] = '\0';
}

int
tool_run_telling(
    const char *const *argv, int ok_max, tool_tell_cb tell, struct err *err)
{
	char said[SAID_MAX] = "", shown[2 * SAID_MAX];
	const char *why;
	int out[2], status = -1;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	pid = fork();
	if (pid == 0)
		become(argv, out[1]);
	close(out[1]);
	if (pid > 0) {
		listen_to(out[0], tell, said);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(out[0]);
	if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) <= ok_max)
		return 0;
	/* What stood in the line before was progress. */
	why = strrchr(said, '\r') == NULL ? said : strrchr(said, '\r') + 1;
	return err_set(err,
	    strstr(said, "No space left") != NULL ? ERR_NO_SPACE : ERR_SYSTEM,
	    "%s failed: %s", argv[0],
	    why[0] != '\0' ? str_escape(shown, sizeof(shown), why, strlen(why))
			   : "it doesn't say why");
}

int
tool_copy_tree(const char *from, const char *to, struct err *err)
{
	static const char *const paths[] = { "/bin/cp", "/usr/bin/cp", NULL };
	const char *argv[] = { tool_find(paths), "-a", "--reflink=auto", "-T",
		from, to, NULL };

	if (argv[0] == NULL)
		return err_set(err, ERR_CONFIG,
		    "no program cp is there (package coreutils)");
	return tool_run(argv, 0, err);
}
