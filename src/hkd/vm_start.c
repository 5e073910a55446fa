/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The steps of a start: the image that the tag names, its files, the
 * container, the agent's first word. Each is one question to the database or
 * the helper; the answer leads to the next.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"
#include "model/machine.h"

#define CHECKOUT_MS (30 * 60 * 1000) /* the state's deadline is shorter */
#define START_MS    60000
#define AGENT_MS    60000
#define BOOT_MS     150000 /* of a machine, until its agent answers */

static const struct db_stmt image_stmt = { "vm_image",
	"SELECT id, version, state, blocked, checksum, progress, error, "
	"hypervisors "
	"FROM images WHERE id = coalesce($2::int, vm_image($1))",
	2 };

void
vm_start_fail(struct vm *vm, const struct err *err)
{
	struct err why = *err;

	err_wrap(&why, 0, "start VM %lld", (long long)vm->id);
	/* Codes that say nothing to a client become "vm-start-failed". */
	if (why.code == ERR_SYSTEM || why.code == ERR_INTERNAL ||
	    why.code == ERR_TIMEOUT || why.code == ERR_UNAVAILABLE ||
	    why.code == ERR_PARAMETER || why.code == ERR_NOT_FOUND)
		why.code = ERR_VM_START;
	vm_fail(vm, VM_EVENT_FAIL,
	    vm->keeps_state ? "vm.resume-failed" : "vm.start-failed", &why);
}

static void
set_step(struct vm *vm, enum vm_step step)
{
	vm->step = step;
	vm->state_since_ms = time_now_ms();
	vm_save(vm);
}

/* Notes how long the step took that ends now. */
static void
note_phase(struct vm *vm, int phase)
{
	vm->phase_ms[phase] = (double)(time_now_ms() - vm->state_since_ms);
}

/* The agent */

void
vm_start_agent(struct vm *vm)
{
	vm_set_text(vm, "waiting for its agent");
	set_step(vm, VM_STEP_AGENT);
	agent_open(&vm->agent,
	    vm->want.hypervisor == HYPERVISOR_KVM ? BOOT_MS : AGENT_MS);
}

void
vm_start_done(struct vm *vm)
{
	int64_t took = time_now_ms() - vm->run_since_ms;

	note_phase(vm, 2);
	vm_set_text(vm, "%s", "");
	vm->crowded = vm->crowded || node_is_crowded(vm->node);
	vm_give_turn(vm);
	if (!vm_enter(vm, VM_EVENT_READY))
		return;
	vm_event(vm, vm->resumed ? "vm.resumed" : "vm.running", took,
	    "%s on '%s' from image %s%s (checkout %.0f ms, start %.0f ms, "
	    "agent %.0f ms)",
	    vm->resumed ? "goes on" : "running", vm->node->conf->name,
	    vm->image_name != NULL ? vm->image_name : "?",
	    vm->own_init ? " under its own systemd" : "", vm->phase_ms[0],
	    vm->phase_ms[1], vm->phase_ms[2]);
	vm->crowded = false;
	if (vm->resumed)
		vm_suspend_over(vm);
	vm_hook_after(vm, HOST_HOOK_POSTSTART);
	vm_reconcile(vm);
}

/* What of its image is on this node: as a tree, or for machines, too. Heap. */
static char *
tree_key(const struct vm *vm)
{
	return xasprintf("%s %s", vm->checksum,
	    vm->want.hypervisor == HYPERVISOR_KVM ? "kvm" : "");
}

/* The container */

static void
on_started(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->request = NULL;
	if (err != NULL) {
		_cleanup_(freep)
		char *key = tree_key(vm);

		closep(&fd);
		map_del_str(&vm->node->trees, key);
		vm_start_fail(vm, err);
		return;
	}
	note_phase(vm, 1);
	vm->pid = (pid_t)json_get_int(result, "pid", 0);
	/* What was on disk has been used. */
	vm->resumed = vm->keeps_state;
	vm->keeps_state = false;
	vm->own_init = str_eq(json_get_str(result, "init", ""), "systemd");
	home_seen(vm->node, vm->id, json_object_get(result, "home"));
	vm_watch_exit(vm, fd);
	vm_start_agent(vm);
}

