/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What process 1 of a container owes to the others: mounts and directories
 * that the image expects, a machine id, the reaping of orphans, and the end
 * of every process. VMA.
 */
#ifndef VMA_INIT_H
#define VMA_INIT_H

#include <sys/types.h>

#include "base/err.h"
#include "vma/vma.h"

/* Mounts and makes what is missing; what can't be done is logged. */
void init_setup(const struct vma *vma);
/* Reaps orphans from now on. */
void init_reap(struct vma *vma);
/* TERM to all, KILL after a grace; then done(arg). */
void init_end_all(struct vma *vma, void (*done)(void *arg), void *arg);
/* All processes of a user but one (-1: none). */
void init_kill_user(uid_t uid, int signum, pid_t except);

#endif
