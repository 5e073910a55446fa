/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The byte relay: two ios, each read only while the other one's output queue
 * is short, each half closed when the other ends. Memory is bounded by two
 * buffers a direction and is given back when idle. This is the path of every
 * pixel: no copy that isn't needed, large records.
 */
#ifndef NET_TUNNEL_H
#define NET_TUNNEL_H

#include "net/io.h"

struct tunnel;

struct tunnel_stats {
	uint64_t bytes_ab; /* from a to b */
	uint64_t bytes_ba;
	int64_t duration_ms;
};

/* Ended: both directions closed, or an error (err set; NULL for a clean
 * end). The tunnel and both ios are freed after the callback. */
typedef void (*tunnel_cb)(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg);

/* Takes both ios, with whatever input they already hold. */
struct tunnel *tunnel_new(
    struct loop *loop, struct io *a, struct io *b, tunnel_cb cb, void *arg);
/* When one side has ended, the other may go on for so long (0: for ever). */
void tunnel_set_linger(struct tunnel *tunnel, int64_t ms);
/* Closes both sides at once, without the callback. */
void tunnel_free(struct tunnel *tunnel);
void tunnel_get_stats(const struct tunnel *tunnel, struct tunnel_stats *ret);

#endif
