/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VM's states, and the reconciler: compare what is wanted with what there
 * is, take one step, write it down. vm_reconcile() may be called at any time
 * and any number of times; it does nothing while a step is under way, unless
 * what is wanted has changed so that the step is of no use any more.
 */
#include "hkd/vm.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "model/machine.h"

static void on_ended(void *arg);
static void on_deadline(void *arg);
static void on_step_timer(void *arg);

struct vm *
vm_get(struct node *node, int64_t id)
{
	struct vm *vm = map_get(&node->vms, (uint64_t)id);

	if (vm != NULL)
		return vm;
	vm = new0(struct vm);
	vm->node = node;
	vm->id = id;
	vm->state = VM_STATE_STOPPED;
	vm->pidfd = -1;
	list_init(&vm->queue_link);
	timer_init(&vm->deadline, node->loop, on_deadline, vm);
	timer_init(&vm->step_timer, node->loop, on_step_timer, vm);
	timer_init(&vm->idle, node->loop, vm_on_idle, vm);
	timer_init(&vm->exit_timer, node->loop, on_ended, vm);
	agent_init(&vm->agent, vm);
	vm_expiry_init(vm);
	map_set(&node->vms, (uint64_t)id, vm);
	return vm;
}

static void
unwatch_exit(struct vm *vm)
{
	if (vm->exit_watched)
		watch_done(&vm->exit);
	vm->exit_watched = false;
	timer_stop(&vm->exit_timer);
	closep(&vm->pidfd);
}

void
vm_free(struct vm *vm)
{
	db_forget(vm->node->db, vm);
	vm_cancel_step(vm);
	vm_give_turn(vm);
	vm_network_forget(vm);
	vm_idle_forget(vm);
	vm_expiry_done(vm);
	vm_disks_forget(vm);
	agent_done(&vm->agent);
	unwatch_exit(vm);
	timer_done(&vm->deadline);
	timer_done(&vm->step_timer);
	timer_done(&vm->idle);
	timer_done(&vm->exit_timer);
	map_del(&vm->node->vms, (uint64_t)vm->id);
	free(vm->want.name);
	free(vm->want.owner);
	free(vm->want.osf);
	free(vm->want.desired_at);
	free(vm->suspend_tried);
	free(vm->want.tag);
	free(vm->want.address);
	free(vm->want.devices);
	free(vm->want.egress);
	free(vm->text);
	free(vm->image_name);
	free(vm->checksum);
	free(vm);
}

void
vm_set_text(struct vm *vm, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	free(vm->text);
	vm->text = text[0] != '\0' ? xstrdup(text) : NULL;
}

static const char *
error_id_of(const struct vm *vm)
{
	return err_is_set(&vm->err) ? err_id(vm->err.code) : NULL;
}

void
vm_event(
    struct vm *vm, const char *name, int64_t duration_ms, const char *fmt, ...)
{
	const struct event event = { .name = name,
		.vm_id = vm->id,
		.user_id = vm->want.user_id,
		.image_id = vm->image_id,
		.duration_ms = duration_ms,
		.crowded = vm->crowded,
		.error_id = error_id_of(vm),
		.ref = err_is_set(&vm->err) ? vm->ref : NULL };
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	store_event(vm->node, &event, "%s", text);
	log_info("VM %lld (%s of %s): %s%s%s", (long long)vm->id,
	    vm->want.name != NULL ? vm->want.name : "?",
	    vm->want.owner != NULL ? vm->want.owner : "?", text,
	    event.ref != NULL ? ", reference " : "",
	    event.ref != NULL ? event.ref : "");
}

/* A stop lasts as long as the agent may take, and the kill after it. */
static int64_t
deadline_of(const struct vm *vm)
{
	int64_t ms = vm_state_deadline(vm->state)->deadline_ms;

	if (vm->state == VM_STATE_STOPPING)
		ms += 2 * vm->node->settings.grace_ms;
	return ms;
}

