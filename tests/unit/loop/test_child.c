/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/loop_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "loop/child.h"

static struct err err;

struct ended {
	int calls;
	int status;
	bool timed_out;
};

static void
on_end(struct child *child, int status, bool timed_out, void *arg)
{
	struct ended *e = arg;

	e->calls++;
	e->status = status;
	e->timed_out = timed_out;
}

static struct child *
shell(const char *script, struct child_spec *spec, struct ended *e)
{
	const char *argv[] = { "sh", "-c", script, NULL };

	spec->path = "/bin/sh";
	spec->argv = argv;
	return child_spawn(loop, spec, on_end, e, &err);
}

/* Reads until the end of the pipe, turning no loop. */
static void
read_all(int fd, char *dst, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, dst + len, size - len - 1)) > 0)
		len += (size_t)n;
	dst[len] = '\0';
	close(fd);
}

static void
reports_how_it_ended(void **state)
{
	struct child_spec spec = { 0 };
	struct ended e = { 0 };

	assert_non_null(shell("exit 3", &spec, &e));
	run_until(e.calls == 1);
	assert_true(WIFEXITED(e.status) && WEXITSTATUS(e.status) == 3);
	assert_err(child_status_err("hook", e.status, false, &err), SYSTEM,
	    "hook: exited with 3");
	assert_err(child_status_err("hook", SIGKILL, false, &err), SYSTEM,
	    "killed by signal 9");
	assert_err(
	    child_status_err("hook", SIGTERM, true, &err), TIMEOUT, "too long");
	assert_ok(child_status_err("hook", 0, false, &err));
}

static void
says_why_it_did_not_start(void **state)
{
	const char *argv[] = { "x", NULL };
	struct child_spec spec = { .path = "/nonexistent", .argv = argv };

	assert_null(child_spawn(loop, &spec, on_end, NULL, &err));
	assert_non_null(strstr(err.msg, "start '/nonexistent': execute"));
	spec.path = "/bin/true";
	spec.cwd = "/nonexistent";
	assert_null(child_spawn(loop, &spec, on_end, NULL, &err));
	assert_non_null(strstr(err.msg, "directory"));
}

static void
passes_exactly_the_given_descriptors(void **state)
{
	struct child_spec spec = { 0 };
	struct ended e = { 0 };
	char text[256];
	int out[2];

	assert_int_equal(pipe(out), 0);
	spec.fds[0] = -1;
	spec.fds[1] = out[1];
	spec.fds[2] = -1;
	spec.fds[3] = out[1];
	spec.n_fds = 4;
	assert_non_null(shell("echo /proc/self/fd/*; "
			      "readlink /proc/$$/fd/0; echo $PATH >&3",
	    &spec, &e));
	close(out[1]);
	read_all(out[0], text, sizeof(text));
	/* 3 was for the expansion's directory, which is 4th. */
	assert_non_null(strstr(text, "/fd/0 /proc/self/fd/1 /proc/self/fd/2 "
				     "/proc/self/fd/3"));
	assert_null(strstr(text, "/fd/5"));
	assert_non_null(strstr(text, "/dev/null"));
	assert_non_null(strstr(text, "/usr/bin"));
	run_until(e.calls == 1);
}

static void
a_deadline_kills_the_whole_group(void **state)
{
	struct child_spec spec = { .deadline_ms = 1000, .n_fds = 2 };
	struct ended e = { 0 };
	char text[64];
	int out[2];

	assert_int_equal(pipe(out), 0);
	spec.fds[0] = -1;
	spec.fds[1] = out[1];
	assert_non_null(shell("sleep 1000 & echo on; wait", &spec, &e));
	close(out[1]);
	run_until(e.calls == 1);
	assert_true(e.timed_out);
	assert_int_equal(WTERMSIG(e.status), SIGTERM);
	/* The pipe ends only when the grandchild has gone, too. */
	read_all(out[0], text, sizeof(text));
	assert_string_equal(text, "on\n");
}

static void
a_deaf_child_is_killed_after_the_grace(void **state)
{
	struct child_spec spec = { .deadline_ms = 1000 };
	struct ended e = { 0 };

	assert_non_null(
	    shell("trap '' TERM; while :; do sleep 0.1; done", &spec, &e));
	run_for(1500);
	assert_int_equal(e.calls, 0);
	run_until(e.calls == 1);
	assert_true(e.timed_out);
	assert_int_equal(WTERMSIG(e.status), SIGKILL);
}

static void
one_that_is_passed_on_is_anothers(void **state)
{
	struct child_spec spec = { .deadline_ms = 1000 };
	struct ended first = { 0 }, second = { 0 }, third = { 0 };
	struct child *child = shell("sleep 1000", &spec, &first);

	child_pass(child, 0, on_end, &second);
	run_for(1500); /* the first deadline is no more */
	assert_int_equal(second.calls, 0);
	child_pass(child, 1, on_end, &third);
	run_until(third.calls == 1);
	assert_true(third.timed_out);
	assert_int_equal(first.calls + second.calls, 0);
}

static void
freeing_kills_without_a_callback(void **state)
{
	struct child_spec spec = { 0 };
	struct ended e = { 0 };
	struct child *child = shell("sleep 1000", &spec, &e);
	pid_t pid = child_pid(child);

	child_free(child);
	run_until(waitpid(pid, NULL, WNOHANG) < 0 && errno == ECHILD);
	assert_int_equal(e.calls, 0);
	/* One that is not reaped yet when the loop goes. */
	child_free(shell("sleep 1000", &spec, &e));
}

static void
ignored_signals_are_not_inherited(void **state)
{
	struct child_spec spec = { 0 };
	struct ended e = { 0 };

	signal(SIGPIPE, SIG_IGN);
	assert_non_null(shell("kill -PIPE $$; exit 0", &spec, &e));
	run_until(e.calls == 1);
	assert_true(WIFSIGNALED(e.status));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		loop_test(reports_how_it_ended),
		loop_test(says_why_it_did_not_start),
		loop_test(passes_exactly_the_given_descriptors),
		loop_test(a_deadline_kills_the_whole_group),
		loop_test(a_deaf_child_is_killed_after_the_grace),
		loop_test(one_that_is_passed_on_is_anothers),
		loop_test(freeing_kills_without_a_callback),
		loop_test(ignored_signals_are_not_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
