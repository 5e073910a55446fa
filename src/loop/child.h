/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A child process as a resource: its own process group, exactly the
 * descriptors given, a deadline after which the whole group is killed, and
 * one callback when it has ended (by pidfd, so that there is no SIGCHLD
 * race). Ends with its owner: child_free() kills the group. What the child
 * leaves behind in its group is killed when it ends, unless keep_group is
 * set; a daemon that is to stay leaves the group with setsid().
 */
#ifndef LOOP_CHILD_H
#define LOOP_CHILD_H

#include <sys/types.h>

#include "base/err.h"
#include "loop/loop.h"

#define CHILD_FDS_MAX 8

struct child;

struct child_spec {
	const char *path;        /* absolute */
	const char *const *argv; /* NULL-ended */
	const char *const *envp; /* NULL-ended; NULL: only PATH and QVD_LOG */
	const char *cwd;         /* NULL: "/" */
	int fds[CHILD_FDS_MAX];  /* become 0..n-1; -1: /dev/null. Stay the
				  * caller's. stderr (2) is inherited if
				  * n_fds <= 2 */
	int n_fds;
	int64_t deadline_ms; /* 0: none. TERM, then KILL 2 s later */
	uid_t uid;           /* with set_user: drop to these */
	gid_t gid;
	bool set_user;
	int parent_death_signal; /* 0: none */
	bool new_session;        /* setsid() instead of setpgid() */
	bool keep_group;         /* the rest of the group outlives it */
};

/* status: as of waitpid; timed_out: the deadline killed it. The child is
 * freed after the callback returns. */
typedef void (*child_cb)(
    struct child *child, int status, bool timed_out, void *arg);

/* Returns when the program runs (exec succeeded), or with the error. */
struct child *child_spawn(struct loop *loop, const struct child_spec *spec,
    child_cb cb, void *arg, struct err *err);
/* A child that another process made for us (clone with CLONE_PARENT): it must
 * be about to become the leader of a group of its own. pidfd is taken. */
struct child *child_adopt(struct loop *loop, pid_t pid, int pidfd,
    int64_t deadline_ms, child_cb cb, void *arg);
/* From now on it is another's: a new deadline and another callback. */
void child_pass(
    struct child *child, int64_t deadline_ms, child_cb cb, void *arg);
pid_t child_pid(const struct child *child);
void child_kill(struct child *child, int signum); /* the whole group */
/* Kills the group, forgets the callback; the zombie is reaped later. Not
 * needed (and not allowed) after the callback has been called. */
void child_free(struct child *child);
/* Fills *err with what a status means, "name: exited with 3" and so on;
 * returns 0 for a clean exit. */
int child_status_err(
    const char *name, int status, bool timed_out, struct err *err);

#endif
