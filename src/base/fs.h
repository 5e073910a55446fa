/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files: whole reads and atomic writes, directories. Blocking; for start-up
 * and for helper processes, not for the event loop of a busy daemon. */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* The whole file, NUL added (fs_read_fd: from where it stands; path is only
 * for the sentence). ret_len may be NULL. Longer than max:
 * ERR_TOO_LARGE. Missing: ERR_CONFIG with the path in the sentence. */
int fs_read_fd(int fd, const char *path, size_t max, char **ret,
    size_t *ret_len, struct err *err);
int fs_read_file(
    const char *path, size_t max, char **ret, size_t *ret_len, struct err *err);
/* Writes a temporary file beside it, syncs, renames: readers see the old or
 * the new content, never half. */
int fs_write_file(const char *path, const void *data, size_t len, mode_t mode,
    struct err *err);
/* Like mkdir -p; existing directories keep their mode. */
int fs_mkdirs(const char *path, mode_t mode, struct err *err);
/* Removes a tree without following symbolic links or crossing into another
 * file system. Missing is success. */
int fs_remove_tree(const char *path, struct err *err);
bool fs_exists(const char *path);

struct fs_entry {
	int dirfd;
	const char *name;
	const char *path; /* the directory's, and the name */
};
/* A negative answer ends the walk and is its own. */
typedef int (*fs_entry_cb)(
    const struct fs_entry *e, void *arg, struct err *err);
/* Calls fn for each name in the directory but "." and "..", in no order. fn
 * may remove the entry. A missing directory has none. */
int fs_each_entry(const char *dir, fs_entry_cb fn, void *arg, struct err *err);
/* The same of an open directory, which stays open; dir is for sentences. */
int fs_each_entry_of(
    int fd, const char *dir, fs_entry_cb fn, void *arg, struct err *err);

#endif
