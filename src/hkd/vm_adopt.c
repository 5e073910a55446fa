/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * After a restart of the daemon: each run that the rows speak of, and each
 * VM of which something is on the node, is asked about. What runs goes on;
 * what died is ended in order; what nobody knows is removed.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define ADOPT_MS         60000
#define CLEAN_MS         60000
#define RETRY_MS         5000
#define UNKNOWN_GRACE_MS 5000

static void
settled(struct vm *vm)
{
	vm->adopting = false;
	vm_reconcile(vm);
	node_adopted_one(vm->node);
}

static void
found(struct vm *vm, const json_t *result, int fd)
{
	int64_t epoch = json_get_int(result, "epoch", 0);

	/* A run that began, and whose row could not be written any more. */
	if (epoch > vm->epoch)
		vm->epoch = epoch;
	vm->pid = (pid_t)json_get_int(result, "pid", 0);
	vm->touched = true;
	vm->hooked = true;
	vm->run_since_ms = vm->state_since_ms = time_now_ms();
	vm->session_since_ms = vm->hibernate_ms = time_now_ms();
	vm->hibernated = json_get_bool(result, "frozen", false);
	vm_watch_exit(vm, fd);
	if (!vm_enter(vm, VM_EVENT_ADOPT))
		return;
	vm_event(vm, "vm.adopted", -1,
	    "found %s%s after a restart of the "
	    "house-keeper",
	    vm_state_to_str(vm->state), vm->hibernated ? ", hibernated," : "");
	/* Who is woken is listened to again. */
	if (vm->state == VM_STATE_RUNNING && !vm->hibernated)
		agent_open(&vm->agent, 0);
}

/* Its memory is on disk, or isn't: what that means for a run of which nothing
 * else is there. */
static void
take_saved(struct vm *vm, bool saved)
{
	struct err err;

	if (!saved)
		vm->session = SESSION_STOPPED;
	if (vm->state == VM_STATE_STARTING) {
		vm->keeps_state = saved;
	} else if (vm->state == VM_STATE_SUSPENDING && saved) {
		vm_suspend_done(vm);
	} else if (!saved && (vm->state == VM_STATE_SUSPENDING ||
				 vm->state == VM_STATE_SUSPENDED)) {
		err_set(&err, ERR_VM_LOST,
		    "VM %lld was suspended, and its memory isn't on this "
		    "node's disk any more",
		    (long long)vm->id);
		vm_fail(vm, VM_EVENT_EXIT, "vm.died", &err);
	}
}

static void
on_bits_removed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	closep(&fd);
	vm->request = NULL;
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err, "remove what is left of VM %lld",
		    (long long)vm->id);
	else
		take_saved(vm, json_get_bool(result, "saved", false));
	settled(vm);
}

static void
not_found(struct vm *vm)
{
	struct err err;

	vm->pid = 0;
	vm->touched = true;
	/* Only bits of it are left, and maybe its memory on disk; a start that
	 * had begun begins again. */
	if (vm->state != VM_STATE_RUNNING && vm->state != VM_STATE_STOPPING &&
	    vm->state != VM_STATE_ZOMBIE) {
		vm->run_since_ms = time_now_ms();
		vm_ask(vm, "vm.clean",
		    json_pack(
			"{sb}", "forget_state", vm->state == VM_STATE_STOPPED),
		    CLEAN_MS, on_bits_removed);
		return;
	}
	vm->session = SESSION_STOPPED;
	if (vm->state == VM_STATE_RUNNING) {
		vm->run_since_ms = time_now_ms();
		err_set(&err, ERR_VM_LOST,
		    "VM %lld ended while the house-keeper of its node was "
		    "not running",
		    (long long)vm->id);
		vm_fail(vm, VM_EVENT_EXIT, "vm.died", &err);
	}
	settled(vm);
}

static void
on_adopted(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->request = NULL;
	if (err == NULL) {
		found(vm, result, fd);
		settled(vm);
		vm_expiry_look(vm);
		vm_disks_look(vm);
		return;
	}
	closep(&fd);
	if (err->code == ERR_NOT_FOUND) {
		not_found(vm);
		return;
	}
	log_err(LOG_LEVEL_ERROR, err, "look at VM %lld", (long long)vm->id);
	timer_start(&vm->step_timer, RETRY_MS);
}

static void
on_unknown_stopped(
    const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	closep(&fd);
	vm_ask(vm, "vm.clean", json_pack("{sb}", "forget_state", 1), CLEAN_MS,
	    on_bits_removed);
}

void
vm_adopt(struct vm *vm)
{
	vm->adopting = true;
	if (vm->want.exists) {
		json_t *args =
		    json_pack("{si}", "idmap_slot", (int)vm->want.idmap_slot);

		vm_network_args(vm, args);
		vm_ask(vm, "vm.adopt", args, ADOPT_MS, on_adopted);
		return;
	}
	log_warn("VM %lld: no row speaks of what is here of it; it is "
		 "removed",
	    (long long)vm->id);
	vm_ask(vm, "vm.stop", json_pack("{si}", "grace_ms", UNKNOWN_GRACE_MS),
	    ADOPT_MS, on_unknown_stopped);
}
