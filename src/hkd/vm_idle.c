/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hibernation: a desktop that nobody uses is frozen and its memory taken
 * back (model/idle.h says when), and woken before anybody speaks with it.
 * Whoever is about to send something to the agent calls vm_wake() and goes
 * on at once: the helper does what it is asked in order, so the thaw comes
 * first.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define FREEZE_MS 90000
#define THAW_MS   10000
#define AT_ONCE   2 /* reclaiming is work for the processor and the disk */
#define AGAIN_MS  1000
#define TEXT_SIZE 200
#define MIB(kb)   ((double)(kb) / 1024.0)

static int64_t
due_ms(const struct vm *vm)
{
	const struct idle_facts facts = {
		.state = vm->state,
		.session = vm->session,
		.session_since_ms = vm->session_since_ms,
		.stream_ms = vm->stream_ms,
		.idle_after_ms = vm->want.idle_after_s * 1000,
	};

	return idle_due_ms(&facts);
}

static void on_thawed(
    const json_t *result, int fd, const struct err *err, void *arg);

static void
ask_thaw(struct vm *vm)
{
	vm->thaw_ms = time_now_ms();
	if (vm->thawing != NULL)
		rpc_request_cancel(vm->thawing);
	vm->thawing = rpc_ask(vm->node->helper, "vm.thaw",
	    json_pack("{sI}", "vm_id", (json_int_t)vm->id), -1, THAW_MS,
	    on_thawed, vm);
}

void
vm_idle_update(struct vm *vm)
{
	int64_t due = due_ms(vm), left = due - time_now_ms();

	if (due < 0 || vm->hibernated || vm->freezing != NULL)
		timer_stop(&vm->idle);
	else
		timer_start(&vm->idle, left > 0 ? left : 0);
}

static void
tell_hibernated(struct vm *vm, const json_t *result, int64_t took)
{
	const char *note = json_get_str(result, "note", NULL);

	vm_event(vm, "vm.hibernated", took,
	    "hibernated after %lld s without its user: %.1f MiB, now %.1f MiB "
	    "and %.1f MiB in swap (freeze %.0f ms, reclaim %.0f ms)%s%s",
	    (long long)(time_now_ms() - vm->session_since_ms) / 1000,
	    MIB(json_get_int(result, "before_kb", 0)),
	    MIB(json_get_int(result, "after_kb", 0)),
	    MIB(json_get_int(result, "swapped_kb", 0)),
	    json_number_value(json_object_get(result, "freeze_ms")),
	    json_number_value(json_object_get(result, "reclaim_ms")),
	    note != NULL ? "; " : "", note != NULL ? note : "");
}

static void
end_freezing(struct vm *vm)
{
	vm->freezing = NULL;
	vm->node->n_freezing--;
}

static void
on_frozen(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	int64_t took = time_now_ms() - vm->hibernate_ms;

	closep(&fd);
	end_freezing(vm);
	if (err != NULL) {
		if (rpc_is_cut(vm->node->helper))
			return; /* the next daemon finds it as it is */
		/* The helper has thawed it, but not where we gave up waiting,
		 * which cancels the request. Another try in idle_after. */
		vm_event(vm, "vm.hibernate-failed", took, "%s", err->msg);
		if (err->code == ERR_TIMEOUT) {
			vm->woken_for = NULL;
			ask_thaw(vm);
		}
		vm->session_since_ms = time_now_ms();
		vm_idle_update(vm);
		return;
	}
	vm->hibernated = true;
	vm_save(vm);
	tell_hibernated(vm, result, took);
}

void
vm_on_idle(void *arg)
{
	struct vm *vm = arg;
	int64_t due = due_ms(vm);

	if (due < 0 || vm->hibernated || vm->freezing != NULL)
		return;
	if (due > time_now_ms()) {
		vm_idle_update(vm);
		return;
	}
	/* Not all that fell idle at noon in the same second. */
	if (vm->node->n_freezing >= AT_ONCE || !node_is_running(vm->node)) {
		timer_start(&vm->idle, AGAIN_MS + vm->id % AGAIN_MS);
		return;
	}
	vm->hibernate_ms = time_now_ms();
	vm->node->n_freezing++;
	vm->freezing = rpc_ask(vm->node->helper, "vm.freeze",
	    json_pack("{sI}", "vm_id", (json_int_t)vm->id), -1, FREEZE_MS,
	    on_frozen, vm);
}

static void
on_thawed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	struct err why;

	closep(&fd);
	vm->thawing = NULL;
	if (err == NULL) {
		if (vm->woken_for != NULL)
			vm_event(vm, "vm.woken", time_now_ms() - vm->thaw_ms,
			    "woken %s after %lld s", vm->woken_for,
			    (long long)(vm->thaw_ms - vm->hibernate_ms) / 1000);
		return;
	}
	if (vm->state != VM_STATE_RUNNING) {
		/* It is being stopped, which thaws and kills by force. */
		log_err(LOG_LEVEL_WARN, err, "wake VM %lld", (long long)vm->id);
		return;
	}
	why = *err;
	err_wrap(&why, 0, "VM %lld can't be woken", (long long)vm->id);
	why.code = ERR_VM_LOST;
	vm_fail(vm, VM_EVENT_EXIT, "vm.died", &why);
}

void
vm_wake(struct vm *vm, const char *why)
{
	bool was_hibernated = vm->hibernated;

	if (vm->freezing != NULL) {
		rpc_request_cancel(vm->freezing);
		end_freezing(vm);
	} else if (!vm->hibernated) {
		return;
	}
	vm->hibernated = false;
	vm->woken_for = was_hibernated ? why : NULL;
	ask_thaw(vm);
	if (!was_hibernated)
		return;
	/* After an adoption nobody listens to the agent yet. */
	if (vm->state == VM_STATE_RUNNING && !agent_is_open(&vm->agent))
		agent_open(&vm->agent, 0);
	vm_save(vm);
}

void
vm_stream_given(struct vm *vm)
{
	vm_wake(vm, "for its user");
	vm->stream_ms = time_now_ms();
	vm_idle_update(vm);
}

void
vm_idle_forget(struct vm *vm)
{
	timer_stop(&vm->idle);
	if (vm->freezing != NULL) {
		rpc_request_cancel(vm->freezing);
		end_freezing(vm);
	}
	if (vm->thawing != NULL)
		rpc_request_cancel(take_ptr(vm->thawing));
	vm->hibernated = false;
	vm->disks.paused = false;
}
