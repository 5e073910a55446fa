/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a killed operation leaves of volumes that it had begun to make. Each
 * is made under a name that ends in ".new" and renamed when it is whole
 * (home.h, root_overlay.c, root_btrfs.c, qcow2.c, a machine's state), and
 * changes to an image are renamed to ".old" before they are removed, so
 * whatever has such a name while nothing is done for its VM is nobody's. Owns
 * nothing; HKD's operation processes.
 */
#ifndef STORAGE_UNFINISHED_H
#define STORAGE_UNFINISHED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* name: below the data directory, "homes/7.img.new". False ends the walk. */
typedef bool (*unfinished_cb)(int64_t vm_id, const char *name, void *arg);

/* Walks those of all VMs, in no order. */
int unfinished_each(
    const char *data_dir, unfinished_cb cb, void *arg, struct err *err);
/* The one of that name, which is looked for as above: no path is made of it.
 * Success if it isn't there any more. The VM must not be worked on. */
int unfinished_remove(
    const char *data_dir, int64_t vm_id, const char *name, struct err *err);

#endif
