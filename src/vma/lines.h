/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The output of a child (agent, hook, provisioner) line by line, with a limit
 * on a line: what is longer is cut and its rest dropped, so that a program
 * that never ends a line costs nothing. The newest lines are kept, so that
 * whoever reports the child's end can quote them. Owns its descriptor.
 * Embedded in its owner. VMA.
 */
#ifndef VMA_LINES_H
#define VMA_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/loop.h"

#define LINES_MAX  512 /* bytes of a line that are looked at */
#define LINES_KEPT 4
#define LINES_TEXT 400 /* of lines_last() */

/* line: NUL-terminated, without its end; may hold any byte but '\n', NUL
 * bytes became '?'. */
typedef void (*lines_cb)(const char *line, void *arg);

struct lines {
	struct watch watch;
	int fd;
	lines_cb cb; /* NULL: only kept */
	void *arg;
	size_t len;
	bool cut; /* the rest of this line is dropped */
	int newest;
	char cur[LINES_MAX + 1];
	char kept[LINES_KEPT][LINES_MAX + 1]; /* a ring; "": none */
};

/* Without a descriptor, for lines_feed(). */
void lines_init(struct lines *l, lines_cb cb, void *arg);
/* Takes fd (non-blocking from now on) and reads it in the loop. */
void lines_open(struct lines *l, struct loop *loop, int fd);
/* Reads what is there: for when the child has ended. */
void lines_drain(struct lines *l);
void lines_done(struct lines *l);

void lines_feed(struct lines *l, const char *data, size_t n);
/* Keeps a line for lines_last(); what isn't kept can't be quoted. */
void lines_keep(struct lines *l, const char *line);
/* The kept lines, oldest first, joined with " / ", escaped; "" if none. */
const char *lines_last(const struct lines *l, char dst[static LINES_TEXT]);
/* The newest kept line alone, escaped. */
const char *lines_newest(const struct lines *l, char dst[static LINES_TEXT]);

#endif
