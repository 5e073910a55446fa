/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

#define READS_A_TURN 16 /* of 4 KiB, so that a flood can't hold the loop */

void
lines_init(struct lines *l, lines_cb cb, void *arg)
{
	*l = (struct lines){ .fd = -1, .cb = cb, .arg = arg };
}

void
lines_keep(struct lines *l, const char *line)
{
	l->newest = (l->newest + 1) % LINES_KEPT;
	str_copy(l->kept[l->newest], sizeof(l->kept[0]), line);
}

static void
line_end(struct lines *l)
{
	l->cur[l->len] = '\0';
	if (l->len > 0 && l->cur[l->len - 1] == '\r')
		l->cur[l->len - 1] = '\0';
	l->len = 0;
	l->cut = false;
	if (l->cur[0] == '\0')
		return;
	if (l->cb != NULL)
		l->cb(l->cur, l->arg);
	else
		lines_keep(l, l->cur);
}

void
lines_feed(struct lines *l, const char *data, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (data[i] == '\n')
			line_end(l);
		else if (l->len < LINES_MAX)
			l->cur[l->len++] = data[i] == '\0' ? '?' : data[i];
		else
			l->cut = true;
	}
}

/* False at the end of the output. */
static bool
read_some(struct lines *l, int reads)
{
	char chunk[4096];
	ssize_t n = -1;

	while (reads-- > 0 && l->fd >= 0) {
		n = read(l->fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		lines_feed(l, chunk, (size_t)n);
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void
on_readable(int events, void *arg)
{
	struct lines *l = arg;

	if (!read_some(l, READS_A_TURN))
		watch_set(&l->watch, 0);
}

void
lines_open(struct lines *l, struct loop *loop, int fd)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	l->fd = fd;
	watch_init(&l->watch, loop, fd, on_readable, l);
	watch_set(&l->watch, WATCH_READ);
}

void
lines_drain(struct lines *l)
{
	read_some(l, READS_A_TURN);
	if (l->len > 0)
		line_end(l);
}

void
lines_done(struct lines *l)
{
	if (l->fd < 0)
		return;
	watch_done(&l->watch);
	closep(&l->fd);
}

const char *
lines_newest(const struct lines *l, char dst[static LINES_TEXT])
{
	return str_escape(
	    dst, LINES_TEXT, l->kept[l->newest], strlen(l->kept[l->newest]));
}

const char *
lines_last(const struct lines *l, char dst[static LINES_TEXT])
{
	char all[LINES_KEPT * (LINES_MAX + 4)] = "";
	size_t used = 0;
	int i;

	for (i = 1; i <= LINES_KEPT; i++) {
		const char *line = l->kept[(l->newest + i) % LINES_KEPT];

		if (line[0] == '\0')
			continue;
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s",
		    used == 0 ? "" : " / ", line);
	}
	/* The end says most. */
	if (used >= LINES_TEXT)
		return str_escape(dst, LINES_TEXT,
		    all + used - (LINES_TEXT - 1), LINES_TEXT - 1);
	return str_escape(dst, LINES_TEXT, all, used);
}
