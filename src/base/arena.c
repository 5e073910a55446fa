/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BLOCK_MIN 2048

struct block {
	struct block *next;
	size_t used;
	size_t size;
	alignas(max_align_t) char data[];
};

struct arena {
	struct block *blocks; /* newest first; only it has room */
	size_t used;
	size_t limit;
	bool secret;
};

struct arena *
arena_new(size_t limit_bytes)
{
	struct arena *arena = new0(struct arena);

	arena->limit = limit_bytes;
	return arena;
}

void
arena_set_secret(struct arena *arena)
{
	arena->secret = true;
}

void
arena_free(struct arena *arena)
{
	struct block *b, *next;

	if (arena == NULL)
		return;
	for (b = arena->blocks; b != NULL; b = next) {
		next = b->next;
		if (arena->secret)
			explicit_bzero(b->data, b->used);
		free(b);
	}
	free(arena);
}

void
arena_freep(struct arena **arena)
{
	arena_free(*arena);
	*arena = NULL;
}

void *
arena_alloc(struct arena *arena, size_t n)
{
	const size_t align = alignof(max_align_t);
	struct block *b = arena->blocks;
	void *p;

	if (n > SIZE_MAX - align)
		return NULL;
	n = (n + align - 1) & ~(align - 1);
	if (n > arena->limit - arena->used)
		return NULL;
	if (b == NULL || b->size - b->used < n) {
		size_t size = n > BLOCK_MIN ? n : BLOCK_MIN;

		b = xcalloc(1, sizeof(*b) + size);
		b->size = size;
		b->next = arena->blocks;
		arena->blocks = b;
	}
	p = b->data + b->used;
	b->used += n;
	arena->used += n;
	return p;
}

static char *
copy(struct arena *arena, const char *s, size_t len)
{
	char *p = arena_alloc(arena, len + 1);

	if (p != NULL)
		memcpy(p, s, len);
	return p;
}

char *
arena_strndup(struct arena *arena, const char *s, size_t n)
{
	return copy(arena, s, strnlen(s, n));
}

char *
arena_strdup(struct arena *arena, const char *s)
{
	return copy(arena, s, strlen(s));
}

char *
arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || (p = arena_alloc(arena, (size_t)n + 1)) == NULL)
		return NULL;
	va_start(ap, fmt);
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}

size_t
arena_used(const struct arena *arena)
{
	return arena->used;
}
