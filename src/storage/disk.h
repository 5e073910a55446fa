/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The disks of a virtual machine, as open files: QEMU gets descriptors and
 * never a path. Synchronous, in the operation process that starts the VM.
 */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "model/fill.h"

/* Whose disks. */
struct storage_disk_vm {
	const char *data_dir;
	int64_t vm_id;
	const char *checksum; /* of the image's commit */
	bool is_volatile;     /* changes to the root are forgotten */
	uid_t uid;            /* of its QEMU, whose the disks become */
	int home_mb;          /* 0: a size of our choice, sparse */
	bool of_tree;         /* its image is a tree: its disks are ext4 */
	/* Of such a root; 0: a size of our choice, -1: as it is. */
	int root_mb;
};

struct storage_disk {
	int fd;             /* the caller's */
	const char *format; /* "qcow2" or "raw" */
	int64_t bytes;      /* as the guest sees it */
};

/* Whether that checkout is of an image that is a disk, not a tree. */
bool storage_disk_is(const char *tree);
/* The disk of the image in that checkout, for reading. ERR_IMAGE if there is
 * none, or one that leans on files outside of the image. */
int storage_disk_open(
    const char *tree, struct storage_disk *ret, struct err *err);
/* Where the VM's own state of that image is: <data>/vms/<id>/... Heap. */
char *storage_disk_dir(const struct storage_disk_vm *vm);
/* Whether that file is a disk of a virtual machine, and in which format
 * ("qcow2" by what is in it, "raw" by its name: .raw, .img, .iso); NULL: none.
 * ERR_IMAGE if it leans on other files, or is cut. */
int storage_disk_file(
    const char *path, const char **ret_format, struct err *err);
/* A raw disk as a new qcow2 file, in which what is zero takes no room. */
int storage_disk_convert(const char *raw, const char *to,
    void (*tell)(int percent), struct err *err);
/* The disk that was made of an image that is a tree (machine.h). */
int storage_disk_open_tree(const struct storage_disk_vm *vm,
    struct storage_disk *ret, struct err *err);
/* The VM's changes to `base`, for writing; made when missing. QEMU's user
 * owns it afterwards, as the home. Of a tree
 * it is a file system of its own instead of a layer of blocks, and the home is
 * formatted, too. */
int storage_disk_root(const struct storage_disk_vm *vm,
    const struct storage_disk *base, struct storage_disk *ret, struct err *err);
/* Whether the VM has changes of its own: storage_disk_root() would make none.
 */
bool storage_disk_has_root(const struct storage_disk_vm *vm);
/* A nameless file for what a commit writes. bytes: of it at most, sparse. Fails
 * with ERR_NO_SPACE when `need` bytes don't fit on the node's disk. */
int storage_disk_scratch(const struct storage_disk_vm *vm, int64_t bytes,
    uint64_t need, int *ret_fd, struct err *err);
int storage_disk_home(const struct storage_disk_vm *vm,
    struct storage_disk *ret, struct err *err);
/* How full they are, by what was ever written to them and not given back. Of
 * the system only if its image is a tree; size_kb 0: not known. */
int storage_disk_fill(const struct storage_disk_vm *vm,
    struct fill_facts *ret_system, struct fill_facts *ret_home,
    struct err *err);

#endif