/* Letters, digits and '-' of the VM's name; heap. */
static char *
hostname_of(const struct vm *vm)
{
	char *name = xstrndup(vm->want.name, 63), *p, *start = name;
	char *host;

	for (p = name; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p))
			*p = '-';
	while (*start == '-')
		start++;
	while (p > start && p[-1] == '-')
		*--p = '\0';
	host = *start != '\0' ? xstrdup(start)
			      : xasprintf("vm%lld", (long long)vm->id);
	free(name);
	return host;
}

void
vm_start_container(struct vm *vm)
{
	_cleanup_(freep)
	char *host = hostname_of(vm);
	const struct vm_wanted *w = &vm->want;
	const struct node_settings *s = &vm->node->settings;
	json_t *args;

	vm_set_text(vm, "starting the %s",
	    w->hypervisor == HYPERVISOR_KVM ? "machine" : "container");
	set_step(vm, VM_STEP_START);
	vm->touched = true;
	args = json_pack(
	    "{ss sI ss ss sb ss si sI sI sI sI sI sI sI ss ss sI ss ss "
	    "sb}",
	    "hypervisor", hypervisor_to_str(w->hypervisor), "epoch",
	    (json_int_t)vm->epoch, "hostname", host, "checksum", vm->checksum,
	    "volatile", (int)w->is_volatile, "address", w->address,
	    "idmap_slot", (int)w->idmap_slot, "memory_mb",
	    (json_int_t)w->memory_mb, "swap_mb", (json_int_t)w->swap_mb,
	    "cpu_percent", (json_int_t)w->cpu_percent, "cpu_weight",
	    (json_int_t)w->cpu_weight, "io_weight", (json_int_t)w->io_weight,
	    "pids_max", (json_int_t)w->pids_max, "home_mb",
	    (json_int_t)w->home_mb, "home_store",
	    home_store_to_str(s->home_store), "root_store",
	    root_store_to_str(s->root_store), "root_mb", (json_int_t)s->root_mb,
	    "accel", settings_accel(s, w->accel), "machine",
	    w->machine == OSF_MACHINE_NODE ? vm_machine_to_str(s->machine)
					   : osf_machine_to_str(w->machine),
	    "memory_merge", (int)w->memory_merge);
	json_object_set_new(args, "devices", json_string(w->devices));
	json_object_set_new(args, "resume", json_boolean(vm->keeps_state));
	vm_network_args(vm, args);
	vm_ask(vm, "vm.start", args, START_MS, on_started);
}

/* The image */

static void
on_checked_out(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	_cleanup_(freep)
	char *key = tree_key(vm);
	struct err why;

	closep(&fd);
	vm->request = NULL;
	if (err != NULL) {
		why = *err;
		err_wrap(&why, 0, "check out image '%s'", vm->image_name);
		if (why.code == ERR_SYSTEM || why.code == ERR_NOT_FOUND)
			why.code = ERR_IMAGE;
		vm_start_fail(vm, &why);
		return;
	}
	note_phase(vm, 0);
	map_set_str(&vm->node->trees, key, vm->node);
	vm_hook_prestart(vm);
}

/* Its files on this node, unless they are known to be here. */
static void
check_out(struct vm *vm)
{
	bool kvm = vm->want.hypervisor == HYPERVISOR_KVM;
	_cleanup_(freep)
	char *key = tree_key(vm);

	if (map_get_str(&vm->node->trees, key) != NULL) {
		vm_hook_prestart(vm);
		return;
	}
	vm_set_text(vm, "checking out image %s", vm->image_name);
	set_step(vm, VM_STEP_CHECKOUT);
	vm->request = rpc_ask(vm->node->helper, "image.checkout",
	    json_pack("{ss ss sb}", "checksum", vm->checksum, "root_store",
		root_store_to_str(
		    kvm ? ROOT_STORE_OVERLAY : vm->node->settings.root_store),
		"machine", (int)kvm),
	    -1, CHECKOUT_MS, on_checked_out, vm);
}

