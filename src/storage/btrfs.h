/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Subvolumes and their qgroups, by the kernel's interface (linux/btrfs.h):
 * nothing but the kernel is needed. Blocking; root. */
#ifndef STORAGE_BTRFS_H
#define STORAGE_BTRFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* ERR_CONFIG, "X is not on btrfs", when it isn't. */
int btrfs_check(const char *dir, struct err *err);
bool btrfs_is_subvolume(const char *path);

/* When it was made, wall clock; 0: it isn't known. */
int64_t btrfs_made_us(const char *path);

int btrfs_create(const char *path, struct err *err);
/* A writable one. */
int btrfs_snapshot(const char *from, const char *to, struct err *err);
/* With all that is in it, subvolumes too. */
int btrfs_delete(const char *path, struct err *err);

enum btrfs_count {
	BTRFS_REFERENCED, /* all that is in it */
	BTRFS_EXCLUSIVE,  /* what it shares with no other subvolume */
};
/* Begins to count on that file system if nobody did. bytes 0: no limit. */
int btrfs_limit(
    const char *path, enum btrfs_count count, uint64_t bytes, struct err *err);
/* Both 0 and -1 where nobody counts. */
int btrfs_usage(const char *path, enum btrfs_count count, uint64_t *ret_limit,
    int64_t *ret_used, struct err *err);
/* The same without waiting for the disk: what was written in the last half
 * minute may not count yet. fd: a directory; of one that is no subvolume
 * nobody counts. */
int btrfs_usage_lately(int fd, enum btrfs_count count, uint64_t *ret_limit,
    int64_t *ret_used, struct err *err);

#endif
