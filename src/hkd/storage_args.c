/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/storage_op.h"
#include "hypervisor/hv.h"
#include "storage/home.h"

/* Microseconds are counted with it. */
#define KEEP_MAX_MS (INT64_MAX / 2000)

const struct field storage_args_fields[] = { FIELD(struct storage_args, vm_id,
						 I64, .flags = FIELD_REQUIRED,
						 .min = 1, .max = HV_VM_ID_MAX),
	FIELD(struct storage_args, name, STR, .flags = FIELD_NAME,
	    .max = HOME_NAME_MAX),
	FIELD(struct storage_args, size_mb, I64, .min = 0, .max = INT32_MAX),
	FIELD_ENUM_OF(struct storage_args, home_store, home_store_words),
	FIELD(struct storage_args, machine, BOOL),
	FIELD(struct storage_args, keep, STR, .max = 64),
	FIELD(struct storage_args, keep_ms, I64, .min = 0, .max = KEEP_MAX_MS),
	FIELD_END };
