/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "vma/provision.h"

#define ORDER_FD     3
#define ENV_FILE_MAX (64 * 1024)
#define ARGS_MAX     64

/*
 * mallopt(3). Given, glibc leaves it and the threshold of trimming (128 KiB)
 * alone. By itself it raises both with the first big block that is freed, and
 * keeps what a program freed after it had drawn its first pictures: of 14 MB
 * of a file manager's desktop 8 were such. An image's /etc/environment may say
 * otherwise.
 */
#define MMAP_THRESHOLD "131072"

/* Sets NAME=value from a line of an environment file: "export" and quotes
 * around the value are taken off, nothing is expanded. */
static void
env_line(char *line)
{
	char *name, *value;
	size_t len;

	while (*line == ' ' || *line == '\t')
		line++;
	if (str_starts(line, "export "))
		line += 7;
	name = line;
	value = strchr(line, '=');
	if (*name == '#' || value == NULL)
		return;
	*value++ = '\0';
	len = strlen(value);
	while (len > 0 && strchr(" \t\r", value[len - 1]) != NULL)
		value[--len] = '\0';
	if (len >= 2 && (value[0] == '"' || value[0] == '\'') &&
	    value[len - 1] == value[0]) {
		value[len - 1] = '\0';
		value++;
	}
	if (str_is_name(name, 128))
		setenv(name, value, 1);
}

static void
env_file(const char *path)
{
	_cleanup_(freep)
	char *text = NULL;
	char *p, *line;

	/* Missing is as good as empty. */
	if (fs_read_file(path, ENV_FILE_MAX, &text, NULL, NULL) < 0)
		return;
	for (p = text; (line = strsep(&p, "\n")) != NULL;)
		env_line(line);
}

static void
set_environment(const struct user_account *a, json_t *env)
{
	const char *name;
	json_t *v;

	clearenv();
	setenv("PATH",
	    "/usr/local/bin:/usr/bin:/bin:/usr/local/games:"
	    "/usr/games",
	    1);
	setenv("LANG", "C.UTF-8", 1);
	setenv("MALLOC_MMAP_THRESHOLD_", MMAP_THRESHOLD, 1);
	env_file("/etc/environment");
	env_file("/etc/locale.conf");
	env_file("/etc/default/locale");
	setenv("HOME", a->home, 1);
	setenv("USER", a->name, 1);
	setenv("LOGNAME", a->name, 1);
	setenv("SHELL", a->shell[0] == '\0' ? "/bin/sh" : a->shell, 1);
	json_object_foreach (env, name, v)
		setenv(name, json_string_value(v), 1);
}

static int
become(const struct user_account *a, struct err *err)
{
	pid_t parent = getppid();

	if (setgroups((size_t)a->n_groups, a->groups) < 0 ||
	    setresgid(a->gid, a->gid, a->gid) < 0 ||
	    setresuid(a->uid, a->uid, a->uid) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "become the user '%s'", a->name);
	if (setresuid(0, 0, 0) == 0 || geteuid() != a->uid ||
	    getegid() != a->gid)
		return err_set(
		    err, ERR_INTERNAL, "could not give up root for good");
	/* Cleared by the change of user, so after it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return err_set(err, ERR_CANCELLED, "the agent has ended");
	return 0;
}

/* Standard output and error to the user's own log. */
static void
redirect(const char *path)
{
	_cleanup_(closep)
	int fd = open(path,
	    O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NOCTTY |
		O_CLOEXEC,
	    0600);

	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
}

static int
run(json_t *order, struct err *err)
{
	json_t *argv = json_object_get(order, "argv"), *v;
	const char *log = json_get_str(order, "log", NULL);
	const char *dir = json_get_str(order, "make_dir", NULL);
	char *args[ARGS_MAX + 1] = { NULL };
	struct user_account account;
	size_t i;
	int r;

	r = account_decode(json_object_get(order, "account"), &account, err);
	if (r < 0 || (r = become(&account, err)) < 0)
		return r;
	umask(022);
	set_environment(&account, json_object_get(order, "env"));
	if (chdir(account.home) < 0 && chdir("/") < 0)
		return err_errno(err, ERR_SYSTEM, errno, "enter '/'");
	if (dir != NULL)
		fs_mkdirs(dir, 0700, NULL);
	json_array_foreach (argv, i, v) {
		if (i < ARGS_MAX)
			args[i] = xstrdup(json_string_value(v));
	}
	if (args[0] == NULL)
		return err_set(err, ERR_INTERNAL, "nothing to execute");
	if (log != NULL)
		redirect(log);
	/* No descriptor of the agent's goes along. */
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execv(args[0], args);
	return err_errno(err, ERR_SYSTEM, errno, "execute '%s'", args[0]);
}

int
run_as_main(void)
{
	_cleanup_(freep)
	char *text = NULL;
	struct err err = { 0 };
	json_t *order = NULL;
	size_t len;
	int r;

	log_init("vma/run-as");
	if ((r = fs_read_file(
		 "/proc/self/fd/3", 1024 * 1024, &text, &len, &err)) == 0 &&
	    (r = json_parse(text, len, &order, &err)) == 0)
		r = run(order, &err);
	json_decref(order);
	/* Plain, not as a log line: the agent quotes it. */
	dprintf(STDERR_FILENO, "Error: %s\n", err.msg);
	return 127;
}
