/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Processes: giving up privileges in straight lines, and starting a program
 * with exactly the descriptors that it needs. The asynchronous child with a
 * deadline is loop/child.h; this is what is common to it and to programs
 * without a loop.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <sys/types.h>

#include "base/err.h"

struct proc_user {
	uid_t uid;
	gid_t gid;
};

/* Ids of a system user by name; ERR_CONFIG with what to do if missing. */
int proc_find_user(const char *name, struct proc_user *ret, struct err *err);

/* For ever: no supplementary groups, gid, uid, then checks that going back
 * fails. */
int proc_drop_user(const struct proc_user *user, struct err *err);

/* prctl: no new privileges, not dumpable, killed when the parent dies
 * (parent_death_signal 0: not). */
int proc_harden(int parent_death_signal, struct err *err);

/*
 * For the child side of a fork, before exec: puts fds[0..n-1] (-1: leave
 * /dev/null) at descriptors 0..n-1 and closes all others. Async-signal-safe.
 * Returns -1 with errno.
 */
int proc_place_fds(const int *fds, int n);

/* The pid's start time in clock ticks since boot (/proc/PID/stat field 22):
 * with it a pid names one process for ever. 0 if there is no such process. */
unsigned long long proc_start_time(pid_t pid);

#endif
