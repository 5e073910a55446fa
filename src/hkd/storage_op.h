/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arguments of the operations on a VM's storage, as the helper checks them
 * and the operation process takes them. */
#ifndef HKD_STORAGE_OP_H
#define HKD_STORAGE_OP_H

#include "base/field.h"
#include "model/states.h"

struct storage_args {
	int64_t vm_id;
	const char *name; /* of a snapshot */
	int64_t size_mb;
	enum home_store home_store;
	bool machine;     /* the home of a virtual machine */
	const char *keep; /* checksum of an image */
	int64_t keep_ms;
};

extern const struct field storage_args_fields[];

#endif
