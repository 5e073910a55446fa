/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/room.h"

#include <stdlib.h>

#include "base/mem.h"

int64_t
room_free_bytes(int64_t available_bytes, int64_t total_bytes)
{
	int64_t rest =
	    available_bytes - total_bytes / 100 * ROOM_RESERVE_PERCENT;

	return rest > 0 ? rest : 0;
}

static int
by_image(const void *a, const void *b)
{
	const struct room_vm *x = a, *y = b;

	return (x->image_id > y->image_id) - (x->image_id < y->image_id);
}

size_t
room_by_image(
    const struct room_vm *vms, size_t n, int64_t free_bytes, struct room *ret)
{
	struct room_vm *sorted = xcalloc(n + 1, sizeof(*sorted));
	size_t count = 0, n_awake = 0, i, j;

	for (i = 0; i < n; i++)
		if (vms[i].awake && vms[i].image_id != 0)
			sorted[n_awake++] = vms[i];
	qsort(sorted, n_awake, sizeof(*sorted), by_image);
	for (i = 0; i < n_awake; i = j) {
		int64_t sum = 0, each;

		for (j = i;
		     j < n_awake && sorted[j].image_id == sorted[i].image_id;
		     j++)
			sum += sorted[j].own_bytes;
		each = sum / (int64_t)(j - i);
		ret[count++] = (struct room){
			.image_id = sorted[i].image_id,
			.each_bytes = each,
			.more = each > 0 ? free_bytes / each : 0,
		};
	}
	free(sorted);
	return count;
}
