/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/task.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "json/json.h"

/* The JSON as a file in memory, so that neither side waits. */
static int
input_open(const json_t *input, int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = memfd_create("qvd-vma", MFD_CLOEXEC);
	_cleanup_(wipe_strp)
	char *text = json_text(input);
	size_t len = strlen(text);

	if (fd < 0 || write(fd, text, len) != (ssize_t)len ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "memfd");
	*ret_fd = take_fd(&fd);
	return 0;
}

static void
on_child_end(struct child *child, int status, bool timed_out, void *arg)
{
	struct task *t = arg;

	lines_drain(&t->out);
	lines_done(&t->out);
	list_del(&t->link);
	t->child = NULL;
	t->cb(t, status, timed_out, t->arg);
}

int
task_start(struct task *t, struct vma *vma, const struct task_spec *spec,
    task_cb cb, void *arg, struct err *err)
{
	struct child_spec child = { .path = spec->path,
		.argv = spec->argv,
		.deadline_ms = spec->deadline_ms,
		.new_session = spec->new_session };
	_cleanup_(closep)
	int in = -1;
	_cleanup_(closep)
	int out_r = -1;
	_cleanup_(closep)
	int out_w = -1;
	int fds[2], i, r;

	if (spec->input != NULL && (r = input_open(spec->input, &in, err)) < 0)
		return r;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "pipe");
	out_r = fds[0];
	out_w = fds[1];
	for (i = 0; i < 4; i++)
		child.fds[i] = -1;
	child.fds[1] = out_w;
	child.fds[2] = spec->stderr_too ? out_w : STDERR_FILENO;
	child.fds[spec->input_fd] = in;
	child.n_fds = spec->input_fd == 3 ? 4 : 3;
	lines_init(&t->out, spec->line, t);
	t->vma = vma;
	t->cb = cb;
	t->arg = arg;
	t->child = child_spawn(vma->loop, &child, on_child_end, t, err);
	if (t->child == NULL)
		return -(int)err->code;
	list_init(&t->link);
	list_add(&vma->tasks, &t->link);
	lines_open(&t->out, vma->loop, take_fd(&out_r));
	return 0;
}

void
task_kill(struct task *t, int signum)
{
	if (t->child != NULL)
		child_kill(t->child, signum);
}

pid_t
task_pid(const struct task *t)
{
	return t->child == NULL ? -1 : child_pid(t->child);
}

bool
task_is_own(const struct vma *vma, pid_t pid)
{
	struct task *t;

	LIST_EACH (&vma->tasks, t, struct task, link) {
		if (task_pid(t) == pid)
			return true;
	}
	return false;
}
