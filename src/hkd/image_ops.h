/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The operations of qvd-hkd-image: one a process, each answers on descriptor
 * 0 and gives an exit status, or an error that main sends. Arguments were
 * checked by the helper. image_ops.c; image_transfer.c holds what goes to
 * and comes from other nodes; image_desktop.c holds what looks at
 * desktops (their changes, and which images they run).
 */
#ifndef HKD_IMAGE_OPS_H
#define HKD_IMAGE_OPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "image/image.h"

struct image_op_node {
	const char *data_dir;
	const char *run_dir;
	const char *programs_dir;
	int userns; /* of an operation that shows a desktop's root; else -1 */
};

struct image_op {
	const char *name;
	int (*fn)(const struct image_op_node *node, const json_t *args,
	    struct err *err);
	bool of_desktop; /* shows a desktop's root, with its ids */
};
extern const struct image_op image_ops[]; /* ends with a NULL name */

/* Before a commit, while all can be written: what has to be mounted to see
 * the desktop's changes. */
int image_op_show(
    const struct image_op_node *node, const json_t *args, struct err *err);
int image_op_commit(
    const struct image_op_node *node, const json_t *args, struct err *err);
int image_op_pull(
    const struct image_op_node *node, const json_t *args, struct err *err);
int image_op_serve(
    const struct image_op_node *node, const json_t *args, struct err *err);
/* Signs it, if this node has the farm's key. */
int image_op_sign(
    const struct image_op_node *node, const char *checksum, struct err *err);
/* Signs it and answers. */
int image_op_imported(const struct image_op_node *node,
    const struct image_imported *done, struct err *err);
/* The import that the arguments describe, but for its source. */
void image_op_import(const struct image_op_node *node, const json_t *args,
    struct image_import *ret);
/* So much of the whole was done before it. */
void image_op_import_from(struct image_import *import, int percent);

/* Commits that desktops of this node run from: heap strings in a heap list,
 * which is the caller's after a failure, too. */
int image_desktops_use(const struct image_op_node *node, char ***ret,
    size_t *ret_n, struct err *err);

#endif
