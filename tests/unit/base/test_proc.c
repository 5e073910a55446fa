/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/enum.h"
#include "base/log.h"
#include "base/proc.h"

static struct err err;

static int
exit_code_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void
start_time_names_a_process(void **state)
{
	unsigned long long mine = proc_start_time(getpid());
	pid_t pid;

	assert_true(mine > 0);
	assert_true(proc_start_time(getpid()) == mine);
	assert_int_equal(proc_start_time(0x7ffffff0), 0);
	/* A name can't fool it. */
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, ") R 1\n(");
		_exit(proc_start_time(getpid()) >= mine ? 0 : 1);
	}
	assert_int_equal(exit_code_of(pid), 0);
}

static void
users(void **state)
{
	struct proc_user user;
	pid_t pid;

	assert_ok(proc_find_user("root", &user, &err));
	assert_int_equal(user.uid, 0);
	assert_err(proc_find_user("no-such-user", &user, &err), CONFIG,
	    "'no-such-user' does not exist; run tools/setup");
	if (getuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		user = (struct proc_user){ 65534, 65534 };
		if (proc_drop_user(&user, NULL) < 0)
			_exit(1);
		if (getuid() != 65534 || getegid() != 65534)
			_exit(2);
		_exit(proc_drop_user(&(struct proc_user){ 0, 0 }, NULL) < 0
			  ? 0
			  : 3);
	}
	assert_int_equal(exit_code_of(pid), 0);
}

static void
places_exactly_the_descriptors(void **state)
{
	int pair[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		/* 0: /dev/null, 1: what was pair[1], 2: the same, 3: closed */
		int fds[3] = { -1, pair[1], pair[1] };

		if (proc_place_fds(fds, 3) < 0)
			_exit(1);
		if (read(0, &byte, 1) != 0)
			_exit(2);
		if (write(1, "a", 1) != 1 || write(2, "b", 1) != 1)
			_exit(3);
		if ((fcntl(1, F_GETFD) & FD_CLOEXEC) != 0)
			_exit(4);
		for (int fd = 3; fd < 100; fd++)
			if (fcntl(fd, F_GETFD) >= 0)
				_exit(5);
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(exit_code_of(pid), 0);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(read(pair[0], &byte, 1), 1);
	assert_int_equal(byte, 'b');
	assert_int_equal(read(pair[0], &byte, 1), 0);
	close(pair[0]);

	errno = 0;
	assert_int_equal(proc_place_fds((int[17]){ 0 }, 17), -1);
	assert_int_equal(errno, EINVAL);
}

#define FRUIT_TABLE(X) X(APPLE, "apple") X(FIG, "fig")
enum fruit {
#define X(name, word) FRUIT_##name,
	FRUIT_TABLE(X)
#undef X
};
ENUM_FUNCTIONS(fruit);
#define X(name, word) [FRUIT_##name] = word,
ENUM_DEFINE(fruit, FRUIT_TABLE(X));
#undef X

static void
enums_have_words(void **state)
{
	enum fruit f;

	assert_string_equal(fruit_to_str(FRUIT_FIG), "fig");
	assert_string_equal(fruit_to_str((enum fruit)7), "?");
	assert_string_equal(fruit_to_str((enum fruit) - 1), "?");
	assert_true(fruit_from_str("fig", &f));
	assert_int_equal(f, FRUIT_FIG);
	assert_false(fruit_from_str("", &f));
	assert_int_equal(fruit_words.count, 2);
}

/* Standard error of a log call, in a child. */
static ssize_t
logged(char *dst, size_t size, void (*call)(void))
{
	int pair[2];
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		dup2(pair[1], STDERR_FILENO);
		call();
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(exit_code_of(pid), 0);
	n = read(pair[0], dst, size - 1);
	close(pair[0]);
	dst[n < 0 ? 0 : n] = '\0';
	return n;
}

static void
log_plain(void)
{
	unsetenv("JOURNAL_STREAM");
	setenv("QVD_LOG", "warn", 1);
	log_init("test/one");
	log_info("not shown");
	err_set(&err, ERR_CONFLICT, "it runs");
	log_err(LOG_LEVEL_WARN, &err, "start VM %d", 3);
}

static void
log_journal(void)
{
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_init("test");
	log_error("text");
}

static void
log_long(void)
{
	char big[20000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_error("%s", big);
}

static void
log_lines(void **state)
{
	char line[30000], expect[64];
	ssize_t n;

	logged(line, sizeof(line), log_plain);
	assert_non_null(strstr(line, "Z warn  test/one["));
	snprintf(expect, sizeof(expect), "] start VM 3: it runs (conflict)\n");
	assert_non_null(strstr(line, expect));
	assert_null(strstr(line, "not shown"));
	logged(line, sizeof(line), log_journal);
	assert_string_equal(line, "<3>test: text\n");
	n = logged(line, sizeof(line), log_long);
	assert_in_range(n, 3000, 4096);
	assert_int_equal(line[n - 1], '\n');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(start_time_names_a_process),
		cmocka_unit_test(users),
		cmocka_unit_test(places_exactly_the_descriptors),
		cmocka_unit_test(enums_have_words),
		cmocka_unit_test(log_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
