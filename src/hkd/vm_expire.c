/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A run that is to give way: from the soft time on its agent is told, once a
 * session and when its user is there (nothing is woken for it), and tells
 * the user. The restart at the hard time is asked for by a
 * new run in the VM's row, as any other.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define ANSWER_MS 120000 /* the image's hook has its own limit */

static void
on_told(const struct err *err, void *arg)
{
	struct vm *vm = arg;
	char shown[256];

	vm->expiry.call = NULL;
	if (err == NULL) {
		vm_event(vm, "vm.expiry-told", -1, "its user was told%s%s",
		    vm->want.expire_hard[0] != '\0'
			? " that it is restarted at "
			: " that there is a new version",
		    vm->want.expire_hard);
		return;
	}
	vm_event(vm, "vm.expiry-told", -1,
	    "its user could not be told that it expires: %s",
	    str_escape(shown, sizeof(shown), err->msg, strlen(err->msg)));
}

static void
tell(struct vm *vm)
{
	const struct vm_wanted *w = &vm->want;
	json_t *body = json_object();

	if (w->expire_soft[0] != '\0')
		json_object_set_new(body, "soft", json_string(w->expire_soft));
	if (w->expire_hard[0] != '\0')
		json_object_set_new(body, "hard", json_string(w->expire_hard));
	vm->expiry.told = true;
	vm->expiry.call =
	    agent_post(vm, "/expire", body, ANSWER_MS, on_told, vm);
}

void
vm_expiry_look(struct vm *vm)
{
	const struct vm_wanted *w = &vm->want;
	int64_t left = w->expire_due_ms - time_now_ms();

	timer_stop(&vm->expiry.timer);
	if (w->expire_soft[0] == '\0' && w->expire_hard[0] == '\0')
		return;
	if (vm->state != VM_STATE_RUNNING || vm->adopting || vm->expiry.told ||
	    vm->expiry.call != NULL || vm->session != SESSION_CONNECTED)
		return;
	if (left > 0)
		timer_start(&vm->expiry.timer, left);
	else
		tell(vm);
}

static void
on_timer(void *arg)
{
	vm_expiry_look(arg);
}

void
vm_expiry_init(struct vm *vm)
{
	timer_init(&vm->expiry.timer, vm->node->loop, on_timer, vm);
	vm->want.expire_soft = xstrdup("");
	vm->want.expire_hard = xstrdup("");
}

void
vm_expiry_forget(struct vm *vm)
{
	agent_call_cancel(take_ptr(vm->expiry.call));
	timer_stop(&vm->expiry.timer);
	vm->expiry.told = false;
}

void
vm_expiry_done(struct vm *vm)
{
	vm_expiry_forget(vm);
	timer_done(&vm->expiry.timer);
	free(vm->want.expire_soft);
	free(vm->want.expire_hard);
}
