/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the firewall knows of a VM: its address, its egress policy and its
 * rate. They go with the start or the adoption; when a row of its OSF or
 * tenant, or the farm's default, says something else while it runs, the
 * firewall is told, and the timeline says so.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/vm.h"

#define NETWORK_MS 30000

static const char *
wanted_egress(const struct vm *vm)
{
	return vm->want.egress[0] != '\0' ? vm->want.egress
					  : vm->node->settings.egress;
}

void
vm_network_args(struct vm *vm, json_t *args)
{
	free(vm->egress);
	vm->egress = xstrdup(wanted_egress(vm));
	vm->rate_kbit = vm->want.rate_kbit;
	json_object_set_new(args, "address", json_string(vm->want.address));
	json_object_set_new(args, "egress", json_string(vm->egress));
	json_object_set_new(args, "rate_kbit", json_integer(vm->rate_kbit));
}

static void
on_applied(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	struct event event = { .name = "vm.network-changed",
		.vm_id = vm->id,
		.user_id = vm->want.user_id,
		.duration_ms = -1 };
	char ref[REF_LEN + 1];

	closep(&fd);
	vm->network_request = NULL;
	if (err == NULL) {
		store_event(vm->node, &event,
		    "its egress policy is now: %.300s (%lld kbit/s)",
		    vm->egress, (long long)vm->rate_kbit);
		log_info(
		    "VM %lld: its egress policy changed", (long long)vm->id);
		vm_reconcile(vm);
		return;
	}
	/* The old one stays, for it is one transaction; the next change, or
	 * the next start, tries again. */
	ref_make(ref);
	event.name = "vm.network-failed";
	event.error_id = err_id(err->code);
	event.ref = ref;
	store_event(vm->node, &event,
	    "its egress policy could not be changed and is the old one: %s",
	    err->msg);
	log_err(LOG_LEVEL_ERROR, err,
	    "VM %lld: change its egress policy, reference %s",
	    (long long)vm->id, ref);
}

void
vm_network_reconcile(struct vm *vm)
{
	json_t *args;

	if (vm->network_request != NULL ||
	    (vm->egress != NULL && str_eq(vm->egress, wanted_egress(vm)) &&
		vm->rate_kbit == vm->want.rate_kbit))
		return;
	args = json_pack("{sI}", "vm_id", (json_int_t)vm->id);
	vm_network_args(vm, args);
	vm->network_request = rpc_ask(vm->node->helper, "vm.network", args, -1,
	    NETWORK_MS, on_applied, vm);
}

void
vm_network_forget(struct vm *vm)
{
	if (vm->network_request != NULL)
		rpc_request_cancel(take_ptr(vm->network_request));
	free(take_ptr(vm->egress));
	vm->rate_kbit = 0;
}
