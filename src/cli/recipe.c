/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A recipe's build, by images/build: its steps are shown while they are
 * written to its log, and it ends with this command. */
#include "cli/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define LOOK_MS  1000
#define LINE_MAX 400

struct build {
	struct cli *cli;
	const struct recipe *recipe;
	pid_t pid;
	int out, said;         /* its standard output and error */
	struct timespec begun; /* by the clock of files */
	int64_t begun_ms;
	int log; /* -1: it writes none yet */
	char line[LINE_MAX];
	size_t len;
};

static bool
is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec
				      : a->tv_nsec < b->tv_nsec;
}

/* The log that is written now; of another builder's that it waits for, too. */
static void
open_log(struct build *b)
{
	const struct recipe *r = b->recipe;
	_cleanup_(freep)
	char *pattern = xasprintf("%s/%s-????????????.log", r->out, r->name);
	glob_t found = { 0 };
	struct stat st;
	size_t i;

	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		found.gl_pathc = 0;
	for (i = 0; i < found.gl_pathc && b->log < 0; i++) {
		if (stat(found.gl_pathv[i], &st) < 0 ||
		    is_before(&st.st_mtim, &b->begun))
			continue;
		b->log = open(found.gl_pathv[i], O_RDONLY | O_CLOEXEC);
		if (b->log >= 0 && !b->cli->quiet)
			fprintf(stderr, "building recipe %s; its log: %s\n",
			    r->name, found.gl_pathv[i]);
	}
	globfree(&found);
}

/* mmdebstrap's own steps are the ones that tell how far it is. */
static void
show_step(struct build *b)
{
	static const char mark[] = "I: ";
	int64_t s = (time_now_ms() - b->begun_ms) / 1000;

	b->line[b->len] = '\0';
	b->len = 0;
	if (str_starts(b->line, mark))
		progress_show(b->cli,
		    arena_printf(b->cli->arena, "building %s, %lld s: %s",
			b->recipe->name, (long long)s,
			text_clean(b->cli, b->line + strlen(mark))));
}

static void
read_log(struct build *b)
{
	char buf[4096];
	ssize_t n, i;

	if (b->log < 0)
		open_log(b);
	while (b->log >= 0 && (n = read(b->log, buf, sizeof(buf))) > 0)
		for (i = 0; i < n; i++) {
			if (buf[i] == '\n')
				show_step(b);
			else if (b->len + 1 < LINE_MAX)
				b->line[b->len++] = buf[i];
		}
}

/* What the builder itself says, not into the middle of a step. */
static void
pass_on(struct build *b)
{
	char buf[4096];
	ssize_t n = read(b->said, buf, sizeof(buf));

	if (n <= 0) {
		closep(&b->said);
		return;
	}
	progress_show(b->cli, "");
	fwrite(buf, 1, (size_t)n, stderr);
}

/* Until both are at their end. ret: the first line of its output. */
static void
follow(struct build *b, char *ret, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (b->out >= 0 || b->said >= 0) {
		struct pollfd fds[] = { { b->out, POLLIN, 0 },
			{ b->said, POLLIN, 0 } };

		poll(fds, 2, LOOK_MS);
		read_log(b);
		if (fds[1].revents != 0)
			pass_on(b);
		if (fds[0].revents == 0)
			continue;
		n = len + 1 < size ? read(b->out, ret + len, size - 1 - len)
				   : 0;
		if (n <= 0)
			closep(&b->out);
		else
			len += (size_t)n;
	}
	progress_show(b->cli, "");
	ret[len] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}

static _noreturn_ void
become(const struct recipe *r, int out, int said)
{
	const char *argv[] = { r->builder, r->name, r->out, NULL, NULL };

	if (r->fresh) {
		argv[1] = "--fresh";
		argv[2] = r->name;
		argv[3] = r->out;
	}
	/* A group: all that it runs ends with this command. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(out, STDOUT_FILENO);
	dup2(said, STDERR_FILENO);
	execv(r->builder, (char *const *)(uintptr_t)argv);
	_exit(127);
}

static int
start(struct build *b, struct err *err)
{
	int out[2], said[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	if (pipe2(said, O_CLOEXEC) < 0 || (b->pid = fork()) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "start %s", b->recipe->builder);
	if (b->pid == 0)
		become(b->recipe, out[1], said[1]);
	setpgid(b->pid, b->pid); /* whoever of both is first */
	close(out[1]);
	close(said[1]);
	b->out = out[0];
	b->said = said[0];
	return 0;
}

int
recipe_build(struct cli *cli, const struct recipe *recipe, char *ret_tar,
    size_t size, struct err *err)
{
	struct build b = { .cli = cli,
		.recipe = recipe,
		.begun_ms = time_now_ms(),
		.log = -1 };
	int status, r;

	clock_gettime(CLOCK_REALTIME_COARSE, &b.begun);
	if ((r = start(&b, err)) < 0)
		return r;
	interrupt_begin(
	    "The build has ended; nothing of it stays but its log.\n", NULL);
	interrupt_group(b.pid);
	follow(&b, ret_tar, size);
	while (waitpid(b.pid, &status, 0) < 0 && errno == EINTR)
		;
	interrupt_end();
	closep(&b.log);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || ret_tar[0] != '/')
		return err_set(err, ERR_IMAGE,
		    "recipe '%s' could not be built; see above", recipe->name);
	return 0;
}
