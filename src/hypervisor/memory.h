/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a VM's processes use, and taking it back while they are frozen. Works
 * on cgroups and processes alone, so it is the same for every hypervisor.
 * Operation process only: with thousands of processes it takes its time.
 */
#ifndef HYPERVISOR_MEMORY_H
#define HYPERVISOR_MEMORY_H

#include <jansson.h>

#include "hypervisor/cgroup.h"
#include "model/usage.h"

/* The items of model/usage.h. A VM that ends meanwhile has fewer. */
void memory_usage(
    const struct cgroup *cg, int64_t vm_id, int64_t ret[USAGE_COUNT_]);
/* Appends the usage of every VM on the node as an array of integers. */
void memory_usage_all(const struct cgroup *cg, json_t *list);

struct memory_reclaimed {
	int64_t before_kb, after_kb; /* PSS */
	int64_t swapped_kb;          /* in swap afterwards */
	int64_t frozen_us, reclaim_us;
	const char *note; /* why there was not more to win; NULL */
};

/* Waits until the VM is frozen (ERR_TIMEOUT: it can't be), then gives its
 * pages back to the node: those of files, and to swap what is its own. */
int memory_reclaim(const struct cgroup *cg, int64_t vm_id,
    struct memory_reclaimed *ret, struct err *err);

#endif
