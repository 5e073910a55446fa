/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a user is told of disks: that the home, or the system, of the desktop
 * is nearly full, or full. Each once, when somebody is there to read it; again
 * after it was better, and in the next run. Of a virtual machine's disks only
 * its own system knows what is free in them, so its user isn't told.
 */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "hkd/vm.h"
#include "json/json.h"

#define ANSWER_MS 120000 /* the image's hook has its own limit */

static const char *const what[VM_DISK_COUNT_] = {
	[VM_DISK_SYSTEM] = "the space for changes to the system",
	[VM_DISK_HOME] = "the home",
};

static void
on_told(const struct err *err, void *arg)
{
	struct vm *vm = arg;
	enum vm_disk which = vm->disks.telling;
	const char *is =
	    vm->disks.told[which] == FILL_FULL ? "full" : "nearly full";
	char shown[256];

	vm->disks.call = NULL;
	if (err == NULL) {
		vm_event(vm, "vm.disk-told", -1,
		    "its user was told that %s is %s", what[which], is);
		vm_disks_look(vm);
		return;
	}
	/* Tried again when the user is there again. */
	vm->disks.told[which] = FILL_OK;
	vm_event(vm, "vm.disk-told", -1,
	    "its user could not be told that %s is %s: %s", what[which], is,
	    str_escape(shown, sizeof(shown), err->msg, strlen(err->msg)));
}

static void
tell(struct vm *vm, enum vm_disk which)
{
	struct vm_disks *d = &vm->disks;

	d->telling = which;
	d->told[which] = d->fill[which];
	d->call = agent_post(vm, "/disk",
	    json_pack("{s:s, s:s}", "disk", vm_disk_to_str(which), "fill",
		fill_to_str(d->fill[which])),
	    ANSWER_MS, on_told, vm);
}

void
vm_disks_look(struct vm *vm)
{
	const struct vm_disks *d = &vm->disks;
	int i;

	if (vm->state != VM_STATE_RUNNING || vm->adopting || d->call != NULL ||
	    vm->session != SESSION_CONNECTED ||
	    vm->want.hypervisor == HYPERVISOR_KVM)
		return;
	for (i = 0; i < VM_DISK_COUNT_; i++)
		if (d->fill[i] > d->told[i]) {
			tell(vm, (enum vm_disk)i);
			return;
		}
}

void
vm_disks_forget(struct vm *vm)
{
	if (vm->disks.call == NULL)
		return;
	agent_call_cancel(take_ptr(vm->disks.call));
	vm->disks.told[vm->disks.telling] = FILL_OK;
}

void
vm_disks_begin_run(struct vm *vm)
{
	int i;

	for (i = 0; i < VM_DISK_COUNT_; i++)
		vm->disks.told[i] = FILL_OK;
}
