/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The removal of what no image of the farm needs any more from this node's
 * store: asked for on hkd.sock, and by itself some time after an image's row
 * has gone. A collection is on the node's list until it ends. Main role of
 * qvd-hkd.
 */
#ifndef HKD_GARBAGE_H
#define HKD_GARBAGE_H

#include "hkd/node.h"

#define GARBAGE_SOON_MS 5000

/* result: {images, trees, objects, bytes}, or err. */
typedef void (*garbage_cb)(
    const json_t *result, const struct err *err, void *arg);

struct garbage;
/* dry_run: only counts, and takes the images of the list `also` (NULL: none)
 * for gone. done may be NULL: the end is logged. progress: what the helper
 * says meanwhile; may be NULL. */
struct garbage *garbage_start(struct node *node, bool dry_run,
    const json_t *also, garbage_cb done, rpc_progress_cb progress, void *arg);
/* It goes on, and tells nobody. */
void garbage_forget(struct garbage *c);
void garbage_soon(struct node *node);
/* An archive was made that whoever asked for it may never fetch. */
void garbage_exported(struct node *node);
void garbage_on_timer(void *node);
void garbage_done(struct node *node);

#endif
