/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hibernation, and what VMs use. Freezing and thawing are one write into a
 * file and done here, in the order in which main asks: when main takes a
 * hibernation back, its thaw comes after the freeze, however far that is.
 * Reclaiming takes time and is done in a process, which the taking back
 * kills.
 */
#include "base/mem.h"
#include "hkd/helper_priv.h"

#define RECLAIM_MS 60000
#define USAGE_MS   60000

static void
on_reclaimed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	closep(&fd);
	if (err == NULL) {
		job_done(job, json_deep_copy(result), -1);
		return;
	}
	/* Half of it is no hibernation: it goes on. A main that went away
	 * leaves it frozen for the next one, which finds it so. */
	if (!job->cancelled)
		cgroup_freeze(&job->helper->cgroup, job->vm_id, false, NULL);
	job_fail(job, err);
}

static void
run_freeze(struct job *job)
{
	struct err err = { 0 };

	if (job->cancelled) {
		err_set(&err, ERR_CANCELLED, "hibernate VM %lld: cancelled",
		    (long long)job->vm_id);
		job_fail(job, &err);
		return;
	}
	if (cgroup_freeze(&job->helper->cgroup, job->vm_id, true, &err) < 0)
		job_fail(job, &err);
	else
		job_op(job, "vm.reclaim", RECLAIM_MS, on_reclaimed);
}

void
handle_vm_freeze(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	helper_queue(arg, call, args, helper_id_fields, run_freeze, true);
}

void
handle_vm_thaw(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct helper *h = arg;
	struct err err = { 0 };
	int64_t vm_id;

	closep(&fd);
	if (helper_vm_id(args, &vm_id, &err) < 0 ||
	    cgroup_freeze(&h->cgroup, vm_id, false, &err) < 0)
		rpc_fail(call, &err);
	else
		rpc_reply(call, NULL, -1);
}

static void
run_usage(struct job *job)
{
	job_op(job, "vm.usage", USAGE_MS, helper_on_answer);
}

void
handle_vm_usage(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	helper_queue(arg, call, args, helper_none_fields, run_usage, true);
}

static void
run_disks(struct job *job)
{
	job_op(job, "vm.disks", USAGE_MS, helper_on_answer);
}

void
handle_vm_disks(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	helper_queue(arg, call, args, helper_disks_fields, run_disks, true);
}
