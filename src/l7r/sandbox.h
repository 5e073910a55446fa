/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Giving up privileges, in a straight line: limits, chroot, user, no new
 * privileges, system calls. Called once by each role but the parent, before
 * it reads a byte from anybody.
 */
#ifndef L7R_SANDBOX_H
#define L7R_SANDBOX_H

#include "base/err.h"

enum sandbox_filter {
	SANDBOX_NONE,
	SANDBOX_STREAMS, /* bytes on descriptors it was given; nothing else */
	SANDBOX_NO_EXEC, /* all but new programs, mounts, modules, tracing */
};

struct role;
struct role_code;
int sandbox_enter(
    const struct role *role, const struct role_code *code, struct err *err);

#endif
