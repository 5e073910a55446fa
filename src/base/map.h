/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hash tables from a 64-bit id, or from a string, to a pointer. The table
 * owns copies of string keys and never the values. Open addressing, SipHash-
 * free: string keys are seeded with random bytes, so that a peer can't choose
 * collisions. Embedded in its owner. Every process.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot;

struct map {
	struct map_slot *slots;
	size_t cap;   /* 0 or a power of two */
	size_t count; /* live entries */
	size_t used;  /* live and deleted */
	bool by_str;
};

void map_init(struct map *map);     /* keys are uint64_t */
void map_init_str(struct map *map); /* keys are strings */
void map_done(struct map *map);

void *map_get(const struct map *map, uint64_t key);
/* Sets the value (not NULL); returns the one that was there, or NULL. */
void *map_set(struct map *map, uint64_t key, void *value);
/* Removes; returns the value that was there, or NULL. */
void *map_del(struct map *map, uint64_t key);

void *map_get_str(const struct map *map, const char *key);
void *map_set_str(struct map *map, const char *key, void *value);
void *map_del_str(struct map *map, const char *key);

static inline size_t
map_count(const struct map *map)
{
	return map->count;
}

/* Walks: start with *pos = 0; NULL at the end. Deleting the entry just
 * returned is allowed while walking; adding is not. */
void *map_next(const struct map *map, size_t *pos);

#define MAP_EACH(map, var) \
	for (size_t i_##var = 0; ((var) = map_next((map), &i_##var)) != NULL;)

#endif
