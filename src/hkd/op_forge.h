/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where operation processes on VMs come from. Executing a program with a dozen
 * libraries costs more than most operations, so one process of it is executed
 * in advance, does nothing but fork, and each operation is a fork of it. The
 * forks are the helper's own children (CLONE_PARENT): their end, deadline and
 * group are as if it had executed them. They have the forge's layout of
 * addresses in common, and nothing else: no request ever reaches the forge.
 *
 * A fork has none of its parent's pages mapped, and touches each anew: a third
 * of what the start of a container costs. So a process that a start leaves as
 * it was waits a while for the next one. It holds nothing of the VM that it has
 * started: not its namespaces, its cgroup or its files.
 *
 * On its descriptor 0 the forge gets a byte with a socket for each operation
 * and answers with the pid and a pidfd; its descriptor 1 is each operation's.
 * Upper half: the helper's side, on its loop. Lower half: the forge.
 */
#ifndef HKD_OP_FORGE_H
#define HKD_OP_FORGE_H

#include <sys/types.h>

#include "base/err.h"
#include "loop/child.h"
#include "loop/loop.h"

struct op_forge;

/* program: absolute path; copied. The process is started when it is needed
 * and again when it has ended. */
struct op_forge *op_forge_new(struct loop *loop, const char *program);
void op_forge_free(struct op_forge *forge);
/* A process with sock (stays the caller's) as its descriptor 0 and fd (-1:
 * /dev/null) as 1; fd must be the same each time. *ret_pidfd is the
 * caller's, who has to reap the process. */
int op_forge_fork(struct op_forge *forge, int sock, int fd, pid_t *ret_pid,
    int *ret_pidfd, struct err *err);

/* A process whose operation has ended, and that waits on sock for another one
 * (op.h): child and sock are taken. It is let go if nobody wants it soon. */
void op_forge_keep(struct op_forge *forge, struct child *child, int sock);
/* One of those; NULL: there is none. The child and its *ret_sock are the
 * caller's. */
struct child *op_forge_kept(struct op_forge *forge, int *ret_sock);

/* Serves until the helper is gone. Returns in the forks only: 0, or their exit
 * status if they can't go on. In the forge it ends the process. */
int op_forge_serve(void);

#endif
