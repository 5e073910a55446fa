/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Programs of the system that an operation process runs to their end. They
 * die with it. */
#ifndef STORAGE_TOOL_H
#define STORAGE_TOOL_H

#include "base/err.h"

/* The first of the paths (NULL-ended) that can be run; NULL: none. */
const char *tool_find(const char *const *paths);
/* argv[0] is the path. Exit statuses up to ok_max are success. What it says is
 * in the sentence of a failure. */
typedef void (*tool_tell_cb)(int percent);
/* tell: hears how far one is that says so as qemu-img does; may be NULL. */
int tool_run_telling(
    const char *const *argv, int ok_max, tool_tell_cb tell, struct err *err);
static inline int
tool_run(const char *const *argv, int ok_max, struct err *err)
{
	return tool_run_telling(argv, ok_max, NULL, err);
}

/* cp -a: all that is in the directory `from` into `to`. */
int tool_copy_tree(const char *from, const char *to, struct err *err);

#endif