bool
vm_enter(struct vm *vm, enum vm_event event)
{
	enum vm_state to;
	struct err err;

	if (vm_state_next(vm->state, event, &to, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "VM %lld", (long long)vm->id);
		return false;
	}
	if (to != vm->state)
		vm->state_since_ms = time_now_ms();
	vm->state = to;
	if (to == VM_STATE_STOPPING)
		vm_wake(vm, "to be stopped");
	vm_idle_update(vm);
	timer_stop(&vm->deadline);
	if (deadline_of(vm) > 0)
		timer_start(&vm->deadline, deadline_of(vm));
	vm_save(vm);
	return true;
}

static void
note_error(struct vm *vm, const struct err *err)
{
	if (err_is_set(&vm->err))
		return;
	/* Some of the words may come from inside the VM. */
	vm->err.code = err->code;
	str_escape(
	    vm->err.msg, sizeof(vm->err.msg), err->msg, strlen(err->msg));
	ref_make(vm->ref);
}

void
vm_fail(
    struct vm *vm, enum vm_event event, const char *name, const struct err *err)
{
	int64_t since = time_now_ms() - vm->run_since_ms;

	/* The helper has ended, and so do we. The VM has not failed: the next
	 * daemon goes on with it. */
	if (rpc_is_cut(vm->node->helper))
		return;
	note_error(vm, err);
	vm->asked = vm->state != VM_STATE_RUNNING;
	vm_cancel_step(vm);
	vm_give_turn(vm);
	vm_set_text(vm, "%s", "");
	vm_event(vm, name, since, "%s", vm->err.msg);
	vm_enter(vm, event);
	vm_reconcile(vm);
}

/* Steps and turns */

void
vm_cancel_step(struct vm *vm)
{
	if (vm->request != NULL)
		rpc_request_cancel(take_ptr(vm->request));
	agent_call_cancel(take_ptr(vm->poweroff));
	agent_call_cancel(take_ptr(vm->clock));
	list_del(&vm->queue_link);
	timer_stop(&vm->step_timer);
	vm->step = VM_STEP_NONE;
}

static void
on_step_timer(void *arg)
{
	struct vm *vm = arg;

	if (vm->adopting)
		vm_adopt(vm);
	else
		vm_on_step_timer(vm);
}

void
vm_give_turn(struct vm *vm)
{
	if (!vm->has_turn)
		return;
	vm->has_turn = false;
	node_note_start(vm->node, time_now_ms() - vm->turn_ms);
	vm->node->n_starting--;
	node_pump_queue(vm->node);
}

void
vm_ask(struct vm *vm, const char *op, json_t *args, int64_t deadline_ms,
    rpc_result_cb cb)
{
	json_object_set_new(args, "vm_id", json_integer(vm->id));
	vm->request =
	    rpc_ask(vm->node->helper, op, args, -1, deadline_ms, cb, vm);
}

/* The state's deadline ran out: the event of the table. */
static void
on_deadline(void *arg)
{
	struct vm *vm = arg;
	struct err err;

	err_set(&err, ERR_TIMEOUT, "VM %lld has been %s for %lld s%s%s",
	    (long long)vm->id, vm_state_to_str(vm->state),
	    (long long)(time_now_ms() - vm->state_since_ms) / 1000,
	    vm->text != NULL ? ": " : "", vm->text != NULL ? vm->text : "");
	switch (vm->state) {
	case VM_STATE_STARTING:
		vm_fail(vm, VM_EVENT_FAIL, "vm.start-failed", &err);
		break;
	case VM_STATE_STOPPING:
		vm_fail(vm, VM_EVENT_STUCK, "vm.zombie", &err);
		break;
	case VM_STATE_SUSPENDING:
		vm_suspend_fail(vm, &err);
		break;
	default:
		vm_reconcile(vm); /* a zombie's pause is over */
		break;
	}
}

/* The end of the container */

/* Somebody in it turned it off: nothing failed, and nothing is said of its
 * image. It is not started again before somebody wants it. */
static void
powered_off(struct vm *vm)
{
	int64_t since = time_now_ms() - vm->run_since_ms;

	vm->asked = vm->state != VM_STATE_RUNNING;
	vm_cancel_step(vm);
	vm_set_text(vm, "%s", "");
	vm_event(vm, "vm.powered-off", since, "powered off from inside");
	vm_enter(vm, VM_EVENT_EXIT);
	vm_reconcile(vm);
}

