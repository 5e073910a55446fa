/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How full something of limited size is, in words: of a VM what it has changed
 * in its system, and its home; of a node the file systems that it keeps things
 * in. A word changes at one mark and changes back at a lower one, so that who
 * writes and removes at the mark is not told of each step. Pure.
 */
#ifndef MODEL_FILL_H
#define MODEL_FILL_H

#include <stdint.h>

#include "base/enum.h"

#define FILL_TABLE(X)   \
	X(OK, "ok")     \
	X(HIGH, "high") \
	X(FULL, "full")

#define X(name, word) FILL_##name,
enum fill { FILL_TABLE(X) FILL_COUNT_ };
#undef X
ENUM_FUNCTIONS(fill);

/* What a VM has of limited size. */
#define VM_DISK_TABLE(X)    \
	X(SYSTEM, "system") \
	X(HOME, "home")

#define X(name, word) VM_DISK_##name,
enum vm_disk { VM_DISK_TABLE(X) VM_DISK_COUNT_ };
#undef X
ENUM_FUNCTIONS(vm_disk);

/* What was measured. */
struct fill_facts {
	int64_t used_kb;
	int64_t size_kb; /* 0: no limit, or nobody knows */
	int64_t
	    files_permille; /* of the files that there can be; 0: no limit */
};

/* -1: nobody knows. In hundredths, of space or of files, what there is less
 * of. */
int fill_percent(const struct fill_facts *f);
/* The word now, when it was `was` at the last look. */
enum fill fill_level(enum fill was, const struct fill_facts *f);

/* A VM as it was looked at: its place in an array of integers on the way from
 * the operation process to the house-keeper. */
enum look {
	LOOK_VM_ID,
	LOOK_SYSTEM, /* three: of struct fill_facts */
	LOOK_HOME = LOOK_SYSTEM + 3,
	LOOK_PAUSED = LOOK_HOME + 3, /* 1: QEMU waits for room on the node; -1:
				      * it didn't say */
	LOOK_COUNT_
};

#endif
