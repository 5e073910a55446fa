/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How full volumes are (model/fill.h), without making anything wait or wake.
 * Of file systems anybody may ask; of volumes root, in an operation process.
 */
#ifndef STORAGE_FILL_H
#define STORAGE_FILL_H

#include "base/err.h"
#include "model/fill.h"
#include "storage/btrfs.h"

/* Of the file system that path is on. */
int fill_of_file_system(
    const char *path, struct fill_facts *ret, struct err *err);
/* Of the mounted volume whose root is fd: a file system in a file, a subvolume
 * with a limit, a directory with a project quota. size_kb 0: none of them, and
 * nothing but the node's disk limits it. */
int fill_of_volume(const char *data_dir, int fd, enum btrfs_count count,
    struct fill_facts *ret, struct err *err);
/* Of a raw, sparse disk: what of it was ever written and not given back. The
 * guest's own files in it may be less. size_kb 0: it isn't there. */
int fill_of_disk(const char *path, struct fill_facts *ret, struct err *err);

#endif