static int
check_image(const struct vm *vm, const struct db_result *res, struct err *err)
{
	const char *state, *error, *runs_on;

	if (db_rows(res) == 0)
		return err_set(err, ERR_IMAGE,
		    "OSF '%s' has no image '%s'; import one, or move the tag "
		    "('qvd image list')",
		    vm->want.osf, vm->want.tag);
	if (db_bool(res, 0, "blocked"))
		return err_set(
		    err, ERR_IMAGE, "image '%s' is blocked", vm->image_name);
	state = db_str(res, 0, "state");
	error = db_str(res, 0, "error");
	runs_on = db_str(res, 0, "hypervisors");
	if (str_eq(state, "ready"))
		return err_set(err, ERR_IMAGE,
		    "image '%s' is not published yet ('qvd image publish')",
		    vm->image_name);
	if (!str_eq(state, "published") && !str_eq(state, "retired"))
		return err_set(err, ERR_IMAGE,
		    "image '%s' can't be used: its import is %s (%lld %%)%s%s",
		    vm->image_name, state,
		    (long long)db_i64(res, 0, "progress"),
		    error != NULL ? ": " : "", error != NULL ? error : "");
	/* Whether a tree can be a machine is seen when one is made of it. */
	if (vm->want.hypervisor == HYPERVISOR_LXC && runs_on != NULL &&
	    str_eq(runs_on, "kvm"))
		return err_set(err, ERR_IMAGE,
		    "image '%s' is the disk of a virtual machine, and its OSF "
		    "runs containers ('qvd osf set %s --hypervisor kvm')",
		    vm->image_name, vm->want.osf);
	if (db_str(res, 0, "checksum") == NULL)
		return err_set(err, ERR_IMAGE, "image '%s' has no checksum",
		    vm->image_name);
	return 0;
}

static void
on_image(const struct db_result *res, const struct err *err, void *arg)
{
	struct vm *vm = arg;
	const char *version;
	struct err why;

	/* A late answer to a start that was given up. */
	if (vm->step != VM_STEP_IMAGE)
		return;
	if (err != NULL) {
		vm_start_fail(vm, err);
		return;
	}
	version = db_str(res, 0, "version");
	free(vm->image_name);
	vm->image_name =
	    xasprintf("%s%c%s", vm->want.osf, version != NULL ? '/' : ':',
		version != NULL ? version : vm->want.tag);
	/* A failure is this image's, too. */
	vm->image_id = db_rows(res) > 0 ? db_i64(res, 0, "id") : 0;
	if (check_image(vm, res, &why) < 0) {
		vm_start_fail(vm, &why);
		return;
	}
	free(vm->checksum);
	vm->checksum = xstrdup(db_str(res, 0, "checksum"));
	vm->phase_ms[0] = 0;
	check_out(vm);
}

void
vm_start_turn(struct vm *vm)
{
	struct db_params p = { 0 };

	vm->has_turn = true;
	vm->turn_ms = time_now_ms();
	vm->node->n_starting++;
	vm->crowded = vm->told_place > 0 || node_is_crowded(vm->node);
	timer_start(
	    &vm->deadline, vm_state_deadline(VM_STATE_STARTING)->deadline_ms);
	vm_set_text(vm, "looking for its image");
	vm->step = VM_STEP_IMAGE;
	vm->state_since_ms = time_now_ms();
	db_param_i64(&p, vm->id);
	/* What is suspended goes on with what it ran, wherever its tag is. */
	if (vm->keeps_state && vm->image_id != 0)
		db_param_i64(&p, vm->image_id);
	else
		db_param_null(&p);
	db_exec(vm->node->db, &image_stmt, &p, 0, on_image, vm);
}
