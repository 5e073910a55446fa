/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/map.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

#define CAP_MIN 16

struct map_slot {
	uint64_t hash; /* of the key; the key itself for integer keys */
	char *str;
	void *value; /* NULL: free, or deleted if `dead` */
	bool dead;
};

static uint64_t
seed(void)
{
	static uint64_t value;

	if (value == 0 && getrandom(&value, sizeof(value), 0) < 0)
		abort();
	return value | 1;
}

/* FNV-1a over the bytes, from a random start. */
static uint64_t
hash_str(const char *s)
{
	uint64_t h = seed() ^ UINT64_C(0xcbf29ce484222325);

	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): spreads ids. */
static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

void
map_init(struct map *map)
{
	*map = (struct map){ 0 };
}

void
map_init_str(struct map *map)
{
	*map = (struct map){ .by_str = true };
}

void
map_done(struct map *map)
{
	size_t i;

	for (i = 0; i < map->cap; i++)
		free(map->slots[i].str);
	free(map->slots);
	*map = (struct map){ .by_str = map->by_str };
}

static struct map_slot *
find(const struct map *map, uint64_t hash, const char *str)
{
	size_t i;

	if (map->cap == 0)
		return NULL;
	for (i = mix(hash) & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
		struct map_slot *s = &map->slots[i];

		if (s->value == NULL && !s->dead)
			return NULL;
		if (s->value != NULL && s->hash == hash &&
		    (str == NULL || strcmp(s->str, str) == 0))
			return s;
	}
}

static struct map_slot *
free_slot(struct map *map, uint64_t hash)
{
	size_t i = mix(hash) & (map->cap - 1);

	while (map->slots[i].value != NULL)
		i = (i + 1) & (map->cap - 1);
	if (!map->slots[i].dead)
		map->used++;
	return &map->slots[i];
}

static void
grow(struct map *map)
{
	struct map_slot *old = map->slots;
	size_t i, old_cap = map->cap;

	map->cap = CAP_MIN;
	while (map->cap < (map->count + 1) * 2)
		map->cap *= 2;
	map->slots = xcalloc(map->cap, sizeof(*map->slots));
	map->used = 0;
	for (i = 0; i < old_cap; i++) {
		if (old[i].value == NULL)
			continue;
		*free_slot(map, old[i].hash) = old[i];
	}
	free(old);
}

static void *
set(struct map *map, uint64_t hash, const char *str, void *value)
{
	struct map_slot *s = find(map, hash, str);
	void *old;

	assert(value != NULL);
	if (s != NULL) {
		old = s->value;
		s->value = value;
		return old;
	}
	if (map->cap == 0 || (map->used + 1) * 4 > map->cap * 3)
		grow(map);
	s = free_slot(map, hash);
	*s = (struct map_slot){ .hash = hash, .value = value };
	if (str != NULL)
		s->str = xstrdup(str);
	map->count++;
	return NULL;
}

static void *
del(struct map *map, uint64_t hash, const char *str)
{
	struct map_slot *s = find(map, hash, str);
	void *old;

	if (s == NULL)
		return NULL;
	old = s->value;
	free(s->str);
	*s = (struct map_slot){ .dead = true };
	map->count--;
	return old;
}

void *
map_get(const struct map *map, uint64_t key)
{
	struct map_slot *s = find(map, key, NULL);

	assert(!map->by_str);
	return s == NULL ? NULL : s->value;
}

void *
map_set(struct map *map, uint64_t key, void *value)
{
	assert(!map->by_str);
	return set(map, key, NULL, value);
}

void *
map_del(struct map *map, uint64_t key)
{
	assert(!map->by_str);
	return del(map, key, NULL);
}

void *
map_get_str(const struct map *map, const char *key)
{
	struct map_slot *s = find(map, hash_str(key), key);

	assert(map->by_str);
	return s == NULL ? NULL : s->value;
}

void *
map_set_str(struct map *map, const char *key, void *value)
{
	assert(map->by_str);
	return set(map, hash_str(key), key, value);
}

void *
map_del_str(struct map *map, const char *key)
{
	assert(map->by_str);
	return del(map, hash_str(key), key);
}

void *
map_next(const struct map *map, size_t *pos)
{
	while (*pos < map->cap) {
		struct map_slot *s = &map->slots[(*pos)++];

		if (s->value != NULL)
			return s->value;
	}
	return NULL;
}
