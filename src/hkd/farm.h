/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The farm's nodes among each other: farm.c has this node's identity (a
 * certificate of the farm's authority, read by the helper) and serves images
 * to those who have one, too; fetch.c gets what this node lacks from them.
 * One image at a time comes, several go. Bytes are relayed between the TLS
 * connection, which only main sees, and the process that works on the store,
 * which sees no network. Main role of qvd-hkd.
 */
#ifndef HKD_FARM_H
#define HKD_FARM_H

#include "hkd/node.h"
#include "net/io.h"
#include "net/tls.h"

#define FARM_PROTOCOL "qvd-image/1"

/* farm.c. Once the node runs; without [farm] listen nothing happens. */
void farm_begin(struct node *node);
void farm_init(struct node *node);
void farm_done(struct node *node);
/* A stream for the process that works on the store: one end, non-blocking,
 * is ours. */
int farm_pair(
    struct io **ret_ours, int *ret_theirs, struct node *node, struct err *err);

/* fetch.c. Looks for an image that should be here; also writes what could
 * not be written. */
void fetch_claim(struct node *node);
void fetch_done(struct node *node);

#endif
