/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The administrator's programs around a run (host hooks), as the farm's
 * settings name them; the helper runs them. prestart is a step of the start
 * and can refuse it. For poststart and poststop nobody waits: if one fails the
 * timeline says so, and the VM goes on. Each run whose prestart was due has one
 * poststop, however it ended.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

#define HELPER_MS 10000 /* beyond the hook's own deadline */

/* One that nobody waits for; outlives its VM. */
struct after {
	struct list link;
	struct node *node;
	struct rpc_request *request;
	int64_t vm_id, user_id, since_ms;
	enum host_hook hook;
};

static void
set_text(json_t *o, const char *name, const char *value)
{
	json_object_set_new(
	    o, name, value != NULL ? json_string(value) : json_null());
}

/* Its standard input. */
static json_t *
input_of(const struct vm *vm, enum host_hook hook)
{
	const struct vm_wanted *w = &vm->want;
	bool bad = err_is_set(&vm->err);
	json_t *o = json_object();

	set_text(o, "hook", host_hook_to_str(hook));
	set_text(o, "host", vm->node->conf->name);
	json_object_set_new(o, "vm_id", json_integer(vm->id));
	json_object_set_new(o, "run", json_integer(vm->epoch));
	set_text(o, "name", w->name);
	set_text(o, "owner", w->owner);
	set_text(o, "osf", w->osf);
	set_text(o, "image", vm->image_name);
	set_text(o, "checksum", vm->checksum);
	set_text(o, "address", w->address);
	json_object_set_new(
	    o, "pid", vm->pid != 0 ? json_integer(vm->pid) : json_null());
	set_text(o, "error_id", bad ? err_id(vm->err.code) : NULL);
	set_text(o, "error", bad ? vm->err.msg : NULL);
	return o;
}

static json_t *
args_of(const struct vm *vm, enum host_hook hook)
{
	const struct node_settings *s = &vm->node->settings;

	return json_pack("{sI ss ss sI so}", "vm_id", (json_int_t)vm->id,
	    "hook", host_hook_to_str(hook), "program", s->hooks[hook],
	    "deadline_ms", (json_int_t)s->hook_ms, "input", input_of(vm, hook));
}

static void
on_prestart(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	struct err why;

	closep(&fd);
	vm->request = NULL;
	if (err == NULL) {
		vm_start_container(vm);
		return;
	}
	why = *err;
	err_wrap(&why, 0, "prestart refuses it");
	vm_start_fail(vm, &why);
}

void
vm_hook_prestart(struct vm *vm)
{
	const struct node_settings *s = &vm->node->settings;

	vm->hooked = true;
	if (s->hooks[HOST_HOOK_PRESTART][0] == '\0') {
		vm_start_container(vm);
		return;
	}
	vm_set_text(vm, "running the host's prestart hook");
	vm->step = VM_STEP_HOOK;
	vm->state_since_ms = time_now_ms();
	vm_save(vm);
	vm->request = rpc_ask(vm->node->helper, "vm.hook",
	    args_of(vm, HOST_HOOK_PRESTART), -1, s->hook_ms + HELPER_MS,
	    on_prestart, vm);
}

static void
after_free(struct after *after)
{
	if (after->request != NULL)
		rpc_request_cancel(after->request);
	list_del(&after->link);
	free(after);
}

static void
on_after(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct after *after = arg;
	struct event event = { .name = "vm.hook-failed",
		.vm_id = after->vm_id,
		.user_id = after->user_id,
		.duration_ms = time_now_ms() - after->since_ms };
	char ref[REF_LEN + 1];

	closep(&fd);
	after->request = NULL;
	if (err != NULL) {
		ref_make(ref);
		event.error_id = err_id(err->code);
		event.ref = ref;
		store_event(after->node, &event, "%s: %s",
		    host_hook_to_str(after->hook), err->msg);
		log_err(LOG_LEVEL_ERROR, err, "%s of VM %lld, reference %s",
		    host_hook_to_str(after->hook), (long long)after->vm_id,
		    ref);
	}
	after_free(after);
}

void
vm_hook_after(struct vm *vm, enum host_hook hook)
{
	const struct node_settings *s = &vm->node->settings;
	struct after *after;

	if (!vm->hooked || s->hooks[hook][0] == '\0')
		return;
	after = new0(struct after);
	after->node = vm->node;
	after->vm_id = vm->id;
	after->user_id = vm->want.user_id;
	after->since_ms = time_now_ms();
	after->hook = hook;
	list_init(&after->link);
	list_add(&vm->node->hooks, &after->link);
	after->request = rpc_ask(vm->node->helper, "vm.hook", args_of(vm, hook),
	    -1, s->hook_ms + HELPER_MS, on_after, after);
}

void
hooks_done(struct node *node)
{
	struct after *after;

	LIST_EACH (&node->hooks, after, struct after, link)
		after_free(after);
}
