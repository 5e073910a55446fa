/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A request as a server gets it, head and body. The first byte chooses the
 * dialect. What the lenient reader makes of a head must be a head that the
 * strict rules can be asked about, and what they accept must be without
 * anything that two readers could understand differently.
 */
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_MAX 16384
#define BODY_MAX 4096

static size_t body_bytes;

static bool
on_body(const void *data, size_t len, void *arg)
{
	body_bytes += len;
	return body_bytes <= BODY_MAX;
}

static int
count(const struct http_params *headers, const char *name)
{
	int n = 0;
	size_t i;

	for (i = 0; i < headers->n; i++)
		n += strcasecmp(headers->v[i].name, name) == 0;
	return n;
}

static void
check_head(const struct http_msg *m)
{
	size_t i;

	if (m->method == NULL || m->target == NULL)
		abort();
	if (count(&m->headers, "Content-Length") +
		count(&m->headers, "Transfer-Encoding") >
	    1)
		abort();
	for (i = 0; i < m->headers.n; i++)
		if (strpbrk(m->headers.v[i].name, " \t\r\n:") != NULL ||
		    strpbrk(m->headers.v[i].value, "\r\n") != NULL)
			abort();
}

static void
feed_body(struct http_msg *m, const char *text, size_t len)
{
	struct err err;
	size_t used, piece = 1;

	body_bytes = 0;
	while (len > 0 && !m->complete) {
		piece = piece * 2 < len ? piece * 2 : len;
		if (http_msg_body(m, text, piece, &used, &err) != 0)
			return;
		if (used > piece || (used == 0 && !m->complete))
			abort();
		text += used;
		len -= used;
	}
	if (m->body == HTTP_BODY_LENGTH && body_bytes > BODY_MAX)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(HEAD_MAX * 8 + 65536);
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(buf_done)
	struct buf plain = { .limit = HEAD_MAX * 4 };
	struct http_msg m = { .on_body = on_body };
	size_t scanned = 0, head;
	struct err err;
	int status;

	if (size < 1 || size > HEAD_MAX)
		return 0;
	text = xcalloc(size, 1); /* exactly: reading past it is found out */
	memcpy(text, data + 1, size - 1);
	head = http_head_end(text, size - 1, &scanned);
	if (head == 0)
		return 0;
	if (data[0] & 1) {
		if (http_lenient_head(text, head, &plain, &err) != 0)
			return 0;
		status = http_msg_head(
		    &m, HTTP_REQUEST, arena, buf_head(&plain), plain.len, &err);
	} else {
		status =
		    http_msg_head(&m, HTTP_REQUEST, arena, text, head, &err);
	}
	if (status != 0)
		return 0;
	check_head(&m);
	if (m.body != HTTP_BODY_NONE)
		feed_body(&m, text + head, size - 1 - head);
	return 0;
}
