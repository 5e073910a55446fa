/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2 files as they are on disk: a stranger's head and tables, of which not a
 * word is believed. Inside of this folder, in the processes of operations.
 */
#ifndef STORAGE_QCOW2_H
#define STORAGE_QCOW2_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

#define QCOW2_MAGIC    "QFI\xfb"
#define QCOW2_DATAFILE 4  /* incompatible feature: contents elsewhere */
#define QCOW2_EXTENDED 16 /* ... : entries of 16 bytes */

/* The head; big-endian. */
struct qcow2_head {
	char magic[4];
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_size;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_size;
	uint64_t l1_offset;
	uint64_t refcount_offset;
	uint32_t other[4];
	uint64_t incompatible; /* of version 3 */
};
_Static_assert(sizeof(struct qcow2_head) == 80, "as in the specification");

/* Whether all that it names is in the file, which has that many bytes. */
int qcow2_check(int fd, const char *path, uint64_t bytes,
    const struct qcow2_head *head, struct err *err);

#endif
