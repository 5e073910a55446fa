/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The root side of qvd-hkd: the closed list of operations that the
 * unprivileged main role may ask for (docs/internals.md has the table). It
 * validates every argument itself and builds every path from ids. It holds
 * no decision and no database. Lives in the root parent, which owns it and
 * outlives any number of main processes; what an operation started goes on
 * when main dies (the next main adopts it).
 */
#ifndef HKD_HELPER_H
#define HKD_HELPER_H

#include "base/err.h"
#include "loop/loop.h"
#include "model/node_conf.h"

struct helper;

/* conf is borrowed for the helper's life. */
struct helper *helper_new(
    struct loop *loop, const struct node_conf *conf, struct err *err);
/* Stops operations under way (their children die with their groups); no VM
 * is touched. */
void helper_free(struct helper *helper);

/*
 * Serves one main over fd (taken; the parent's end of rpc_pair()). closed is
 * called once, when main went away or was cut off; what it had asked for and
 * is still running is finished or undone first as the operation says.
 * A second call replaces the first main.
 */
void helper_serve(struct helper *helper, int fd,
    void (*closed)(const struct err *err, void *arg), void *arg);

#endif
