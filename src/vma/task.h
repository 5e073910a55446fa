/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A child of the agent with its output read line by line: hook, provisioner,
 * nxagent, X session. Embedded in its owner; the owner may reuse or free it
 * from the callback on, which always comes: a task is ended by killing it,
 * never forgotten, so that the reaper of orphans knows whom not to touch.
 * VMA.
 */
#ifndef VMA_TASK_H
#define VMA_TASK_H

#include <jansson.h>

#include "loop/child.h"
#include "vma/lines.h"
#include "vma/vma.h"

struct task;
typedef void (*task_cb)(
    struct task *task, int status, bool timed_out, void *arg);

struct task {
	struct vma *vma;
	struct list link; /* on vma->tasks while it runs */
	struct child *child;
	struct lines out;
	task_cb cb;
	void *arg;
};

struct task_spec {
	const char *path;
	const char *const *argv;
	json_t *input;   /* borrowed; on descriptor input_fd; NULL: none */
	int input_fd;    /* 0 or 3 */
	bool stderr_too; /* read standard error as well */
	bool new_session;
	int64_t deadline_ms;
	lines_cb line; /* NULL: the lines are only kept; arg is the task */
};

int task_start(struct task *t, struct vma *vma, const struct task_spec *spec,
    task_cb cb, void *arg, struct err *err);
static inline bool
task_running(const struct task *t)
{
	return t->child != NULL;
}
/* To the whole group. */
void task_kill(struct task *t, int signum);
pid_t task_pid(const struct task *t);
bool task_is_own(const struct vma *vma, pid_t pid);

#endif
