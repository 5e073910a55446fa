/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * nxagent, the X server that outlives its displays: its files, its start as
 * the user, its signals, the connection to its one-time socket. What it says
 * goes to the owner by line. Embedded in the session. VMA.
 */
#ifndef VMA_AGENT_H
#define VMA_AGENT_H

#include "vma/agent_line.h"
#include "vma/request.h"
#include "vma/task.h"
#include "vma/user.h"

struct agent {
	struct task task;
	struct vma *vma;
	struct timer poke; /* until it listens again */
	int64_t poke_delay_ms;
	char socket[160]; /* where it listens for a display */
	char cookie[160]; /* the Xauthority file */
	uid_t uid;
	void (*on_line)(enum agent_line line, void *arg);
	void (*on_end)(int status, void *arg);
	void *arg;
};

void agent_init(struct agent *agent, struct vma *vma,
    void (*on_line)(enum agent_line line, void *arg),
    void (*on_end)(int status, void *arg), void *arg);
/* Writes its files and starts it; AGENT_LINE_LISTENING follows. */
int agent_start(struct agent *agent, const struct request *req,
    const struct user_account *user, struct err *err);
/* Writes the options anew and tells a suspended agent to listen. */
int agent_resume(struct agent *agent, const struct request *req,
    const struct user_account *user, struct err *err);
/* The end of waiting for it to listen. */
void agent_poke_stop(struct agent *agent);
/* To nxagent alone. */
void agent_signal(struct agent *agent, int signum);
/* A connected descriptor; the agent accepts one for each time it listens. */
int agent_connect(struct agent *agent, int *ret_fd, struct err *err);

/* Runs argv as the user, by way of the role "run-as". log: of the output
 * (NULL: to the task's lines). */
int agent_run_as(struct task *task, struct vma *vma,
    const struct user_account *user, const struct agent *agent, json_t *argv,
    const char *log, lines_cb line, task_cb cb, void *arg, struct err *err);

#endif
