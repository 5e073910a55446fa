/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VM's file systems: its root (image below, own changes above) and its
 * home volume. They are mounted in the mount namespace of the operation
 * process that starts the VM, under `mnt_dir`, and vanish with the last
 * process of the VM. Back-ends are tables of functions; they are synchronous
 * and run as root in a process of their own with a deadline.
 *
 * Ids on disk: the image and the home hold the ids as the desktop sees them
 * (0 = its root); the VM's changes to its root hold the shifted ids.
 */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define STORAGE_ID_BASE  100000 /* of slot 0 */
#define STORAGE_ID_COUNT 65536  /* ids a slot */
#define STORAGE_SLOT_MAX 999

/* First host id of a tenant's slot. */
static inline uid_t
storage_id_base(int slot)
{
	return (uid_t)(STORAGE_ID_BASE + slot * STORAGE_ID_COUNT);
}

struct storage_vm {
	const char *data_dir;
	const char *mnt_dir; /* exists, private to us */
	int64_t vm_id;
	const char *checksum; /* of the image's commit */
	bool is_volatile;     /* changes to the root are forgotten */
	uid_t id_base;
	int home_mb;   /* 0: no quota */
	int userns_fd; /* maps 0.. to id_base.. (storage_userns) */
};

struct storage_root_ops {
	const char *name;
	/* Afterwards <mnt_dir>/root is the VM's root, writable. */
	int (*mount)(const struct storage_vm *vm, struct err *err);
	/* Removes what a volatile root left; nothing may be mounted. */
	int (*clean)(const char *data_dir, int64_t vm_id, bool *ret_removed,
	    struct err *err);
};

struct storage_home_ops {
	const char *name;
	/* Makes the volume when missing; afterwards it is at <mnt_dir>/home,
	 * owned as the desktop sees it. */
	int (*mount)(const struct storage_vm *vm, struct err *err);
};

extern const struct storage_root_ops storage_overlay;
extern const struct storage_home_ops storage_home_directory;

/* A user namespace that maps [0, STORAGE_ID_COUNT) to id_base...; the
 * descriptor is the caller's. For idmapped mounts. */
int storage_userns(uid_t id_base, int *ret_fd, struct err *err);
/* Mounts a clone of the directory `source` at `target` with those ids.
 * attrs: MOUNT_ATTR_* to set besides. */
int storage_mount_idmapped(const char *source, const char *target,
    int userns_fd, uint64_t attrs, struct err *err);
/* Fails when the mount at path can't be written, which overlayfs doesn't
 * say by itself. */
int storage_check_writable(const char *path, struct err *err);

#endif
