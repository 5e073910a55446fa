/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a VM can leave on a node: processes, cgroups in every
 * hierarchy, its link, our notes, and liblxc's lock file. (Its mounts are
 * gone with its mount namespace.) Everything is found by the VM's id below
 * our own names; nothing else is looked at.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "confine/confine.h"
#include "hypervisor/hv_priv.h"
#include "storage/storage.h"

#define KILL_WAIT_MS   5000
#define PARKED_WAIT_MS 2000 /* for a monitor to end by itself */

static const enum cgroup_part parts[] = { CGROUP_OP, CGROUP_CT, CGROUP_MON };

struct parked {
	const struct hv_op *op;
	bool stuck;
};

/* A monitor has its container's name as its title. */
static bool
is_our_monitor(const struct hv_op *op, pid_t pid)
{
	_cleanup_(freep)
	char *want = xasprintf("[lxc monitor] %s %s", op->lxcpath, op->name);
	_cleanup_(freep)
	char *title = NULL;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	return fs_read_file(path, 64 * 1024, &title, NULL, NULL) == 0 &&
	       str_eq(title, want);
}

static void
end_parked(pid_t pid, void *arg)
{
	struct parked *parked = arg;
	_cleanup_(closep)
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	/* pidfd first, then the check that it is still that process. */
	if (fd < 0 || !is_our_monitor(parked->op, pid) ||
	    poll(&p, 1, PARKED_WAIT_MS) == 1)
		return;
	syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	if (poll(&p, 1, KILL_WAIT_MS) != 1)
		parked->stuck = true;
}

/* A monitor that ends leaves its group some moments before it gives up the
 * name of its control socket; a start in between would fail. */
static int
wait_parked(const struct hv_op *op, struct err *err)
{
	struct parked parked = { .op = op };

	cgroup_each_parked(&op->cg, end_parked, &parked);
	return parked.stuck ? err_set(err, ERR_TIMEOUT,
				  "the monitor of VM %lld can't be killed",
				  (long long)op->vm_id)
			    : 0;
}

int
hv_kill_all(const struct hv_op *op, struct err *err)
{
	size_t i;
	int r;

	/* The starter first, so that it makes no more; the monitor last: it
	 * removes the cgroups when the container ends. */
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!cgroup_populated(&op->cg, parts[i], op->vm_id))
			continue;
		if ((r = cgroup_kill(&op->cg, parts[i], op->vm_id, err)) < 0)
			return r;
		if (!cgroup_wait_empty(
			&op->cg, parts[i], op->vm_id, KILL_WAIT_MS))
			return err_set(err, ERR_TIMEOUT,
			    "VM %lld has a process that can't be killed "
			    "(stuck in the kernel, pid %d); its disk may be "
			    "failing, see the node's kernel log",
			    (long long)op->vm_id,
			    (int)cgroup_first_pid(
				&op->cg, parts[i], op->vm_id));
	}
	return wait_parked(op, err);
}

static void
note(json_t *removed, bool did, const char *what)
{
	if (did)
		json_array_append_new(removed, json_string(what));
}

static int
remove_groups(const struct hv_op *op, json_t *removed, struct err *err)
{
	bool did, any = false;
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		int s = cgroup_remove(
		    &op->cg, parts[i], op->vm_id, &did, r == 0 ? err : NULL);

		r = r == 0 ? s : r;
		any = any || did;
	}
	note(removed, any, "cgroups");
	return r;
}

/* liblxc's own lock, one per container name, which it never removes. */
static void
remove_lock(const struct hv_op *op)
{
	_cleanup_(freep)
	char *path = xasprintf("/run/lxc/lock/%s/.%s", op->lxcpath, op->name);
	_cleanup_(freep)
	char *dir = xasprintf("%s/%s", op->lxcpath, op->name);

	unlink(path);
	rmdir(dir);
}

int
hv_clean(
    const struct hv_node *node, int64_t vm_id, json_t *removed, struct err *err)
{
	struct hv_op op;
	bool did, alive;
	int r, s;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	alive = cgroup_populated(&op.cg, CGROUP_CT, vm_id) ||
		cgroup_populated(&op.cg, CGROUP_MON, vm_id) ||
		cgroup_populated(&op.cg, CGROUP_OP, vm_id);
	if ((r = hv_kill_all(&op, err)) < 0)
		goto out;
	note(removed, alive, "processes");
	/* Each step is tried although another failed; the first error tells
	 * what to look at. */
	r = confine_port_remove(vm_id, &did, err);
	note(removed, r == 0 && did, "link");
	s = remove_groups(&op, removed, r == 0 ? err : NULL);
	r = r == 0 ? s : r;
	s = storage_root_clean(
	    node->data_dir, vm_id, &did, r == 0 ? err : NULL);
	note(removed, s == 0 && did, "volatile root");
	r = r == 0 ? s : r;
	if (r == 0 && fs_exists(op.vm_dir)) {
		r = fs_remove_tree(op.vm_dir, err);
		note(removed, r == 0, "notes");
	}
	if (r == 0)
		remove_lock(&op);
out:
	hv_op_done(&op);
	return r < 0 ? err_wrap(err, r, "clean VM %lld", (long long)vm_id) : 0;
}

int
hv_left(
    const struct hv_node *node, int64_t vm_id, json_t *left, struct err *err)
{
	_cleanup_(freep)
	char *root =
	    xasprintf("%s/vms/%lld/volatile", node->data_dir, (long long)vm_id);
	bool alive = false, groups = false;
	struct hv_op op;
	size_t i;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		alive = alive || cgroup_populated(&op.cg, parts[i], vm_id);
		groups = groups || cgroup_exists(&op.cg, parts[i], vm_id);
	}
	note(left, alive, "processes");
	note(left, confine_port_exists(vm_id), "link");
	note(left, groups, "cgroups");
	note(left, fs_exists(root), "volatile root");
	note(left, fs_exists(op.vm_dir), "notes");
	hv_op_done(&op);
	return 0;
}

/* Ids that were found, each once. */
struct found {
	struct map seen;
	json_t *ids;
};

static void
add_id(int64_t vm_id, void *arg)
{
	struct found *found = arg;

	if (map_set(&found->seen, (uint64_t)vm_id, found) == NULL)
		json_array_append_new(found->ids, json_integer(vm_id));
}

static int
add_dir(const struct fs_entry *e, void *arg, struct err *err)
{
	int64_t id;

	if (str_to_i64(e->name, 1, HV_VM_ID_MAX, &id))
		add_id(id, arg);
	return 0;
}

static int
list_dirs(const struct hv_node *node, struct found *found, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/vms", node->run_dir);

	return fs_each_entry(path, add_dir, found, err);
}

int
hv_list(const struct hv_node *node, json_t *ids, struct err *err)
{
	struct found found = { .ids = ids };
	struct cgroup cg;
	int r;

	if ((r = cgroup_init(&cg, node->cgroup, err)) < 0)
		return r;
	map_init(&found.seen);
	cgroup_each(&cg, add_id, &found);
	cgroup_done(&cg);
	if ((r = confine_port_each(add_id, &found, err)) == 0)
		r = list_dirs(node, &found, err);
	map_done(&found.seen);
	return r;
}
