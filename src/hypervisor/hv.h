/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hypervisors behind one table of functions. They run in an operation
 * process: single-threaded, root, in the node's network namespace, with a
 * deadline and a group kill set by the helper that started it. They are
 * synchronous, know no database and decide nothing.
 */
#ifndef HYPERVISOR_HV_H
#define HYPERVISOR_HV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/field.h"
#include "model/apparmor.h"
#include "model/fill.h"
#include "model/states.h"
#include "storage/home.h"

#define HV_VM_ID_MAX 999999999999 /* = CONFINE_ID_MAX: names of links */

/* What the node gives to every VM. Strings are borrowed. */
struct hv_node {
	const char *run_dir;
	const char *data_dir;
	const char *programs_dir;
	const char *cgroup; /* top cgroup */
	const char *bridge;
	const char *gateway;
	int32_t prefix;
	const char *gateway6; /* "fd00:88::1"; "": no IPv6 */
	int32_t prefix6;
	const char *dns;      /* "9.9.9.9 2001:db8::53" */
	bool limits_optional; /* start also without cgroup controllers */
};

/* One VM to start. */
struct hv_vm {
	int64_t vm_id;
	int64_t epoch;
	const char *hypervisor; /* word of model/states.h */
	const char *hostname;
	const char *checksum; /* image commit, checked out */
	bool is_volatile;     /* "volatile" in JSON */
	const char *address;
	int32_t idmap_slot;
	int64_t memory_mb;
	int64_t swap_mb;
	int32_t cpu_percent; /* 100 = one CPU; 0: no quota */
	int32_t cpu_weight;
	int32_t io_weight; /* 100: normal */
	int32_t pids_max;
	int32_t home_mb;
	enum home_store home_store; /* for what is yet to be made */
	enum root_store root_store;
	int32_t root_mb; /* limit of changes to the root; 0: none */
	/* The firewall's, no concern of a hypervisor (confine/confine.h). */
	const char *egress;
	int64_t rate_kbit;
	/* Of containers. */
	const char *devices; /* words of model/device.h */
	/* Of virtual machines. */
	const char *accel;   /* "auto", "kvm", "tcg" */
	const char *machine; /* "q35", "microvm" */
	bool memory_merge;   /* equal pages of VMs may become one (KSM) */
	bool resume; /* goes on from its memory on disk; else that is removed */
};

#define HV_PHASES_MAX 8

/* A run of a VM as it was found or started. */
struct hv_run {
	int64_t epoch;
	pid_t pid; /* of its init, or of QEMU */
	unsigned long long start_time;
	int pidfd; /* the caller's; -1: none */
	struct {
		const char *name;
		int64_t us;
	} phases[HV_PHASES_MAX];
	int n_phases;
	struct home_info home; /* of a start */
	const char *init;      /* of a container's start: static; or NULL */
};

/* As the kernel has them. -1: no limit, or nobody controls it. */
struct hv_limits {
	int64_t memory_mb;
	int64_t swap_mb;
	int32_t cpu_percent;
	int32_t cpu_weight;
	int32_t io_weight;
	int32_t pids_max;
};

/* A running VM's disks (model/fill.h), and whether it stood still when it was
 * looked at. */
enum hv_paused { HV_PAUSED_UNKNOWN = -1, HV_RUNS, HV_PAUSED };
struct hv_look {
	struct fill_facts system, home;
	enum hv_paused paused;
};

struct hv_looked {
	int64_t vm_id;
	struct hv_look look;
};

typedef void (*hv_progress_cb)(int percent, const char *text);

struct hv_op; /* hv_priv.h */

