/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One image, two hypervisors: what a virtual machine boots of an image that
 * is a tree, made of its checkout once and used by all its machines:
 *
 *	<data>/images/machines/<commit>/root.erofs	the tree, as a disk
 *	                                vmlinuz		its newest kernel
 *	                                initrd.img	qvd-boot, the agent and
 *	                                                the kernel's modules
 *	                                made-of		of which programs
 *
 * Synchronous, root, in qvd-hkd-image. The image is a stranger's: names are
 * looked up inside of its tree only.
 */
#ifndef STORAGE_MACHINE_H
#define STORAGE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Complete afterwards; a new version of our programs gets a new initrd.
 * Nothing for an image that is a disk. ERR_IMAGE: it has no usable kernel. */
int storage_machine_prepare(const char *data_dir, const char *programs_dir,
    const char *checksum, struct err *err);
/* Heap. */
char *storage_machine_dir(const char *data_dir, const char *checksum);
/* Those whose checkouts are gone; *ret_bytes grows by their sizes. */
int storage_machine_collect(
    const char *data_dir, bool dry_run, uint64_t *ret_bytes, struct err *err);

/* initrd.c: writes path. kernel: of the image, whose root is tree_fd. */
int initrd_write(int tree_fd, const char *kernel, const char *programs_dir,
    const char *path, struct err *err);
/* Opens a file of the image, whatever links it is behind; -1 and errno. */
int machine_open(int tree_fd, const char *path, int flags);

#endif
