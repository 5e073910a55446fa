/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory of the second regime: everything that one request needs (an HTTP
 * request, a parsed file, decoded rows) comes from one arena and is freed
 * at once. An arena has a hard limit, so that a peer that makes us allocate
 * can't make us allocate without end: past it arena_alloc() gives NULL and
 * the request fails with ERR_TOO_LARGE. Owned by the request. Every process.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena;

/* limit_bytes: the most that the arena hands out over its life. */
struct arena *arena_new(size_t limit_bytes);
/* Frees everything; wipes it first if arena_set_secret() was called. */
void arena_free(struct arena *arena);
void arena_freep(struct arena **arena);
void arena_set_secret(struct arena *arena);

/* Zeroed, aligned for any type; NULL past the limit. */
void *arena_alloc(struct arena *arena, size_t n);
char *arena_strdup(struct arena *arena, const char *s);
char *arena_strndup(struct arena *arena, const char *s, size_t n);
char *arena_printf(struct arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
size_t arena_used(const struct arena *arena);

#define arena_new0(arena, type) ((type *)arena_alloc(arena, sizeof(type)))

#endif