struct hv_ops {
	const char *name;
	/* 0: runs, limits verified. On failure parts may be left: clean(). */
	int (*start)(const struct hv_node *node, const struct hv_vm *vm,
	    struct hv_run *ret, struct err *err);
	/* A start that succeeded leaves the process as it found it: fit for
	 * another one. */
	bool starts_cleanly;
	/* ERR_NOT_FOUND if no run of it is alive. */
	int (*adopt)(const struct hv_node *node, int64_t vm_id,
	    struct hv_run *ret, struct err *err);
	/* Asks, waits grace_ms, kills. 0: gone (also if it never was). */
	int (*stop)(const struct hv_node *node, int64_t vm_id, int grace_ms,
	    struct err *err);
	/* Removes all that is left on the node but disks; words for what it
	 * removed go to the JSON array. */
	int (*clean)(const struct hv_node *node, int64_t vm_id, json_t *removed,
	    struct err *err);
	/* Appends every id of which something is here to the JSON array. */
	int (*list)(const struct hv_node *node, json_t *ids, struct err *err);
	int (*limits)(const struct hv_node *node, int64_t vm_id,
	    struct hv_limits *ret, struct err *err);
	/* Saves the running VM's memory to disk and ends it; a start with
	 * `resume` goes on from there. On failure it runs on. NULL: it can't.
	 */
	int (*suspend)(const struct hv_node *node, int64_t vm_id,
	    int64_t *ret_bytes, struct err *err);
	/* A stream to its screen (VNC), or to its serial console; the
	 * descriptor is the caller's. NULL: it has none. */
	int (*screen)(const struct hv_node *node, int64_t vm_id, int *ret_fd,
	    struct err *err);
	int (*console)(const struct hv_node *node, int64_t vm_id, int *ret_fd,
	    struct err *err);
	/* What the stopped VM has changed of its image, without a mount by the
	 * node: a tar of it (boot/pack.c), or its whole disk as qcow2. The
	 * descriptor is the caller's, and nothing to be trusted. vm: what a
	 * start has, but for vm_id, checksum and accel ignored. Parts may be
	 * left: clean(). NULL: the node can see them. */
	int (*pack)(const struct hv_node *node, const struct hv_vm *vm,
	    hv_progress_cb progress, int *ret_fd, struct err *err);
	/* How full what it may change of its system is, and its home, where
	 * they have limits of their own. It is not frozen. */
	int (*look)(
	    const struct hv_op *op, struct hv_look *ret, struct err *err);
	/* Sets `paused` of each that answers in time: it stands still because
	 * the node's disk had no room for what it wrote. go_on: it has now, so
	 * that they are let go on. NULL: none ever does. */
	void (*ask_paused)(const struct hv_node *node, struct hv_looked *vms,
	    size_t n, bool go_on);
};

extern const struct hv_ops hv_lxc, hv_kvm;

/* Looks at the disks of every VM that is awake: appends to the JSON array one
 * array of integers each (model/fill.h, enum look). A VM that can't be looked
 * at now isn't in it. */
int hv_look_all(
    const struct hv_node *node, bool go_on, json_t *list, struct err *err);

/* ERR_PARAMETER if there is none of that name. */
int hv_by_name(const char *name, const struct hv_ops **ret, struct err *err);
/* The one that the record of the VM's run names; lxc if there is none: then
 * only bits of it can be here, which are the same for all. */
const struct hv_ops *hv_of_vm(const struct hv_node *node, int64_t vm_id);

/* Whether memory of a suspended VM is on disk; and that away, with what
 * was left of saving it (kvm_state.c). */
bool hv_state_is_saved(const struct hv_node *node, int64_t vm_id);
int hv_state_forget(const struct hv_node *node, int64_t vm_id, struct err *err);

/* Words for what clean() would remove of the VM (clean.c). */
int hv_left(
    const struct hv_node *node, int64_t vm_id, json_t *left, struct err *err);
/* What is left of no single run (remains.c): objects {kind, vm_id, name} in
 * the order in which they can be removed; and one of them away. */
int hv_remains_find(const struct hv_node *node, json_t *items, struct err *err);
int hv_remains_remove(const struct hv_node *node, const char *kind,
    int64_t vm_id, const char *name, struct err *err);

/* What the kernel's files say now. */
enum apparmor hv_apparmor(void);

/* JSON form of the structs, for the way to the operation process. */
extern const struct field hv_node_fields[];
extern const struct field hv_vm_fields[];
extern const struct hv_vm hv_vm_defaults;
extern const struct field hv_limits_fields[];

/* Forms of every argument; ERR_PARAMETER names the one that is wrong. */
int hv_vm_check(const struct hv_vm *vm, struct err *err);
bool hv_is_vm_id(int64_t vm_id);
bool hv_is_checksum(const char *s);
bool hv_is_hostname(const char *s);
/* run_dir and cgroup appear in liblxc's configuration: no spaces and such. */
int hv_node_check(const struct hv_node *node, struct err *err);

/* Adds the phase that ends now; *since becomes now. */
void hv_phase(struct hv_run *run, const char *name, int64_t *since_us);

/* The record of the VM's run as it was written; NULL: there is none. */
json_t *hv_record_json(const struct hv_node *node, int64_t vm_id);
/* <run>/vms/<id>: our own notes on a VM, root only. Heap. */
char *hv_vm_dir(const struct hv_node *node, int64_t vm_id);
/* The channel's directory of a running VM as an O_PATH descriptor, found
 * through its monitor, never through names that the guest controls. */
struct cgroup;
int hv_lxc_open_channel(const struct cgroup *cg, const char *run_dir,
    int64_t vm_id, int *ret_fd, struct err *err);
/* The root of its home volume, the same way. */
int hv_lxc_open_home(const struct cgroup *cg, const char *run_dir,
    int64_t vm_id, int *ret_fd, struct err *err);

#endif
