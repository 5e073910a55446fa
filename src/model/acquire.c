/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/acquire.h"

#include "base/str.h"

bool
acquire_run_is_over(
    const struct vm_row *vm, const struct vm_runtime_row *runtime)
{
	/* Nobody ever wanted it to run, or its stop is wanted: what is left
	 * of the run may still be there, but it ends. */
	if (vm->epoch == 0 || vm->desired == VM_DESIRED_STOPPED)
		return true;
	/* Wanted, and its node has not written a word about it yet. */
	if (runtime == NULL || runtime->epoch < vm->epoch)
		return false;
	/* What is suspended goes on as a new run, on the same node. */
	return runtime->state == VM_STATE_STOPPED ||
	       runtime->state == VM_STATE_STOPPING ||
	       runtime->state == VM_STATE_SUSPENDING ||
	       runtime->state == VM_STATE_SUSPENDED;
}

bool
acquire_takes_back(const struct vm_row *vm, bool over)
{
	return !over && vm->desired == VM_DESIRED_SUSPENDED;
}

/* What connect and stop refuse alike. */
static int
check_right(const struct acquire_in *in, bool to_connect, struct err *err)
{
	if (in->vm == NULL)
		return err_set(err, ERR_NOT_FOUND,
		    "The requested virtual machine does not exist");
	if (to_connect && in->vm->blocked)
		return err_set(err, ERR_BLOCKED,
		    "The requested virtual machine is offline for "
		    "maintenance");
	if (in->user->blocked)
		return err_set(
		    err, ERR_AUTH, "the user '%s' is blocked", in->user->login);
	if (in->tenant->blocked)
		return err_set(err, ERR_AUTH, "the tenant '%s' is blocked",
		    in->tenant->name);
	if (in->vm->user_id != in->user_id)
		return err_set(err, ERR_FORBIDDEN,
		    "You are not allowed to access requested virtual machine");
	return 0;
}

static int
check_holder(const struct acquire_in *in, struct err *err)
{
	if (in->resume_key_hash == NULL)
		return 0;
	if (in->session == NULL || in->session->key_hash == NULL ||
	    !str_eq_secret(in->session->key_hash, in->resume_key_hash))
		return err_set(err, ERR_TAKEN_OVER,
		    "Aborted by contending session VM VM_ID: %lld: the session "
		    "was opened from another client",
		    (long long)in->vm->id);
	/* Who stopped it, meant it: only somebody who asks for it starts it
	 * again, not a client that looks for its lost link. */
	if (in->vm->desired != VM_DESIRED_RUNNING)
		return err_set(err, ERR_CONFLICT,
		    "The requested virtual machine was %s meanwhile; "
		    "connect again to start it",
		    vm_desired_to_str(in->vm->desired));
	return 0;
}

static int
check_run(const struct acquire_in *in, struct err *err)
{
	const struct vm_row *vm = in->vm;

	if (in->runtime != NULL && in->runtime->state == VM_STATE_ZOMBIE)
		return err_set(err, ERR_UNAVAILABLE,
		    "Unable to start VM %lld, something of its last run can't "
		    "be removed; ask the administrator ('qvd why vm %lld')",
		    (long long)vm->id, (long long)vm->id);
	return 0;
}

int
acquire_decide(
    const struct acquire_in *in, struct acquire_plan *ret, struct err *err)
{
	struct acquire_plan plan = { 0 };
	int r;

	if ((r = check_right(in, true, err)) < 0 ||
	    (r = check_holder(in, err)) < 0 || (r = check_run(in, err)) < 0)
		return r;
	plan.generation = in->session == NULL ? 1 : in->session->generation + 1;
	plan.evict =
	    in->session != NULL && in->session->state != LINK_DISCONNECTED;
	plan.epoch = in->vm->epoch;
	plan.run = ACQUIRE_JOIN;
	if (acquire_run_is_over(in->vm, in->runtime)) {
		plan.run = ACQUIRE_START;
		plan.epoch = in->vm->epoch + 1;
		/* While anything of the last run may be left, the same node
		 * must end it before it starts the next. */
		plan.place = in->vm->host_id == 0 || in->runtime == NULL ||
			     in->runtime->state == VM_STATE_STOPPED;
	}
	plan.takes_back = acquire_takes_back(in->vm, plan.run == ACQUIRE_START);
	if (!plan.place && !in->host_running)
		return err_set(err, ERR_UNAVAILABLE,
		    "the node '%s', which holds VM %lld, is not running; "
		    "start qvd-hkd there",
		    in->host_name != NULL ? in->host_name : "?",
		    (long long)in->vm->id);
	*ret = plan;
	return 0;
}

int
stop_decide(const struct acquire_in *in, enum stop_plan *ret, struct err *err)
{
	const struct vm_row *vm = in->vm;
	int r;

	if ((r = check_right(in, false, err)) < 0)
		return r;
	if (in->runtime != NULL && in->runtime->state == VM_STATE_ZOMBIE)
		return err_set(err, ERR_UNAVAILABLE,
		    "The requested virtual machine is in an unstoppable state "
		    "(%s)",
		    vm_state_to_str(in->runtime->state));
	*ret = vm->desired == VM_DESIRED_STOPPED ? STOP_NOTHING : STOP_WRITE;
	return 0;
}
