/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The agent's second entrance, in a virtual machine: TCP, for who knows the
 * secret of this run (model/channel.h). Whoever doesn't say it in time hears
 * nothing and is cut off. Owned by the agent for its life. VMA.
 */
#ifndef VMA_DOOR_H
#define VMA_DOOR_H

#include "base/err.h"
#include "loop/loop.h"

/* Opens it if the file with the secret is there; fd is the callee's, who says
 * with door_left() that one has gone. */
struct door;
int door_open(struct loop *loop, const char *secret_path,
    void (*enter)(int fd, void *arg), void *arg, struct door **ret,
    struct err *err);
void door_left(struct door *door);

#endif
