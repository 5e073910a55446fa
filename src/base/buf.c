/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BUF_MIN 512

void
buf_init(struct buf *buf, size_t limit_bytes)
{
	*buf = (struct buf){ .limit = limit_bytes };
}

void
buf_done(struct buf *buf)
{
	free(buf->data);
	buf->data = NULL;
	buf->start = buf->len = buf->cap = 0;
}

void
buf_done_secret(struct buf *buf)
{
	if (buf->data != NULL)
		explicit_bzero(buf->data, buf->cap);
	buf_done(buf);
}

const char *
buf_head(const struct buf *buf)
{
	return buf->data == NULL ? "" : buf->data + buf->start;
}

size_t
buf_room(const struct buf *buf)
{
	return buf->limit > buf->len ? buf->limit - buf->len : 0;
}

/* Room for n bytes at the end, whatever the limit. What is left behind when
 * the memory moves is wiped, because a buffer may hold a password. */
static char *
reserve(struct buf *buf, size_t n)
{
	size_t cap;
	char *data;

	if (buf->data != NULL && buf->cap - buf->start - buf->len >= n)
		return buf->data + buf->start + buf->len;
	if (buf->start > 0) {
		memmove(buf->data, buf->data + buf->start, buf->len);
		buf->start = 0;
	}
	if (buf->data == NULL || buf->cap - buf->len < n) {
		cap = buf->cap < BUF_MIN ? BUF_MIN : buf->cap;
		while (cap - buf->len < n)
			cap *= 2;
		data = xrealloc(NULL, cap, 1);
		if (buf->data != NULL) {
			memcpy(data, buf->data, buf->len);
			explicit_bzero(buf->data, buf->cap);
			free(buf->data);
		}
		buf->data = data;
		buf->cap = cap;
	}
	return buf->data + buf->len;
}

char *
buf_reserve(struct buf *buf, size_t n)
{
	return n > buf_room(buf) ? NULL : reserve(buf, n);
}

void
buf_commit(struct buf *buf, size_t n)
{
	assert(buf->start + buf->len + n <= buf->cap);
	buf->len += n;
}

bool
buf_append(struct buf *buf, const void *data, size_t n)
{
	char *p;

	if (n == 0)
		return true;
	if ((p = buf_reserve(buf, n)) == NULL)
		return false;
	memcpy(p, data, n);
	buf->len += n;
	return true;
}

bool
buf_printf(struct buf *buf, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n > buf_room(buf))
		return false;
	/* One byte more for vsnprintf's NUL, which is not content. */
	p = reserve(buf, (size_t)n + 1);
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	buf->len += (size_t)n;
	return true;
}

void
buf_consume(struct buf *buf, size_t n)
{
	assert(n <= buf->len);
	buf->start += n;
	buf->len -= n;
	if (buf->len == 0)
		buf->start = 0;
}

void
buf_release(struct buf *buf)
{
	if (buf->len == 0)
		buf_done(buf);
}

char *
buf_take_str(struct buf *buf)
{
	char *s = xstrndup(buf_head(buf), buf->len);

	buf_consume(buf, buf->len);
	return s;
}
