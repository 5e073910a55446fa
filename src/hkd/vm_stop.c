/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The steps of a stop: the agent is asked to power off, its end awaited for
 * the grace, then liblxc's stop and the kill, then everything that is left
 * is removed. Also the end of a failed start and of a run that died.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define STOP_GRACE_MS 2000 /* after the agent had its own */
#define STOP_MS       60000
#define CLEAN_MS      60000

static void
stopped(struct vm *vm, bool saved)
{
	int64_t took = time_now_ms() - vm->state_since_ms;

	vm->step = VM_STEP_NONE;
	vm->pid = 0;
	vm->touched = false;
	vm_network_forget(vm);
	vm_hook_after(vm, HOST_HOOK_POSTSTOP);
	vm->hooked = false;
	vm_idle_forget(vm);
	agent_close(&vm->agent);
	vm_watch_exit(vm, -1);
	if (saved && vm->state != VM_STATE_ZOMBIE) {
		vm_suspend_done(vm);
		return;
	}
	vm->keeps_state = false;
	vm->session = SESSION_STOPPED;
	vm_set_text(vm, "%s", "");
	if (!vm_enter(vm, VM_EVENT_CLEAN))
		return;
	vm_event(vm, "vm.stopped", took, "stopped, nothing of it is left");
	if (vm->checksum != NULL && !vm->want.is_volatile)
		collect_begin(vm->node, vm->id, vm->checksum);
	vm_reconcile(vm);
}

static void
stuck(struct vm *vm, const struct err *err)
{
	struct err why = *err;

	vm->step = VM_STEP_NONE;
	if (vm->state == VM_STATE_ZOMBIE) {
		log_err(LOG_LEVEL_WARN, err, "VM %lld is still a zombie",
		    (long long)vm->id);
		vm_enter(vm, VM_EVENT_STUCK);
		return;
	}
	err_wrap(&why, 0, "remove what is left of VM %lld", (long long)vm->id);
	vm_fail(vm, VM_EVENT_STUCK, "vm.zombie", &why);
}

static void
not_saved(struct vm *vm)
{
	struct err err;

	err_set(&err, ERR_VM_LOST,
	    "VM %lld was suspended, and its memory isn't on disk",
	    (long long)vm->id);
	vm_fail(vm, VM_EVENT_EXIT, "vm.died", &err);
}

static void
on_cleaned(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	closep(&fd);
	vm->request = NULL;
	if (err != NULL)
		stuck(vm, err);
	else if (vm->keeps_state && json_get_bool(result, "saved", false))
		stopped(vm, true);
	else if (vm->state == VM_STATE_SUSPENDING)
		not_saved(vm);
	else
		stopped(vm, false);
}

void
vm_stop_clean(struct vm *vm)
{
	vm->step = VM_STEP_CLEAN;
	vm_ask(vm, "vm.clean",
	    json_pack("{sb}", "forget_state", (int)!vm->keeps_state), CLEAN_MS,
	    on_cleaned);
}

static void
on_stopped(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	closep(&fd);
	vm->request = NULL;
	/* Cleaning kills what is still there, or says what can't be. */
	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err, "stop VM %lld", (long long)vm->id);
	vm_stop_clean(vm);
}

static void
step_stop(struct vm *vm)
{
	int64_t grace_ms = STOP_GRACE_MS;

	timer_stop(&vm->step_timer);
	vm->step = VM_STEP_STOP;
	agent_close(&vm->agent);
	if (vm->pid == 0)
		grace_ms = 0;
	else if (vm->want.hypervisor == HYPERVISOR_KVM)
		grace_ms = vm->node->settings.grace_ms;
	vm_ask(vm, "vm.stop",
	    json_pack("{sI}", "grace_ms", (json_int_t)grace_ms),
	    STOP_MS + grace_ms, on_stopped);
}

static void
on_asked(const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->poweroff = NULL;
	if (err != NULL) {
		log_err(LOG_LEVEL_WARN, err,
		    "VM %lld: its agent can't be asked to power off",
		    (long long)vm->id);
		step_stop(vm);
		return;
	}
	vm->step = VM_STEP_END;
	timer_start(&vm->step_timer, vm->node->settings.grace_ms);
}

/* The grace is over. */
void
vm_on_step_timer(struct vm *vm)
{
	if (vm->step == VM_STEP_END) {
		log_warn("VM %lld did not power off within %lld s",
		    (long long)vm->id,
		    (long long)vm->node->settings.grace_ms / 1000);
		step_stop(vm);
	}
}

void
vm_stop_next(struct vm *vm)
{
	if (vm->pid == 0 && !vm->touched) {
		stopped(vm, false);
		return;
	}
	/* A virtual machine has a power button; its system ends the agent. */
	if (vm->pid == 0 || vm->asked || vm->state == VM_STATE_ZOMBIE ||
	    vm->want.hypervisor == HYPERVISOR_KVM) {
		step_stop(vm);
		return;
	}
	vm->asked = true;
	vm->step = VM_STEP_ASK;
	vm->poweroff = agent_poweroff(vm, on_asked, vm);
}

void
vm_stop_begin(struct vm *vm)
{
	bool suspended = vm->state == VM_STATE_SUSPENDED;

	vm->keeps_state = false;
	vm->asked = vm->state != VM_STATE_RUNNING;
	vm_cancel_step(vm);
	vm_give_turn(vm);
	vm_set_text(vm, "stopping");
	if (!vm_enter(vm, VM_EVENT_STOP))
		return;
	vm_event(vm, "vm.stopping", -1, "%s%s",
	    !vm->want.exists ? "it was deleted"
	    : !vm->want.here ? "it was placed on another node"
	    : vm->want.desired == VM_DESIRED_STOPPED ? "stop wanted"
						     : "a new run is wanted",
	    suspended ? "; its memory on disk is forgotten" : "");
	vm_reconcile(vm);
}
