/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the kinds of roots share: root.c, which is the same for all of them,
 * and a file for each kind with its table of functions. Operation
 * processes. */
#ifndef STORAGE_ROOT_H
#define STORAGE_ROOT_H

#include "storage/storage.h"

struct root_ops {
	const char *parts[3]; /* of a VM's changes: what tells the kind */
	int (*check)(const char *data_dir, int64_t limit_mb, struct err *err);
	/* dir: of the VM's changes, there already. */
	int (*mount)(
	    const struct storage_vm *vm, const char *dir, struct err *err);
	/* All that is in dir, and dir. */
	int (*remove)(const char *dir, struct err *err);
};

extern const struct root_ops root_overlay, root_btrfs;

/* In the directory of a VM's changes, of an overlay with a limit. */
#define ROOT_LIMITED "changes.img"
/* Where it is mounted when it is looked at from outside. */
#define ROOT_SHOWN "shown"

/* What the name of changes ends in when they are being removed. */
#define ROOT_OLD ".old"

/* Of a VM to one image, whatever kind they are. */
int root_remove_changes(const char *dir, struct err *err);
/* Where an image is checked out; heap. */
char *root_image_tree(const char *data_dir, const char *checksum);
/* mkdir of <dir>/<name>, which may be there. *ret: its path, heap. */
int root_make_dir(const char *dir, const char *name, mode_t mode, char **ret,
    struct err *err);

#endif
