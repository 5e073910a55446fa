/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <lxc/lxccontainer.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "confine/confine.h"
#include "hypervisor/lxc_priv.h"

#define GONE_WAIT_MS 5000 /* from the init's end to the monitor's */

static void
container_putp(struct lxc_container **c)
{
	if (*c != NULL)
		lxc_container_put(*c);
}

static int
open_container(
    const struct hv_op *op, struct lxc_container **ret, struct err *err)
{
	struct lxc_container *c;
	int r;

	if ((r = fs_mkdirs(op->lxcpath, 0711, err)) < 0)
		return r;
	if ((c = lxc_container_new(op->name, op->lxcpath)) == NULL)
		return err_set(err, ERR_SYSTEM,
		    "liblxc can't open container %s", op->name);
	*ret = c;
	return 0;
}

/* "lxc 7 2026... ERROR start - ../src/lxc/start.c:f:123 - What happened":
 * the first one is the cause, the rest its echoes. */
static int
start_failure(const struct hv_op *op, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/lxc.log", op->vm_dir);
	_cleanup_(freep)
	char *text = NULL;
	char shown[400];
	char *p, *end;

	if (fs_read_file(path, 256 * 1024, &text, NULL, NULL) < 0 ||
	    (p = strstr(text, " ERROR ")) == NULL)
		return err_set(err, ERR_VM_START,
		    "its container didn't start, and liblxc doesn't say why");
	end = p + strcspn(p, "\n");
	*end = '\0';
	if ((end = strstr(p, " - ")) != NULL)
		p = end + 3;
	if ((end = strstr(p, " - ")) != NULL)
		p = end + 3;
	return err_set(err,
	    strstr(p, "No space left on device") != NULL ? ERR_NO_SPACE
							 : ERR_VM_START,
	    "its container didn't start: %s",
	    str_escape(shown, sizeof(shown), p, strlen(p)));
}

static int
init_ended(const struct hv_op *op, const struct hv_run *run, struct err *err)
{
	return err_set(err, ERR_VM_START,
	    "its init (%s) ended at once; see %s/console.log", run->init,
	    op->vm_dir);
}

static int
start_container(const struct hv_op *op, struct lxc_container *c,
    struct hv_run *run, struct err *err)
{
	c->want_daemonize(c, true);
	c->want_close_all_fds(c, true);
	if (!c->start(c, 0, NULL))
		return start_failure(op, err);
	run->pid = c->init_pid(c);
	run->start_time = run->pid > 0 ? proc_start_time(run->pid) : 0;
	if (run->start_time == 0 || hv_run_open(run) < 0)
		return init_ended(op, run, err);
	return 0;
}

/* The monitor copies what the desktop writes to its console, outside of the
 * desktop's limits: not more of the CPU than this. Without a cpu controller
 * there is no such limit, as there is none on the desktop. */
static void
limit_monitor(const struct hv_op *op)
{
	const struct cgroup_root *root = cgroup_controller(&op->cg, "cpu");

	if (root == NULL)
		return;
	if (root->unified)
		cgroup_write(&op->cg, "cpu", CGROUP_MON, op->vm_id, "cpu.max",
		    "20000 100000");
	else
		cgroup_write(&op->cg, "cpu", CGROUP_MON, op->vm_id,
		    "cpu.cfs_quota_us", "20000");
}

/* The container is there: the rest of what holds it, and our note on it. */
static int
hold_container(const struct hv_op *op, const struct lxc_init *init,
    struct hv_run *run, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *more = json_pack("{ss}", "init", init->name);
	int r;

	if ((r = hv_limits_verify(op, err)) < 0 ||
	    (r = hv_io_weigh(op, err)) < 0 ||
	    (r = lxc_init_limit(init, op, err)) < 0 ||
	    (r = hv_record_write(op, "lxc", run, more, err)) < 0 ||
	    (r = confine_port_prepare(op->vm_id, err)) < 0 ||
	    (r = lxc_sysctl_set(op, run, err)) < 0)
		/* Nothing can be held of what has ended. */
		return hv_wait_end(run->pidfd, 0) ? init_ended(op, run, err)
						  : r;
	return 0;
}

/* Back to where the process was: its cgroups and its mounts are the VM's. */
static int
leave(const struct hv_op *op, int outside, struct err *err)
{
	if (setns(outside, CLONE_NEWNS) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "go back to the node's mount namespace");
	return cgroup_leave(&op->cg, err);
}

