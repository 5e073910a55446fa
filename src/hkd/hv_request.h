/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The operations of qvd-hkd-vm. Each sends its result (op.h) and returns an
 * exit status, or fails. */
#ifndef HKD_HV_REQUEST_H
#define HKD_HV_REQUEST_H

#include "base/arena.h"
#include "hypervisor/hv.h"

struct hv_request {
	const struct hv_ops *ops;
	struct hv_node node;
	const json_t *args;
	int64_t vm_id;
	struct arena *arena;
};

/* storage_op.c: on the home of a VM, also while it runs where that can be. */
int home_op_look(const struct hv_request *q, struct err *err);
int home_op_snapshot(const struct hv_request *q, struct err *err);
int home_op_restore(const struct hv_request *q, struct err *err);
int home_op_forget(const struct hv_request *q, struct err *err);
int home_op_grow(const struct hv_request *q, struct err *err);
int home_op_convert(const struct hv_request *q, struct err *err);
/* On its changes to its root. */
int root_op_collect(const struct hv_request *q, struct err *err);

#endif
