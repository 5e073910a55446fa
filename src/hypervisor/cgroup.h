/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The cgroups of a node's VMs. On a host with cgroup v2 alone there is one
 * hierarchy; on a hybrid host (development machines) each v1 controller has
 * its own besides the unified one, which has no controllers but still names,
 * freezes and kills. A VM has, in each hierarchy:
 *
 *	<top>/op/<id>	the process that starts it, until liblxc moves on
 *	<top>/mon/<id>	liblxc's monitor
 *	<top>/ct/<id>	the desktop; limits are here
 *	<top>/pivot	where a monitor goes before it removes its own group
 *	<top>, of v2 <top>/op	a process that waits for its next start
 *
 * <top> is [node] cgroup: nothing outside of it is ever touched. Used by the
 * operation processes and, for finding a monitor, by the helper.
 */
#ifndef HYPERVISOR_CGROUP_H
#define HYPERVISOR_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CGROUP_ROOTS_MAX 24

struct cgroup_root {
	char *base;        /* "<mount><where PID 1 is>" */
	char *path;        /* "<base>/<top>" */
	char *controllers; /* ",cpu,cpuacct,"; v2: what the kernel offers */
	bool unified;
};

struct cgroup {
	char *top;
	struct cgroup_root roots[CGROUP_ROOTS_MAX];
	int n_roots;
	int unified; /* index into roots */
};

enum cgroup_part { CGROUP_OP, CGROUP_MON, CGROUP_CT, CGROUP_PART_COUNT_ };

/* Reads the mounts and where PID 1 is, which is where liblxc starts to count.
 * ERR_CONFIG without a unified hierarchy. */
int cgroup_init(struct cgroup *cg, const char *top, struct err *err);
/* The same from the texts of /proc/self/mountinfo and /proc/1/cgroup. */
int cgroup_parse(struct cgroup *cg, const char *top, const char *mountinfo,
    const char *init_cgroup, struct err *err);
void cgroup_done(struct cgroup *cg);

/* "op/7" and so on, as liblxc wants it below top. Heap. */
char *cgroup_name(
    const struct cgroup *cg, enum cgroup_part part, int64_t vm_id);

/* Puts the calling process into op/<id> of the unified hierarchy, so that
 * whatever it starts can be found and killed. */
int cgroup_enter_op(const struct cgroup *cg, int64_t vm_id, struct err *err);
/* Out of the VM's groups, once liblxc has made them: it puts the process that
 * asks for a container into the monitor's, as it does the monitor. */
int cgroup_leave(const struct cgroup *cg, struct err *err);

/* Whoever may make groups below the part's can't nest them deeper than what
 * is removed and looked into here. */
int cgroup_limit_depth(
    const struct cgroup *cg, enum cgroup_part part, struct err *err);

/* Makes the part's directories in every hierarchy that names, freezes or
 * limits VMs, where liblxc doesn't; a process enters them all. */
int cgroup_make(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err);
int cgroup_enter(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err);

/* True if any directory or process of that part is there. */
bool cgroup_exists(
    const struct cgroup *cg, enum cgroup_part part, int64_t vm_id);
bool cgroup_populated(
    const struct cgroup *cg, enum cgroup_part part, int64_t vm_id);
/* First process of the part, -1 if none. */
pid_t cgroup_first_pid(
    const struct cgroup *cg, enum cgroup_part part, int64_t vm_id);
/* Returns false when it is still populated after timeout_ms. */
bool cgroup_wait_empty(const struct cgroup *cg, enum cgroup_part part,
    int64_t vm_id, int timeout_ms);
/* Stops the VM's processes, or lets them go on; returns before all have
 * stopped. By v2's freezer, which every kernel has that can start our
 * containers: what is frozen by it can still be killed. */
int cgroup_freeze(
    const struct cgroup *cg, int64_t vm_id, bool freeze, struct err *err);
bool cgroup_is_frozen(const struct cgroup *cg, int64_t vm_id);
bool cgroup_wait_frozen(const struct cgroup *cg, int64_t vm_id, int timeout_ms);
/* Thaws and kills everything in it; success if there is nothing. */
int cgroup_kill(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    struct err *err);
/* Removes the part's directories in every hierarchy, deepest first. */
int cgroup_remove(const struct cgroup *cg, enum cgroup_part part, int64_t vm_id,
    bool *ret_removed, struct err *err);
/* Calls cb for each id that has a directory in any part and hierarchy. */
void cgroup_each(
    const struct cgroup *cg, void (*cb)(int64_t vm_id, void *arg), void *arg);

/* Calls cb for each VM that has processes. */
void cgroup_each_running(
    const struct cgroup *cg, void (*cb)(int64_t vm_id, void *arg), void *arg);
/* Calls cb for each process of the part, also in groups that the VM made. */
void cgroup_each_pid(const struct cgroup *cg, enum cgroup_part part,
    int64_t vm_id, void (*cb)(pid_t pid, void *arg), void *arg);

/* The hierarchy that controls memory, cpu or pids; NULL: none does. */
const struct cgroup_root *cgroup_controller(
    const struct cgroup *cg, const char *controller);
/* A file of <part>/<id> in the controller's hierarchy, final newline cut. False
 * if there is no such file. */
bool cgroup_read(const struct cgroup *cg, const char *controller,
    enum cgroup_part part, int64_t vm_id, const char *file, char *ret,
    size_t size);
/* The same in the unified hierarchy, whatever it controls. */
bool cgroup_read_unified(const struct cgroup *cg, int64_t vm_id,
    const char *file, char *ret, size_t size);
/* Writes a file of ct/<id> in the unified hierarchy; false if it can't. */
bool cgroup_write_unified(
    const struct cgroup *cg, int64_t vm_id, const char *file, const char *text);
/* Writes a file of a part in the controller's hierarchy; false if it can't. */
bool cgroup_write(const struct cgroup *cg, const char *controller,
    enum cgroup_part part, int64_t vm_id, const char *file, const char *text);

/* Calls cb for each process that liblxc has parked in <top>/pivot: monitors
 * that are about to end. */
void cgroup_each_parked(
    const struct cgroup *cg, void (*cb)(pid_t pid, void *arg), void *arg);

#endif
