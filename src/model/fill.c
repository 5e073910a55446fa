/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/fill.h"

#define GIB_KB (INT64_C(1) << 20)

#define X(name, word) [FILL_##name] = word,
ENUM_DEFINE(fill, FILL_TABLE(X));
#undef X

#define X(name, word) [VM_DISK_##name] = word,
ENUM_DEFINE(vm_disk, VM_DISK_TABLE(X));
#undef X

/* A word holds from its first mark until what is used falls below the second.
 * Of something large a few percent are much: with so much left it isn't the
 * word either, and with twice that it is it no more. */
static const struct {
	int64_t from_permille, until_permille;
	int64_t left_kb;
} marks[FILL_COUNT_] = {
	[FILL_HIGH] = { 900, 850, 32 * GIB_KB },
	[FILL_FULL] = { 980, 950, 4 * GIB_KB },
};

static int64_t
space_permille(const struct fill_facts *f)
{
	/* In this order, for sizes of petabytes. */
	return f->size_kb <= 0     ? 0
	       : f->size_kb < 1000 ? f->used_kb * 1000 / f->size_kb
				   : f->used_kb / (f->size_kb / 1000);
}

int
fill_percent(const struct fill_facts *f)
{
	int64_t space = space_permille(f);

	if (f->size_kb <= 0)
		return -1;
	return (
	    int)((space > f->files_permille ? space : f->files_permille) / 10);
}

static bool
is_at_least(enum fill level, enum fill was, const struct fill_facts *f)
{
	bool stays = was >= level;
	int64_t mark =
	    stays ? marks[level].until_permille : marks[level].from_permille;
	int64_t left = marks[level].left_kb * (stays ? 2 : 1);

	return f->size_kb > 0 && (f->files_permille >= mark ||
				     (space_permille(f) >= mark &&
					 f->size_kb - f->used_kb < left));
}

enum fill
fill_level(enum fill was, const struct fill_facts *f)
{
	if (is_at_least(FILL_FULL, was, f))
		return FILL_FULL;
	return is_at_least(FILL_HIGH, was, f) ? FILL_HIGH : FILL_OK;
}
