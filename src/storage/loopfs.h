/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ext4 file systems in sparse files, on loop devices that go by themselves
 * with the last mount (autoclear). They need nothing of the node's disk but
 * room for what is in them; what is deleted in one is given back to the disk
 * (discard). Direct I/O, so that a file is in the page cache once.
 *
 * A mounted one grows by the kernel's ioctl, one that isn't by resize2fs,
 * which marks the file system as broken until it is done: if it was killed,
 * the next mount has it repaired. Blocking; root, in an operation process.
 */
#ifndef STORAGE_LOOPFS_H
#define STORAGE_LOOPFS_H

#include <stdint.h>

#include "base/err.h"

/* Whether this node can have them at all; else what is missing. */
int loopfs_check(struct err *err);
/* ERR_NO_SPACE where one can't be begun in that directory. */
int loopfs_check_room(const char *dir, struct err *err);
int loopfs_make(const char *path, int64_t size_mb, struct err *err);
/* nodev, nosuid. */
int loopfs_mount(const char *path, const char *target, struct err *err);
/* fd: of the mounted one; -1: it isn't mounted. Never smaller. */
int loopfs_grow(const char *path, int fd, int64_t size_mb, struct err *err);
/* Of the file system itself; the file may be larger already. */
int loopfs_size(const char *path, int64_t *ret_mb, struct err *err);

#endif