static void
on_ended(void *arg)
{
	struct vm *vm = arg;
	struct err err;
	bool in_order = agent_ends(&vm->agent);

	agent_close(&vm->agent);
	vm_idle_forget(vm);
	vm_expiry_forget(vm);
	vm_disks_forget(vm);
	vm->pid = 0;
	/* Whether its memory was saved before, the helper's answer tells. */
	if (vm->state == VM_STATE_SUSPENDING)
		return;
	vm->session = SESSION_STOPPED;
	if (vm->state == VM_STATE_STOPPING || vm->state == VM_STATE_ZOMBIE) {
		vm_enter(vm, VM_EVENT_EXIT);
		/* What was awaited has come. */
		if (vm->step == VM_STEP_ASK || vm->step == VM_STEP_END)
			vm_cancel_step(vm);
		vm_reconcile(vm);
		return;
	}
	if (vm->state == VM_STATE_STARTING) {
		err_set(&err, ERR_VM_START,
		    "start VM %lld: its container ended before its agent "
		    "came up",
		    (long long)vm->id);
		vm_fail(vm, VM_EVENT_EXIT, "vm.start-failed", &err);
		return;
	}
	if (in_order) {
		powered_off(vm);
		return;
	}
	err_set(&err, ERR_VM_LOST,
	    "VM %lld ended by itself: its agent, or its system, died",
	    (long long)vm->id);
	vm_fail(vm, VM_EVENT_EXIT, "vm.died", &err);
}

/* What it said before may be read after this, in the same turn of the loop. */
static void
on_exit_seen(int events, void *arg)
{
	struct vm *vm = arg;

	unwatch_exit(vm);
	timer_start(&vm->exit_timer, 0);
}

void
vm_watch_exit(struct vm *vm, int pidfd)
{
	unwatch_exit(vm);
	if (pidfd < 0)
		return;
	vm->pidfd = pidfd;
	watch_init(&vm->exit, vm->node->loop, pidfd, on_exit_seen, vm);
	watch_set(&vm->exit, WATCH_READ);
	vm->exit_watched = true;
}

/* The agent's words */

void
vm_agent_ready(struct vm *vm)
{
	if (vm->state != VM_STATE_STARTING || vm->step != VM_STEP_AGENT)
		return;
	vm->step = VM_STEP_NONE;
	vm_start_done(vm);
}

void
vm_agent_failed(struct vm *vm, const struct err *err)
{
	struct err why = *err;

	if (vm->state != VM_STATE_STARTING || vm->step != VM_STEP_AGENT)
		return;
	err_wrap(&why, 0, "start VM %lld: its agent did not come up",
	    (long long)vm->id);
	why.code = ERR_VM_START;
	vm_fail(vm, VM_EVENT_FAIL, "vm.start-failed", &why);
}

void
vm_agent_session(struct vm *vm, enum session_state session)
{
	enum session_state was = vm->session;
	int64_t lasted = time_now_ms() - vm->session_since_ms;

	vm->session = session;
	vm->session_since_ms = time_now_ms();
	vm_idle_update(vm);
	vm_save(vm);
	if (session == SESSION_SUSPENDED)
		vm_event(vm, "session.suspended", lasted,
		    "the session is suspended and waits for its user");
	else if (was == SESSION_SUSPENDED && session != SESSION_STOPPED &&
		 session != SESSION_STOPPING)
		vm_event(
		    vm, "session.resumed", lasted, "the session is resumed");
	else if (session == SESSION_STOPPED && was != SESSION_STOPPED)
		vm_event(vm, "session.ended", lasted, "the session ended");
	if (session == SESSION_STOPPED)
		vm_expiry_forget(vm);
	vm_expiry_look(vm);
	vm_disks_look(vm);
}

/* The reconciler */

bool
vm_wants_run(const struct vm *vm)
{
	return vm->want.exists && vm->want.here &&
	       vm->want.desired == VM_DESIRED_RUNNING;
}

