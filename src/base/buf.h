/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A growing byte buffer that is filled at its end and consumed from its
 * start, with a hard limit. An empty buffer holds no memory after
 * buf_release(), so that idle connections cost nothing. Embedded in its
 * owner (buf_init/buf_done). Every process.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* the unread bytes start at data + start */
	size_t start;
	size_t len;
	size_t cap;
	size_t limit; /* the most that len may be */
};

/* An empty one: struct buf text = BUF(65536); */
#define BUF(limit_bytes)               \
	{                              \
		.limit = (limit_bytes) \
	}
void buf_init(struct buf *buf, size_t limit_bytes);
void buf_done(struct buf *buf);
/* Wipes what was in it, then buf_done(). */
void buf_done_secret(struct buf *buf);

/* Appends; false (and nothing appended) if the limit would be passed. */
bool buf_append(struct buf *buf, const void *data, size_t n);
bool buf_printf(struct buf *buf, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Room for n bytes at the end, to be filled and then declared with
 * buf_commit(); NULL past the limit. */
char *buf_reserve(struct buf *buf, size_t n);
void buf_commit(struct buf *buf, size_t n);

/* The unread bytes and their number. */
const char *buf_head(const struct buf *buf);
static inline size_t
buf_len(const struct buf *buf)
{
	return buf->len;
}
/* How many more bytes fit under the limit. */
size_t buf_room(const struct buf *buf);
/* Drops n unread bytes from the start. */
void buf_consume(struct buf *buf, size_t n);
/* Gives the memory back if the buffer is empty. */
void buf_release(struct buf *buf);
/* Hands out the content as a string (NUL added); the buffer is empty. */
char *buf_take_str(struct buf *buf);

#endif
