/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the kinds of homes share: home.c (all that is the same for every
 * kind), home_snapshots.c, and a file for each kind. */
#ifndef STORAGE_HOME_PRIV_H
#define STORAGE_HOME_PRIV_H

#include "storage/home.h"

struct home_ops {
	const char *suffix; /* of the volume's name */
	/* Says what is missing. */
	int (*check)(const char *data_dir, struct err *err);
	/* A volume at path, where nothing is. */
	int (*make)(const struct home *h, const char *path, struct err *err);
	int (*attach)(const char *path, const char *target, struct err *err);
	/* Sets the limit to size_mb. fd: the root of the mounted volume; -1: it
	 * isn't mounted, nor will it be meanwhile. */
	int (*limit)(
	    const char *path, int fd, const struct home *h, struct err *err);
	int (*look)(const char *path, int fd, const struct home *h,
	    struct home_info *ret, struct err *err);
	/* A second volume at `to`, where nothing is. in_use: a desktop may be
	 * writing to `from`. NULL: can't be done. */
	int (*copy)(
	    const char *from, const char *to, bool in_use, struct err *err);
};

extern const struct home_ops home_image, home_btrfs, home_project,
    home_directory, home_disk;

/* The kind of the home that is there; false: none is. */
bool home_find(const struct home *h, enum home_store *ret,
    const struct home_ops **ret_ops);
/* <data>/homes/<id><suffix>; heap. */
char *home_path(const struct home *h, const struct home_ops *ops);
/* A volume of whatever kind; missing is success. */
int home_remove(const char *path, struct err *err);
/* What a killed snapshot left. The lock must be held. */
int home_forget_unfinished(const struct home *h, struct err *err);
/* ERR_NOT_FOUND, "VM 3 has no home yet". */
int home_none(const struct home *h, struct err *err);

/* The number of the directory's project; 0: none. */
uint32_t project_of(const char *path);

/* Plain directories, which three kinds are. */
int home_directory_make(
    const struct home *h, const char *path, struct err *err);
int home_directory_attach(
    const char *path, const char *target, struct err *err);

#endif
