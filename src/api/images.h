/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the API's files about images share: images.c (rows, imports),
 * image_tags.c, image_state.c (publish, retire, cancel), image_store.c (what
 * this node's store is asked). Used in qvd-api only.
 */
#ifndef API_IMAGES_H
#define API_IMAGES_H

#include "api/api.h"

/* Part of a statement: the nodes that are still to get an image, in words;
 * NULL: none (sql: image_awaits). */
#define IMAGE_AWAITS(id)                                                    \
	"(SELECT string_agg(a.host || ' (' || a.state || coalesce(' ' || "  \
	"a.progress || ' %', '') || coalesce(': ' || a.error, '') || ')', " \
	"', ') FROM image_awaits a WHERE a.image_id = " id ")"

/* Locks the image's row. By itself, because a statement that waits for a lock
 * goes on with the snapshot from before, in which nobody uses it yet. */
extern const struct db_stmt image_lock_stmt;

/* Moves the tags that wait for what is published now, in the request's
 * transaction. */
void images_settle_in(struct request *req, step_cb cb);

#endif
