/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines suspended to disk: the helper saves the memory and ends QEMU, and
 * what is left on the node is removed as after a stop. It starts from there
 * with the image that it ran, whatever its tag names by then, because to its
 * user the run goes on. A start that fails before it has read the memory
 * leaves it as it was. A stop forgets it.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define SUSPEND_MS 330000 /* more than the helper's */
#define CLOCK_MS   30000
#define MIB(bytes) ((double)(bytes) / (1 << 20))

bool
vm_suspend_is_due(const struct vm *vm)
{
	return vm_wants_suspension(vm) && vm->state == VM_STATE_RUNNING &&
	       (vm->suspend_tried == NULL ||
		   !str_eq(vm->suspend_tried, vm->want.desired_at));
}

void
vm_suspend_fail(struct vm *vm, const struct err *err)
{
	struct event event = { .name = "vm.suspend-failed",
		.vm_id = vm->id,
		.user_id = vm->want.user_id,
		.image_id = vm->image_id,
		.duration_ms = time_now_ms() - vm->state_since_ms,
		.error_id = err_id(err->code) };

	vm_cancel_step(vm);
	/* Some of the words may be the machine's. */
	vm->suspend_err.code = err->code;
	str_escape(vm->suspend_err.msg, sizeof(vm->suspend_err.msg), err->msg,
	    strlen(err->msg));
	ref_make(vm->suspend_ref);
	event.ref = vm->suspend_ref;
	store_event(vm->node, &event, "it runs on: %s", vm->suspend_err.msg);
	vm_set_text(vm, "%s", "");
	if (!vm_enter(vm, VM_EVENT_FAIL))
		return;
	agent_open(&vm->agent, 0);
	vm_reconcile(vm);
}

static void
on_suspended(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	struct err lost;

	closep(&fd);
	vm->request = NULL;
	if (rpc_is_cut(vm->node->helper))
		return; /* the next daemon finds it as it is */
	if (err == NULL) {
		vm_set_text(
		    vm, "%.0f MiB", MIB(json_get_int(result, "bytes", 0)));
		vm->keeps_state = true;
		vm_stop_clean(vm);
	} else if (vm->pid != 0) {
		vm_suspend_fail(vm, err);
	} else {
		lost = *err;
		err_wrap(&lost, 0, "VM %lld ended while its memory was saved",
		    (long long)vm->id);
		lost.code = ERR_VM_LOST;
		vm_fail(vm, VM_EVENT_EXIT, "vm.died", &lost);
	}
}

void
vm_suspend_begin(struct vm *vm)
{
	vm_wake(vm, "to be suspended to disk");
	free(vm->suspend_tried);
	vm->suspend_tried = xstrdup(vm->want.desired_at);
	vm->suspend_err = (struct err){ 0 };
	vm_set_text(vm, "saving its memory to disk");
	if (!vm_enter(vm, VM_EVENT_SUSPEND))
		return;
	agent_close(&vm->agent);
	vm->step = VM_STEP_SUSPEND;
	vm_ask(vm, "vm.suspend", json_object(), SUSPEND_MS, on_suspended);
}

void
vm_suspend_done(struct vm *vm)
{
	bool fresh = vm->state == VM_STATE_SUSPENDING;
	int64_t took = time_now_ms() - vm->state_since_ms;
	_cleanup_(freep)
	char *size = vm->text != NULL ? xstrdup(vm->text) : NULL;

	vm->keeps_state = false;
	/* Whoever looks at it has lost it. */
	if (vm->session != SESSION_STOPPED)
		vm->session = SESSION_SUSPENDED;
	vm_set_text(vm, "%s", "");
	if (!vm_enter(vm, VM_EVENT_SAVED))
		return;
	vm_event(vm, "vm.suspended", fresh ? took : -1, "%s%s%s",
	    fresh ? "suspended to disk"
		  : "its memory is on disk as before; the next start tries "
		    "again",
	    fresh && size != NULL ? ": " : "",
	    fresh && size != NULL ? size : "");
	vm_reconcile(vm);
}

static void
on_clock(const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->clock = NULL;
	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err,
		    "VM %lld: its clock, which has stood still, can't be set",
		    (long long)vm->id);
}

void
vm_suspend_over(struct vm *vm)
{
	vm->clock = agent_post(vm, "/clock",
	    json_pack("{sI}", "at_us", (json_int_t)time_wall_us()), CLOCK_MS,
	    on_clock, vm);
}

/* A new run of the same machine, from where the last one was. */
static void
resume_run(struct vm *vm)
{
	if (vm->want.epoch > vm->epoch)
		vm->epoch = vm->want.epoch;
	vm->err = (struct err){ 0 };
	vm->pid = 0;
	vm->asked = vm->resumed = false;
	vm->touched = vm->keeps_state = true;
	vm->run_since_ms = time_now_ms();
	vm_set_text(vm, "%s", "");
	if (!vm_enter(vm, VM_EVENT_START))
		return;
	vm_event(vm, "vm.starting", -1,
	    "start wanted, run %lld; it is to go on from its memory on disk",
	    (long long)vm->epoch);
	vm_queue_up(vm);
}

void
vm_suspend_reconcile(struct vm *vm)
{
	if (vm_wants_suspension(vm)) {
		if (vm->want.epoch > vm->epoch) {
			vm->epoch = vm->want.epoch;
			vm_save(vm);
		}
	} else if (!vm_wants_run(vm)) {
		vm->touched = true; /* its memory on disk */
		vm_stop_begin(vm);
	} else if (vm->want.epoch > vm->epoch || !err_is_set(&vm->err)) {
		resume_run(vm);
	}
}
