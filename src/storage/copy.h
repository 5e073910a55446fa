/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Copies of volumes that are files: a home in an image, and its snapshots.
 * Blocking; used in operation processes, which have deadlines. */
#ifndef STORAGE_COPY_H
#define STORAGE_COPY_H

#include <stdbool.h>

#include "base/err.h"

/*
 * A second file with the same content, holes included: shared extents where
 * the file system knows them (XFS, btrfs), else a copy of the data. in_use:
 * only the former, which is one point in time; ERR_CONFLICT otherwise.
 * Nothing is left at `to` on failure.
 */
int copy_file(const char *from, const char *to, bool in_use, struct err *err);

#endif
