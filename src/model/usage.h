/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a VM uses, as `qvd host top` shows it. One table gives the order on
 * the way from the operation process through the house-keeper to the API (an
 * array of integers a VM: a thousand VMs fit into one message) and the names
 * in its answer. Pure.
 */
#ifndef MODEL_USAGE_H
#define MODEL_USAGE_H

#include "base/enum.h"

/* Sizes in KiB. PSS: resident pages, shared ones divided among those who
 * share. Pressure: the share of the last 10 s in which something of the VM
 * waited for it, in hundredths of a percent. The fills are percents as of the
 * house-keeper's last look at its disks; -1: no limit, or not known. */
#define USAGE_TABLE(X)                   \
	X(VM_ID, "vm_id")                \
	X(HIBERNATED, "hibernated")      \
	X(PROCESSES, "processes")        \
	X(PSS, "pss_kb")                 \
	X(ANON, "anon_kb")               \
	X(SWAP, "swap_kb")               \
	X(KERNEL, "kernel_kb")           \
	X(CPU_PRESSURE, "cpu_pressure")  \
	X(MEM_PRESSURE, "mem_pressure")  \
	X(IO_PRESSURE, "io_pressure")    \
	X(SYSTEM_FILL, "system_percent") \
	X(HOME_FILL, "home_percent")

#define X(name, word) USAGE_##name,
enum usage { USAGE_TABLE(X) USAGE_COUNT_ };
#undef X
ENUM_FUNCTIONS(usage);

#endif
