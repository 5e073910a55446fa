/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The bytes of uploads: one file each, <data>/uploads/<id>-<name>, in a folder
 * that only this daemon's user and root open. It is opened before the daemon
 * gives up root; all else is relative to that descriptor. Blocking, a piece at
 * a time (into the page cache). Used in qvd-api only.
 */
#ifndef API_UPLOAD_FILES_H
#define API_UPLOAD_FILES_H

#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/proc.h"

#define UPLOAD_FOLDER "uploads" /* below <data> */

/* Makes the folder if it is missing. */
int upload_dir_open(const char *data_dir, const struct proc_user *owner,
    int *ret_dir, struct err *err);
/* "7-desk.tar.zst"; NULL past the arena's limit. */
const char *upload_file_name(struct arena *arena, int64_t id, const char *name);
/* Makes the file if it is missing and takes its room on the disk, so that a
 * full one is told before anything is sent. *ret_have: its bytes so far. */
int upload_reserve(int dir, const char *file, int64_t size, int64_t *ret_have,
    struct err *err);
int upload_write(int dir, const char *file, int64_t offset, const char *data,
    size_t len, struct err *err);

/* The ids of all files there; heap. */
int upload_ids(int dir, int64_t **ret, size_t *ret_n, struct err *err);
/* Removes the files of an upload. */
int upload_remove(int dir, int64_t id, struct err *err);

#endif
