/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Limits of a VM. Each is chosen by the hierarchy that really has its
 * controller (liblxc, for one, silently ignores keys of the other version),
 * and what the kernel then has is read back.
 */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/hv_priv.h"

#define MB         (1024LL * 1024)
#define PERIOD_US  100000 /* of the CPU quota: the kernel's default */
#define US_PERCENT (PERIOD_US / 100)

enum limit_id {
	LIMIT_MEMORY,
	LIMIT_SWAP,
	LIMIT_QUOTA,
	LIMIT_WEIGHT,
	LIMIT_PIDS,
	LIMIT_COUNT_
};

/* In this order: v1 refuses memory and swap below memory alone. */
static const struct limit {
	const char *what;
	const char *controller;
	const char *v1, *v2;
} limits[] = {
	[LIMIT_MEMORY] = { "memory", "memory", "memory.limit_in_bytes",
	    "memory.max" },
	[LIMIT_SWAP] = { "swap", "memory", "memory.memsw.limit_in_bytes",
	    "memory.swap.max" },
	[LIMIT_QUOTA] = { "CPU quota", "cpu", "cpu.cfs_quota_us", "cpu.max" },
	[LIMIT_WEIGHT] = { "CPU weight", "cpu", "cpu.shares", "cpu.weight" },
	[LIMIT_PIDS] = { "processes", "pids", "pids.max", "pids.max" },
};

/* The number that the file is to hold; -1: not limited. */
static int64_t
wanted(const struct hv_vm *vm, enum limit_id id, bool v2)
{
	switch (id) {
	case LIMIT_MEMORY:
		return vm->memory_mb * MB;
	case LIMIT_SWAP: /* v1 limits the sum of both */
		return (v2 ? 0 : vm->memory_mb * MB) + vm->swap_mb * MB;
	case LIMIT_QUOTA:
		return vm->cpu_percent > 0
			   ? (int64_t)vm->cpu_percent * US_PERCENT
			   : -1;
	case LIMIT_WEIGHT: /* 100 is the default, in v1 1024 */
		if (v2)
			return vm->cpu_weight;
		return vm->cpu_weight * 1024LL / 100 < 2
			   ? 2
			   : vm->cpu_weight * 1024LL / 100;
	case LIMIT_PIDS:
		return vm->pids_max;
	case LIMIT_COUNT_:
		break;
	}
	return -1;
}

/* Without swap in the kernel, or without its accounting, there is no file;
 * then there must be no swap either. */
static bool
swap_is_counted(const struct hv_op *op)
{
	const struct cgroup_root *root = cgroup_controller(&op->cg, "memory");
	_cleanup_(freep)
	char *path = NULL;

	if (root == NULL || root->unified)
		return root != NULL && fs_exists("/proc/swaps");
	path = xasprintf("%s/memory.memsw.limit_in_bytes", root->base);
	return fs_exists(path);
}

static bool
node_has_swap(void)
{
	char *text = NULL, *nl;
	bool found;

	if (fs_read_file("/proc/swaps", 64 * 1024, &text, NULL, NULL) < 0)
		return false;
	nl = strchr(text, '\n'); /* after the heading */
	found = nl != NULL && nl[1] != '\0';
	free(text);
	return found;
}

static bool
applies(const struct hv_op *op, enum limit_id id, int64_t value)
{
	return value >= 0 && (id != LIMIT_SWAP || swap_is_counted(op));
}

static int
no_controller(const struct hv_op *op, const struct limit *l, struct err *err)
{
	if (op->node->limits_optional)
		return 0;
	return err_set(err, ERR_CONFIG,
	    "the kernel has no cgroup controller '%s', so a desktop's %s can't "
	    "be limited; boot with it, or set limits_optional = yes in [node] "
	    "of node.conf",
	    l->controller, l->what);
}

