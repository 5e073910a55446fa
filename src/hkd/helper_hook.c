/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Host hooks: programs of the administrator's around a VM's run, as root.
 * Main names one; where it is, that it is root's and that nobody else can
 * write it is seen to here. It gets JSON on its standard input, no descriptor
 * of ours, a deadline, and a few lines to say what is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/helper_priv.h"
#include "json/json.h"
#include "loop/child.h"
#include "model/states.h"

#define INPUT_MAX    (64 * 1024)
#define SAID_MAX     4096 /* of what it prints; the rest goes nowhere */
#define DEADLINE_MAX 600000

struct hook {
	struct job *job;
	struct child *child;
	int said; /* memfd: its standard output and error */
	char name[NAME_MAX + 16];
};

struct hook_args {
	int64_t vm_id;
	enum host_hook hook;
	const char *program;
	int64_t deadline_ms;
	const char *input; /* JSON text */
};

static const struct field hook_fields[] = {
	FIELD(struct hook_args, vm_id, I64, .flags = FIELD_REQUIRED, .min = 1,
	    .max = HV_VM_ID_MAX),
	FIELD_ENUM_OF(
	    struct hook_args, hook, host_hook_words, .flags = FIELD_REQUIRED),
	FIELD(struct hook_args, program, STR,
	    .flags = FIELD_REQUIRED | FIELD_NAME, .max = 64),
	FIELD(struct hook_args, deadline_ms, I64, .flags = FIELD_REQUIRED,
	    .min = 1, .max = DEADLINE_MAX),
	FIELD(struct hook_args, input, JSON, .flags = FIELD_REQUIRED), FIELD_END
};

static int
check_owner(const char *path, const char *what, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_errno(err, ERR_CONFIG, errno, "%s %s", what, path);
	if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
	    S_ISLNK(st.st_mode))
		return err_set(err, ERR_CONFIG,
		    "%s %s must be root's, no link, and nobody else may write "
		    "it (chown root, chmod go-w)",
		    what, path);
	return 0;
}

static int
find_program(
    const struct helper *h, const char *name, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", h->conf->hooks_dir, name);
	int r;

	if ((r = check_owner(
		 h->conf->hooks_dir, "the folder of host hooks", err)) < 0 ||
	    (r = check_owner(path, "host hook", err)) < 0)
		return r;
	if (access(path, X_OK) < 0)
		return err_errno(
		    err, ERR_CONFIG, errno, "host hook %s (chmod +x)", path);
	*ret = take_ptr(path);
	return 0;
}

/* What goes in is all there before it runs, and what it says has an end: no
 * program can make us wait. */
static int
make_input(const json_t *input, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *text = json_text(input);
	_cleanup_(closep)
	int fd = memfd_create("qvd-hook-input", MFD_CLOEXEC);
	size_t n = strlen(text);

	if (n > INPUT_MAX)
		return err_set(
		    err, ERR_TOO_LARGE, "more than %d bytes", INPUT_MAX);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write its input");
	*ret_fd = take_fd(&fd);
	return 0;
}

static int
make_output(int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = memfd_create("qvd-hook-said", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, SAID_MAX) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make its output");
	*ret_fd = take_fd(&fd);
	return 0;
}

/* The last line that it printed, for that is mostly the reason. */
static void
last_words(const struct hook *hook, char *ret, size_t size)
{
	char text[SAID_MAX + 1] = "";
	char *line;
	ssize_t n = pread(hook->said, text, SAID_MAX, 0);
	size_t len;

	text[n > 0 ? n : 0] = '\0';
	len = strlen(text);
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	line = strrchr(text, '\n');
	line = line != NULL ? line + 1 : text;
	str_escape(ret, size, line, strlen(line));
}

static void
hook_destroy(struct hook *hook)
{
	hook->job->hook = NULL;
	closep(&hook->said);
	free(hook);
}

static void
on_ended(struct child *child, int status, bool timed_out, void *arg)
{
	struct hook *hook = arg;
	struct job *job = hook->job;
	struct err err = { 0 };
	char said[300];
	int r;

	r = child_status_err(hook->name, status, timed_out, &err);
	last_words(hook, said, sizeof(said));
	if (r < 0 && said[0] != '\0')
		snprintf(err.msg + strlen(err.msg),
		    sizeof(err.msg) - strlen(err.msg), ": %s", said);
	hook_destroy(hook);
	if (r < 0)
		job_fail(job, &err);
	else
		job_done(job, NULL, -1);
}

void
hook_cancel(struct hook *hook)
{
	child_kill(hook->child, SIGKILL);
}

void
hook_free(struct hook *hook)
{
	if (hook == NULL)
		return;
	child_free(hook->child);
	hook_destroy(hook);
}

static int
start_program(struct job *job, struct err *err)
{
	const char *name = json_get_str(job->args, "program", "");
	_cleanup_(freep)
	char *path = NULL;
	_cleanup_(closep)
	int input = -1;
	_cleanup_(closep)
	int said = -1;
	const char *argv[] = { name, json_get_str(job->args, "hook", ""),
		NULL };
	struct child_spec spec = { .argv = argv,
		.n_fds = 3,
		.deadline_ms = json_get_int(job->args, "deadline_ms", 0),
		.parent_death_signal = SIGKILL };
	struct hook *hook;
	int r;

	if ((r = find_program(job->helper, name, &path, err)) < 0 ||
	    (r = make_input(json_object_get(job->args, "input"), &input, err)) <
		0 ||
	    (r = make_output(&said, err)) < 0)
		return r;
	spec.path = path;
	spec.fds[0] = input;
	spec.fds[1] = spec.fds[2] = said;
	hook = new0(struct hook);
	hook->job = job;
	hook->said = take_fd(&said);
	snprintf(hook->name, sizeof(hook->name), "host hook '%s'", name);
	job->hook = hook;
	hook->child =
	    child_spawn(job->helper->loop, &spec, on_ended, hook, err);
	if (hook->child != NULL)
		return 0;
	hook_destroy(hook);
	return -(int)err->code;
}

static void
run_hook(struct job *job)
{
	struct err err = { 0 };
	int r;

	r = job->cancelled ? err_set(&err, ERR_CANCELLED, "cancelled")
			   : start_program(job, &err);
	if (r < 0)
		job_fail(job, &err);
}

void
handle_vm_hook(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(128 * 1024);
	struct hook_args a = { 0 };
	struct err err = { 0 };

	closep(&fd);
	if (json_decode(args, hook_fields, &a, arena, NULL, &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(arg, call, (uint64_t)a.vm_id, args, run_hook,
		    a.hook == HOST_HOOK_PRESTART);
	arena_free(arena);
}