static int
start_op(struct hv_op *op, int outside, struct hv_run *run, struct err *err)
{
	_cleanup_(container_putp)
	struct lxc_container *c = NULL;
	const struct lxc_init *init;
	int64_t since = time_now_us();
	int r;

	if ((r = hv_check_not_there(op, err)) < 0 ||
	    (r = cgroup_enter_op(&op->cg, op->vm_id, err)) < 0 ||
	    (r = cgroup_limit_depth(&op->cg, CGROUP_CT, err)) < 0 ||
	    (r = fs_mkdirs(op->vm_dir, 0700, err)) < 0 ||
	    (r = lxc_mounts_make(op, &run->home, err)) < 0 ||
	    (r = lxc_init_find(op, &init, err)) < 0)
		return r;
	run->init = init->name;
	hv_phase(run, "mounts", &since);
	if ((r = open_container(op, &c, err)) < 0 ||
	    (r = lxc_config_set(op, init, c, err)) < 0)
		return r;
	hv_phase(run, "config", &since);
	if ((r = start_container(op, c, run, err)) < 0)
		return r;
	hv_phase(run, "container", &since);
	if ((r = hold_container(op, init, run, err)) < 0 ||
	    (r = leave(op, outside, err)) < 0)
		return r;
	limit_monitor(op); /* we were in its group */
	hv_phase(run, "verify", &since);
	return 0;
}

static int
lxc_start(const struct hv_node *node, const struct hv_vm *vm,
    struct hv_run *ret, struct err *err)
{
	struct hv_run run = { .pidfd = -1, .epoch = vm->epoch };
	_cleanup_(closep)
	int outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	struct hv_op op;
	int r;

	if (outside < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "open our mount namespace");
	if ((r = hv_node_check(node, err)) < 0 ||
	    (r = hv_vm_check(vm, err)) < 0 ||
	    (r = hv_op_init(&op, node, vm->vm_id, err)) < 0)
		return r;
	op.vm = vm;
	r = start_op(&op, outside, &run, err);
	hv_op_done(&op);
	if (r < 0) {
		closep(&run.pidfd);
		return err_wrap(err, r, "start VM %lld", (long long)vm->vm_id);
	}
	*ret = run;
	return 0;
}

static int
lxc_adopt(const struct hv_node *node, int64_t vm_id, struct hv_run *ret,
    struct err *err)
{
	struct hv_run run = { .pidfd = -1 };
	struct hv_op op;
	bool alive;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	/* The monitor too: without it the container is about to end. */
	alive = cgroup_populated(&op.cg, CGROUP_CT, vm_id) &&
		cgroup_populated(&op.cg, CGROUP_MON, vm_id) &&
		hv_record_read(&op, &run) == 0 && hv_run_open(&run) == 0;
	hv_op_done(&op);
	if (!alive)
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)vm_id);
	*ret = run;
	return 0;
}

static int
stop_op(struct hv_op *op, int grace_ms, struct err *err)
{
	struct hv_run run = { .pidfd = -1 };

	if (hv_record_read(op, &run) == 0 && hv_run_open(&run) == 0) {
		/* A frozen one would not hear it. */
		cgroup_freeze(&op->cg, op->vm_id, false, NULL);
		/* As liblxc's shutdown, of whose settings only the monitor
		 * knows. */
		if (grace_ms > 0 && syscall(SYS_pidfd_send_signal, run.pidfd,
					lxc_init_signal(op), NULL, 0) == 0)
			hv_wait_end(run.pidfd, grace_ms);
		closep(&run.pidfd);
	}
	if (cgroup_populated(&op->cg, CGROUP_CT, op->vm_id))
		cgroup_kill(&op->cg, CGROUP_CT, op->vm_id, NULL);
	/* The monitor takes the link and the cgroups down by itself. */
	if (cgroup_wait_empty(&op->cg, CGROUP_CT, op->vm_id, GONE_WAIT_MS))
		cgroup_wait_empty(&op->cg, CGROUP_MON, op->vm_id, GONE_WAIT_MS);
	return hv_kill_all(op, err);
}

static int
lxc_stop(
    const struct hv_node *node, int64_t vm_id, int grace_ms, struct err *err)
{
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	r = stop_op(&op, grace_ms, err);
	hv_op_done(&op);
	return r < 0 ? err_wrap(err, r, "stop VM %lld", (long long)vm_id) : 0;
}

const struct hv_ops hv_lxc = {
	.name = "lxc",
	.start = lxc_start,
	.starts_cleanly = true,
	.adopt = lxc_adopt,
	.stop = lxc_stop,
	.clean = hv_clean,
	.list = hv_list,
	.limits = hv_limits,
	.look = lxc_mounts_look,
};
