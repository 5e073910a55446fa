/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hypervisor/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "model/admission.h"

#define FREEZE_WAIT_MS 5000

/* The number after a key such as "\nPss:" or "\nkernel "; 0: none. */
static int64_t
number_after(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p == NULL ? 0 : strtoll(p + strlen(key), NULL, 10);
}

static void
add_process(pid_t pid, void *arg)
{
	int64_t *usage = arg;
	_cleanup_(freep)
	char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	/* It may end while we look, and a zombie has no memory. */
	if (fs_read_file(path, 64 * 1024, &text, NULL, NULL) < 0)
		return;
	usage[USAGE_PROCESSES]++;
	usage[USAGE_PSS] += number_after(text, "\nPss:");
	usage[USAGE_ANON] += number_after(text, "\nPss_Anon:");
	usage[USAGE_SWAP] += number_after(text, "\nSwapPss:");
}

/* A container's monitor, which is beside it: with what the kernel holds for
 * that. */
static int64_t
monitor_kb(const struct cgroup *cg, int64_t vm_id)
{
	const struct cgroup_root *root = cgroup_controller(cg, "memory");
	char text[64];

	return root != NULL && cgroup_read(cg, "memory", CGROUP_MON, vm_id,
				   root->unified ? "memory.current"
						 : "memory.usage_in_bytes",
				   text, sizeof(text))
		   ? strtoll(text, NULL, 10) / 1024
		   : 0;
}

/* The kernel's own memory for the VM: tables, sockets, dentries. */
static int64_t
kernel_kb(const struct cgroup *cg, int64_t vm_id)
{
	const struct cgroup_root *root = cgroup_controller(cg, "memory");
	char text[8192];

	if (root == NULL)
		return 0;
	if (root->unified)
		return cgroup_read(cg, "memory", CGROUP_CT, vm_id,
			   "memory.stat", text, sizeof(text))
			   ? number_after(text, "\nkernel ") / 1024
			   : 0;
	return cgroup_read(cg, "memory", CGROUP_CT, vm_id,
		   "memory.kmem.usage_in_bytes", text, sizeof(text))
		   ? strtoll(text, NULL, 10) / 1024
		   : 0;
}

static int64_t
pressure_of(const struct cgroup *cg, int64_t vm_id, const char *file)
{
	char text[256];
	double avg10;
	int64_t total;

	return cgroup_read_unified(cg, vm_id, file, text, sizeof(text)) &&
		       pressure_parse(text, &avg10, &total)
		   ? (int64_t)(avg10 * 100 + 0.5)
		   : 0;
}

void
memory_usage(const struct cgroup *cg, int64_t vm_id, int64_t ret[USAGE_COUNT_])
{
	memset(ret, 0, sizeof(*ret) * USAGE_COUNT_);
	ret[USAGE_VM_ID] = vm_id;
	ret[USAGE_HIBERNATED] = cgroup_is_frozen(cg, vm_id);
	cgroup_each_pid(cg, CGROUP_CT, vm_id, add_process, ret);
	ret[USAGE_KERNEL] = kernel_kb(cg, vm_id) + monitor_kb(cg, vm_id);
	ret[USAGE_CPU_PRESSURE] = pressure_of(cg, vm_id, "cpu.pressure");
	ret[USAGE_MEM_PRESSURE] = pressure_of(cg, vm_id, "memory.pressure");
	ret[USAGE_IO_PRESSURE] = pressure_of(cg, vm_id, "io.pressure");
}

struct usage_list {
	const struct cgroup *cg;
	json_t *list;
};

static void
append_usage(int64_t vm_id, void *arg)
{
	const struct usage_list *l = arg;
	int64_t usage[USAGE_COUNT_];
	json_t *row = json_array();
	int i;

	memory_usage(l->cg, vm_id, usage);
	for (i = 0; i < USAGE_COUNT_; i++)
		json_array_append_new(row, json_integer(usage[i]));
	json_array_append_new(l->list, row);
}

void
memory_usage_all(const struct cgroup *cg, json_t *list)
{
	struct usage_list l = { cg, list };

	cgroup_each_running(cg, append_usage, &l);
}

static bool
node_has_swap(void)
{
	_cleanup_(freep)
	char *text = NULL;
	const char *nl;

	if (fs_read_file("/proc/swaps", 64 * 1024, &text, NULL, NULL) < 0)
		return false;
	nl = strchr(text, '\n'); /* after the heading */
	return nl != NULL && nl[1] != '\0';
}

/* Why what is the VM's own could not go. */
static const char *
swap_note(const struct cgroup *cg, int64_t vm_id, bool v2)
{
	char text[64];

	if (!node_has_swap())
		return "the node has no swap";
	if (v2 &&
	    cgroup_read(cg, "memory", CGROUP_CT, vm_id, "memory.swap.max", text,
		sizeof(text)) &&
	    str_eq(text, "0"))
		return "its OSF allows no swap";
	return NULL;
}

/* Asks for everything; the kernel answers EAGAIN when it can't get all, which
 * is the rule, so only what is left afterwards counts. */
static const char *
take_back(const struct cgroup *cg, int64_t vm_id)
{
	const struct cgroup_root *root = cgroup_controller(cg, "memory");
	char size[64];

	if (root == NULL)
		return "the node has no memory controller";
	if (!root->unified) {
		cgroup_write(
		    cg, "memory", CGROUP_CT, vm_id, "memory.force_empty", "0");
	} else {
		if (!cgroup_read(cg, "memory", CGROUP_CT, vm_id,
			"memory.current", size, sizeof(size)))
			return "its memory group has gone";
		if (!cgroup_write(cg, "memory", CGROUP_CT, vm_id,
			"memory.reclaim", size) &&
		    errno == ENOENT)
			return "the kernel has no memory.reclaim (Linux 5.19)";
	}
	return swap_note(cg, vm_id, root->unified);
}

int
memory_reclaim(const struct cgroup *cg, int64_t vm_id,
    struct memory_reclaimed *ret, struct err *err)
{
	int64_t usage[USAGE_COUNT_], began = time_now_us();

	if (!cgroup_wait_frozen(cg, vm_id, FREEZE_WAIT_MS))
		return err_set(err, ERR_TIMEOUT,
		    "VM %lld can't be frozen: a process of it waits in the "
		    "kernel (state D in ps)",
		    (long long)vm_id);
	ret->frozen_us = time_now_us() - began;
	memory_usage(cg, vm_id, usage);
	ret->before_kb = usage[USAGE_PSS];
	began = time_now_us();
	ret->note = take_back(cg, vm_id);
	ret->reclaim_us = time_now_us() - began;
	memory_usage(cg, vm_id, usage);
	ret->after_kb = usage[USAGE_PSS];
	ret->swapped_kb = usage[USAGE_SWAP];
	return 0;
}