int
hv_limits_each(
    const struct hv_op *op, hv_limit_cb set, void *arg, struct err *err)
{
	int i, r;

	for (i = 0; i < LIMIT_COUNT_; i++) {
		const struct limit *l = &limits[i];
		const struct cgroup_root *root =
		    cgroup_controller(&op->cg, l->controller);
		struct hv_limit limit;
		int64_t value;

		if (root == NULL) {
			if ((r = no_controller(op, l, err)) < 0)
				return r;
			continue;
		}
		value = wanted(op->vm, (enum limit_id)i, root->unified);
		if (!applies(op, (enum limit_id)i, value))
			continue;
		limit.controller = l->controller;
		limit.file = root->unified ? l->v2 : l->v1;
		limit.unified = root->unified;
		if (i == LIMIT_QUOTA && root->unified)
			snprintf(limit.value, sizeof(limit.value), "%lld %d",
			    (long long)value, PERIOD_US);
		else
			snprintf(limit.value, sizeof(limit.value), "%lld",
			    (long long)value);
		if ((r = set(&limit, arg, err)) < 0)
			return r;
	}
	return 0;
}

/* False: nobody controls it, or no such file. */
static bool
read_limit(const struct hv_op *op, enum limit_id id, int64_t *ret, bool *ret_v2)
{
	const struct limit *l = &limits[id];
	const struct cgroup_root *root =
	    cgroup_controller(&op->cg, l->controller);
	char text[128];

	if (root == NULL)
		return false;
	*ret_v2 = root->unified;
	if (!cgroup_read(&op->cg, l->controller, CGROUP_CT, op->vm_id,
		root->unified ? l->v2 : l->v1, text, sizeof(text)))
		return false;
	text[strcspn(text, " \n")] = '\0';
	if (!str_to_i64(text, -1, INT64_MAX, ret) || *ret > INT64_MAX / 2)
		*ret = -1; /* "max"; v1 has a number near 2^63 */
	return true;
}

static int64_t
read_or_none(const struct hv_op *op, enum limit_id id, bool *ret_v2)
{
	int64_t v;

	return read_limit(op, id, &v, ret_v2) ? v : -1;
}

int
hv_limits_read(const struct hv_op *op, struct hv_limits *ret, struct err *err)
{
	bool v2 = false;
	int64_t v;

	if (!cgroup_exists(&op->cg, CGROUP_CT, op->vm_id))
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)op->vm_id);
	v = read_or_none(op, LIMIT_MEMORY, &v2);
	ret->memory_mb = v < 0 ? -1 : v / MB;
	v = read_or_none(op, LIMIT_SWAP, &v2);
	ret->swap_mb = v < 0 ? -1 : v / MB;
	if (v >= 0 && !v2)
		ret->swap_mb -= ret->memory_mb;
	v = read_or_none(op, LIMIT_QUOTA, &v2);
	ret->cpu_percent = v < 0 ? -1 : (int32_t)(v / US_PERCENT);
	v = read_or_none(op, LIMIT_WEIGHT, &v2);
	if (v >= 0 && !v2)
		v = (v * 100 + 512) / 1024;
	ret->cpu_weight = (int32_t)v;
	ret->io_weight = hv_io_weight_read(op);
	ret->pids_max = (int32_t)read_or_none(op, LIMIT_PIDS, &v2);
	return 0;
}

int
hv_limits_verify(const struct hv_op *op, struct err *err)
{
	int i;

	for (i = 0; i < LIMIT_COUNT_; i++) {
		enum limit_id id = (enum limit_id)i;
		const struct cgroup_root *root =
		    cgroup_controller(&op->cg, limits[i].controller);
		int64_t want, have = -1;
		bool v2;

		if (root == NULL)
			continue; /* hv_limits_each() has decided */
		want = wanted(op->vm, id, root->unified);
		if (id == LIMIT_SWAP && !swap_is_counted(op)) {
			if (!node_has_swap())
				continue;
			return err_set(err, ERR_CONFIG,
			    "the node has swap that the kernel doesn't count "
			    "(boot with swapaccount=1, or swapoff -a)");
		}
		if (want < 0)
			continue;
		if (!read_limit(op, id, &have, &v2) || have != want)
			return err_set(err, ERR_VM_START,
			    "its limit on %s is %lld, not the %lld that was "
			    "set (cgroup %s/ct/%lld, file %s)",
			    limits[i].what, (long long)have, (long long)want,
			    root->path, (long long)op->vm_id,
			    root->unified ? limits[i].v2 : limits[i].v1);
	}
	return 0;
}
