/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Home volumes: one a VM, with a size, on its node. What a home is kept in
 * (model/states.h, enum home_store) is chosen when it is made and stays; each
 * kind is a table of functions in a file home_<kind>.c.
 *
 *	<data>/homes/<id>.img       image: ext4 in a sparse file
 *	<data>/homes/<id>/          btrfs, project, directory
 *	<data>/homes/<id>.lock/     the lock, see home_lock()
 *	<data>/homes/<id>.raw       a virtual machine's: a disk, told as an
 *	                            image (disk.h)
 *	<data>/snapshots/<id>/NAME  its snapshots (NAME.img for images,
 *	                            NAME.raw for disks)
 *
 * Ids on disk are those that the desktop sees. Everything is synchronous and
 * runs as root in an operation process with a deadline, which may be killed
 * at any point: a name that is not ".new" never holds half a volume.
 */
#ifndef STORAGE_HOME_H
#define STORAGE_HOME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/field.h"
#include "model/states.h"

#define HOME_NAME_MAX 64 /* of a snapshot */

struct home {
	const char *data_dir;
	int64_t vm_id;
	enum home_store store; /* the node's choice, for one to be made */
	int64_t size_mb;       /* 0: no limit */
	bool machine;          /* that of the VM as a virtual machine */
};

/* As it is. */
struct home_info {
	enum home_store store;
	int64_t size_mb; /* 0: no limit */
	int64_t used_mb; /* -1: nobody counts */
};
extern const struct field home_info_fields[];

/* Whether homes can be kept so on this node; else what is missing. */
int home_check(const char *data_dir, enum home_store store, struct err *err);

/*
 * Locks the home for as long as the mount namespace of the caller, or the
 * mount <mnt_dir>/homelock in it, lives. The kernel keeps the lock, so
 * nothing of it is left whatever is killed. A namespace that has just lost
 * its last process may need a moment to let go: waits for wait_ms. Held by
 * somebody else: ERR_CONFLICT.
 */
int home_lock(
    const struct home *h, const char *mnt_dir, int wait_ms, struct err *err);

/* Makes the volume when it is missing and mounts it at <mnt_dir>/homefs with
 * at least that size. The lock must be held. */
int home_mount(const struct home *h, const char *mnt_dir, struct home_info *ret,
    struct err *err);

/* fd: the root directory of the mounted volume, -1: it isn't mounted. */
int home_look(
    const struct home *h, int fd, struct home_info *ret, struct err *err);
/* To h->size_mb, which is not less than now. fd -1: the lock must be held. */
int home_grow(
    const struct home *h, int fd, struct home_info *ret, struct err *err);

/* To the kind that is chosen for it now, with all its files. The lock must be
 * held; mounts in mnt_dir. */
int home_convert(const struct home *h, const char *mnt_dir, struct err *err);

/* fd as above: a desktop may be writing. */
int home_snapshot(
    const struct home *h, const char *name, int fd, struct err *err);
/* The lock must be held; what the home is now is lost. */
int home_restore(const struct home *h, const char *name, struct err *err);
int home_forget(const struct home *h, const char *name, struct err *err);
/* In no order. made_us: wall clock. */
int home_each_snapshot(const struct home *h,
    void (*fn)(const char *name, int64_t made_us, void *arg), void *arg,
    struct err *err);

#endif