bool
vm_wants_suspension(const struct vm *vm)
{
	return vm->want.exists && vm->want.here &&
	       vm->want.desired == VM_DESIRED_SUSPENDED;
}

/* Its time runs when its turn comes; whoever is before it has a deadline. */
void
vm_queue_up(struct vm *vm)
{
	timer_stop(&vm->deadline);
	vm->step = VM_STEP_QUEUED;
	vm->told_place = 0;
	list_add(&vm->node->queue, &vm->queue_link);
	node_pump_queue(vm->node);
}

static void
start_run(struct vm *vm)
{
	vm->epoch = vm->want.epoch;
	vm->err = (struct err){ 0 };
	vm->session = SESSION_STOPPED;
	vm->image_id = 0;
	vm->pid = 0;
	vm->touched = false;
	vm->asked = false;
	vm->keeps_state = vm->resumed = false;
	vm->run_since_ms = time_now_ms();
	vm_disks_begin_run(vm);
	vm_set_text(vm, "%s", "");
	if (!vm_enter(vm, VM_EVENT_START))
		return;
	vm_event(vm, "vm.starting", -1, "start wanted, run %lld",
	    (long long)vm->epoch);
	vm_queue_up(vm);
}

/* Wanted and unwanted again before we looked: whoever waits for that run must
 * hear that it has ended. */
static void
skip_run(struct vm *vm)
{
	vm->epoch = vm->want.epoch;
	vm->err = (struct err){ 0 };
	vm_set_text(vm, "%s", "");
	vm_event(vm, "vm.stopped", -1,
	    "run %lld was not wanted any more before it began",
	    (long long)vm->epoch);
	vm_save(vm);
}

static void
free_if_unused(void *arg)
{
	struct vm *vm = arg;

	vm->freeing = false;
	if (vm->state == VM_STATE_STOPPED && !vm->want.here && !vm->saving &&
	    !vm->dirty && !vm->adopting)
		vm_free(vm);
}

static void
reconcile_stopped(struct vm *vm)
{
	if (vm_wants_run(vm) && vm->want.epoch > vm->epoch) {
		start_run(vm);
		return;
	}
	if (vm->want.here && vm->want.desired != VM_DESIRED_RUNNING &&
	    vm->want.epoch > vm->epoch) {
		skip_run(vm);
		return;
	}
	/* Its callers may still look at it. */
	if (!vm->want.here && !vm->freeing) {
		vm->freeing = true;
		loop_defer(vm->node->loop, free_if_unused, vm);
	}
}

static void
reconcile_alive(struct vm *vm)
{
	/* One that is to be suspended comes up first. */
	if ((!vm_wants_run(vm) && !vm_wants_suspension(vm)) ||
	    vm->want.epoch > vm->epoch)
		vm_stop_begin(vm);
	else if (vm_suspend_is_due(vm))
		vm_suspend_begin(vm);
	else if (vm->state == VM_STATE_RUNNING)
		vm_network_reconcile(vm);
	else if (vm->state == VM_STATE_STARTING && vm->step == VM_STEP_NONE) {
		/* Found after a restart of the daemon, as far as it came. */
		if (vm->pid != 0)
			vm_start_agent(vm);
		else
			vm_queue_up(vm);
	}
}

void
vm_reconcile(struct vm *vm)
{
	if (!node_is_running(vm->node) || vm->adopting)
		return;
	switch (vm->state) {
	case VM_STATE_STOPPED:
		reconcile_stopped(vm);
		break;
	case VM_STATE_STARTING:
	case VM_STATE_RUNNING:
		reconcile_alive(vm);
		break;
	case VM_STATE_SUSPENDING:
		break; /* what is begun is finished */
	case VM_STATE_SUSPENDED:
		vm_suspend_reconcile(vm);
		break;
	case VM_STATE_ZOMBIE:
		/* Cleaning is tried again when its time has come. */
		if (timer_active(&vm->deadline))
			break;
		/* fall through */
	default:
		if (vm->step == VM_STEP_NONE)
			vm_stop_next(vm);
		break;
	}
}
