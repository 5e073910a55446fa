/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A container's root file system (its home: storage/home.h). It is mounted
 * in the mount namespace of the operation process that starts the VM, under
 * `mnt_dir`, and vanishes with the last process of the VM. Back-ends are
 * tables of functions; they are synchronous and run as root in a process of
 * their own with a deadline.
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
#include "model/states.h"

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
	const char *checksum;       /* of the image's commit */
	bool is_volatile;           /* changes to the root are forgotten */
	enum root_store root_store; /* for what is yet to be made */
	int64_t root_mb;            /* limit of its changes; 0: none */
	uid_t id_base;
	int userns_fd; /* maps 0.. to id_base.. (storage_userns) */
};

/* Whether roots can be kept so on this node; else what is missing. */
int storage_root_check(const char *data_dir, enum root_store store,
    int64_t limit_mb, struct err *err);
/* Makes what that store needs of an image that is checked out; nothing for
 * an overlay. */
int storage_root_prepare(const char *data_dir, const char *checksum,
    enum root_store store, struct err *err);
/* Removes what was made of images that are not checked out any more. */
int storage_root_forget_images(const char *data_dir, struct err *err);
/* Afterwards <mnt_dir>/root is the VM's root, writable. */
int storage_root_mount(const struct storage_vm *vm, struct err *err);
/* For a commit: mounts the VM's changes to that image, where they are in a file
 * system of their own, at <data>/vms/<id>/<checksum>/shown. In a mount
 * namespace of the caller's own; the VM must not run. */
int storage_root_show(
    const char *data_dir, int64_t vm_id, const char *checksum, struct err *err);
/* Removes what a volatile root left; nothing may be mounted. */
int storage_root_clean(
    const char *data_dir, int64_t vm_id, bool *ret_removed, struct err *err);
/* Removes changes to other versions than keep (a checksum) that no start has
 * used for keep_ms; those of the running VM stay, whatever it runs from. */
int storage_root_collect(const char *data_dir, int64_t vm_id, const char *keep,
    int64_t keep_ms, int *ret_removed, struct err *err);

/* A mount namespace of our own with an empty tmpfs at mnt_dir. */
int storage_namespace(const char *mnt_dir, struct err *err);

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
