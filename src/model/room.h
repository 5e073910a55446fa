/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How many more desktops of an image fit into a node's memory. A desktop's
 * own memory (not shared with others: anonymous pages and the kernel's for
 * it) is what each further one takes; pages of the image are there already.
 * Pure; used by the API.
 */
#ifndef MODEL_ROOM_H
#define MODEL_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kernel and the daemons want some that is free: a node that is filled
 * to the last page is slow for everybody. */
#define ROOM_RESERVE_PERCENT 5

struct room_vm {
	int64_t image_id;  /* 0: unknown */
	int64_t own_bytes; /* resident or swapped */
	bool awake;
};

struct room {
	int64_t image_id;
	int64_t each_bytes; /* mean of the image's desktops that are awake */
	int64_t more;       /* that fit */
};

/* How many bytes new desktops may take. */
int64_t room_free_bytes(int64_t available_bytes, int64_t total_bytes);

/* One entry an image of which a desktop is awake (an image with none has
 * nothing to reckon with), ordered by image id; ret has room for n. Returns
 * how many. */
size_t room_by_image(
    const struct room_vm *vms, size_t n, int64_t free_bytes, struct room *ret);

#endif
