/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hooks: executables of the image, <hooks>/<kind>/<name>, that take part in
 * a session's life. Each gets what is known as JSON on standard input and as
 * key-value arguments (without secrets, because arguments can be seen by
 * everybody), and has a deadline. kind: "action" (its failure refuses the
 * action), "state", "provisioning". One runs after the other, in the order of
 * their causes: what a hook does at the end of one connection is done before
 * the next one's begins. VMA.
 */
#ifndef VMA_HOOK_H
#define VMA_HOOK_H

#include <jansson.h>

#include "base/err.h"
#include "vma/vma.h"

/* err: NULL, or why the hook failed, with its last line. */
typedef void (*hook_cb)(const struct err *err, void *arg);

struct hook;

bool hook_exists(const struct vma *vma, const char *kind, const char *name);
/* info: an object, "params" in it an object of strings; borrowed. NULL if
 * there is no such hook; then cb isn't called. Else cb is called once, later;
 * also if it can't be started. */
struct hook *hook_run(struct vma *vma, const char *kind, const char *name,
    const json_t *info, hook_cb cb, void *arg);
/* Kills it and forgets its callback. */
void hook_cancel(struct hook *hook);

#endif
