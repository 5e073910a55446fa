/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The helper's operations on VMs and on the node's network. The order around
 * the firewall is always the same: elements before the port is made, port
 * away before the elements.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/helper_priv.h"
#include "json/json.h"
#include "model/egress.h"
#include "storage/storage.h"

#define START_MS   30000
#define CLEAN_MS   30000
#define SUSPEND_MS 300000 /* memory to disk */
#define STOP_MS    20000  /* besides the grace that main gives */
#define LOOK_MS    10000
#define GRACE_MAX  600000

static void
close_extra(int fd)
{
	closep(&fd);
}

/* Setup of the node */

static const struct field setup_fields[] = { FIELD(struct confine_conf, bridge,
						 STR, .flags = FIELD_REQUIRED,
						 .max = 15),
	FIELD(struct confine_conf, gateway, STR, .flags = FIELD_REQUIRED,
	    .max = 18),
	FIELD(struct confine_conf, gateway6, STR, .max = 64),
	FIELD(struct confine_conf, dns, STR, .max = RESOLVERS_TEXT_MAX),
	FIELD(struct confine_conf, nat, BOOL),
	FIELD(struct confine_conf, packets, I32, .min = 0, .max = 1000000),
	FIELD_END };

static int
node_setup(
    struct helper *h, const json_t *args, struct arena *arena, struct err *err)
{
	struct confine_conf s = { .dns = "", .gateway6 = "" };
	struct confine_net net;
	int r;

	if ((r = json_decode(args, setup_fields, &s, arena, NULL, err)) < 0)
		return r;
	if (s.dns == NULL)
		s.dns = "";
	if (s.gateway6 == NULL)
		s.gateway6 = "";
	if ((r = confine_net_parse(&s, &net, err)) < 0 ||
	    (r = helper_netns_enter(h, err)) < 0)
		return r;
	r = confine_setup(h->confine, &net, err);
	helper_netns_leave(h);
	if (r < 0)
		return r;
	h->net = net;
	h->net_ready = true;
	return 0;
}

void
handle_node_setup(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct err err = { 0 };
	int r;

	close_extra(fd);
	r = node_setup(arg, args, arena, &err);
	arena_free(arena);
	if (r < 0) {
		err_wrap(&err, r, "set up the node's network");
		rpc_fail(call, &err);
	} else {
		rpc_reply(call,
		    json_pack(
			"{ss}", "apparmor", apparmor_to_str(hv_apparmor())),
		    -1);
	}
}

/* What most operations have: a VM's id, and nothing that isn't in the
 * table. */
struct vm_args {
	int64_t vm_id;
	int64_t grace_ms;
	int32_t idmap_slot;
	const char *address;
	const char *egress;
	int64_t rate_kbit;
	bool forget_state;
	bool go_on; /* what waits for room on the node's disk */
};

#define FIELD_VM_ID                                                          \
	FIELD(struct vm_args, vm_id, I64, .flags = FIELD_REQUIRED, .min = 1, \
	    .max = HV_VM_ID_MAX)

const struct field helper_id_fields[] = { FIELD_VM_ID, FIELD_END };
const struct field helper_none_fields[] = { FIELD_END };
const struct field helper_disks_fields[] = { FIELD(struct vm_args, go_on, BOOL),
	FIELD_END };
static const struct field stop_fields[] = { FIELD_VM_ID,
	FIELD(struct vm_args, grace_ms, I64, .min = 0, .max = GRACE_MAX),
	FIELD_END };
static const struct field clean_fields[] = { FIELD_VM_ID,
	FIELD(struct vm_args, forget_state, BOOL), FIELD_END };
#define FIELDS_NETWORK                                                         \
	FIELD(                                                                 \
	    struct vm_args, address, STR, .flags = FIELD_REQUIRED, .max = 15), \
	    FIELD(struct vm_args, egress, STR, .max = EGRESS_TEXT_MAX,         \
		.check = egress_check),                                        \
	    FIELD(struct vm_args, rate_kbit, I64, .min = 0, .max = INT32_MAX)

static const struct field adopt_fields[] = { FIELD_VM_ID,
	FIELD(
	    struct vm_args, idmap_slot, I32, .min = 0, .max = STORAGE_SLOT_MAX),
	FIELDS_NETWORK, FIELD_END };
static const struct field network_fields[] = { FIELD_VM_ID, FIELDS_NETWORK,
	FIELD_END };

void
helper_queue(struct helper *h, struct rpc_call *call, const json_t *args,
    const struct field *fields, void (*run)(struct job *job), bool undo)
{
	struct arena *arena = arena_new(64 * 1024);
	struct vm_args a = { 0 };
	struct err err = { 0 };
	int r;

	r = json_decode(args, fields, &a, arena, NULL, &err);
	if (r < 0)
		rpc_fail(call, &err);
	else
		job_queue(h, call, (uint64_t)a.vm_id, args, run, undo);
	arena_free(arena);
}

int
helper_vm_id(const json_t *args, int64_t *ret_vm_id, struct err *err)
{
	struct vm_args a = { 0 };
	int r = json_decode(args, helper_id_fields, &a, NULL, NULL, err);

	*ret_vm_id = a.vm_id;
	return r;
}

/* Start */

static int
add_elements(struct job *job, struct err *err)
{
	const struct confine_vm vm = {
		.vm_id = job->vm_id,
		.address = job->address,
		.egress = json_get_str(job->args, "egress", EGRESS_DEFAULT),
		.rate_kbit = json_get_int(job->args, "rate_kbit", 0),
	};

	return confine_add(job->helper->confine, &vm, err);
}

static void
forget_elements(struct job *job)
{
	struct err err = { 0 };

	if (confine_del(job->helper->confine, job->vm_id, NULL, &err) < 0)
		log_err(LOG_LEVEL_ERROR, &err, "undo a start");
}

static void
on_undone(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	close_extra(fd);
	/* Main will see it again when it cleans the VM. */
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err, "undo a start");
	else
		forget_elements(job);
	job_fail(job, &job->err);
}

static void
on_started(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	if (err == NULL && !job->cancelled) {
		job_done(job, json_deep_copy(result), fd);
		return;
	}
	close_extra(fd);
	if (err != NULL)
		job->err = *err;
	else
		err_set(&job->err, ERR_CANCELLED, "start VM %lld: cancelled",
		    (long long)job->vm_id);
	if (job->err.code == ERR_CONFLICT) {
		/* Nothing was started: what is there is an earlier run. */
		forget_elements(job);
		job_fail(job, &job->err);
		return;
	}
	job_op(job, "vm.clean", CLEAN_MS, on_undone);
}

static void
run_start(struct job *job)
{
	struct err err = { 0 };
	int r;

	if (job->cancelled)
		r = err_set(&err, ERR_CANCELLED, "cancelled");
	else if (confine_has(job->helper->confine, job->vm_id))
		r = err_set(&err, ERR_CONFLICT,
		    "it is running on this node, or its last run has not "
		    "been cleaned");
	else
		r = add_elements(job, &err);
	if (r < 0) {
		err_wrap(&err, r, "start VM %lld", (long long)job->vm_id);
		job_fail(job, &err);
		return;
	}
	job_op(job, "vm.start", START_MS, on_started);
}

static int
check_start(const struct helper *h, const json_t *args, struct hv_vm *vm,
    struct arena *arena, struct err *err)
{
	int r;

	if ((r = json_decode(args, hv_vm_fields, vm, arena, NULL, err)) < 0 ||
	    (r = hv_vm_check(vm, err)) < 0)
		return r;
	if (!h->net_ready)
		return err_set(err, ERR_CONFLICT,
		    "the node's network is not set up yet (node.setup)");
	if (!confine_net_has(&h->net, vm->address))
		return err_set(err, ERR_PARAMETER,
		    "address: '%s' is not in the desktops' network %s/%d",
		    vm->address, h->net.gateway, h->net.prefix);
	return 0;
}

void
handle_vm_start(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct arena *arena = arena_new(64 * 1024);
	struct hv_vm vm = hv_vm_defaults;
	struct err err = { 0 };

	close_extra(fd);
	if (check_start(arg, args, &vm, arena, &err) < 0)
		rpc_fail(call, &err);
	else
		job_queue(arg, call, (uint64_t)vm.vm_id, args, run_start, true);
	arena_free(arena);
}

/* Adopt */

static void
on_adopted(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;
	struct err why = { 0 };
	json_t *answer;

	if (err == NULL && add_elements(job, &why) == 0) {
		answer = json_deep_copy(result);
		json_object_set_new(answer, "frozen",
		    json_boolean(
			cgroup_is_frozen(&job->helper->cgroup, job->vm_id)));
		job_done(job, answer, fd);
		return;
	}
	close_extra(fd);
	job_fail(job, err != NULL ? err : &why);
}

static void
run_adopt(struct job *job)
{
	job_op(job, "vm.adopt", LOOK_MS, on_adopted);
}

void
handle_vm_adopt(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, adopt_fields, run_adopt, false);
}

/* List */

static int
compare_ids(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Sorted, each id once, with those that have firewall elements only. */
static json_t *
merge_ids(const struct helper *h, const json_t *listed)
{
	size_t n = json_array_size(listed), i, pos = 0, cap = n;
	int64_t *ids = xcalloc(n + 1, sizeof(*ids)), id;
	json_t *out = json_array();

	for (i = 0; i < n; i++)
		ids[i] = json_integer_value(json_array_get(listed, i));
	while (confine_next(h->confine, &pos, &id)) {
		if (n == cap)
			ids = xrealloc(ids, cap = cap * 2 + 16, sizeof(*ids));
		ids[n++] = id;
	}
	qsort(ids, n, sizeof(*ids), compare_ids);
	for (i = 0; i < n; i++)
		if (i == 0 || ids[i] != ids[i - 1])
			json_array_append_new(out, json_integer(ids[i]));
	free(ids);
	return out;
}

static void
on_listed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	close_extra(fd);
	if (err != NULL)
		job_fail(job, err);
	else
		job_done(job,
		    json_pack("{so}", "vms",
			merge_ids(job->helper, json_object_get(result, "vms"))),
		    -1);
}

static void
run_list(struct job *job)
{
	job_op(job, "vm.list", LOOK_MS, on_listed);
}

void
handle_vm_list(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, helper_none_fields, run_list, false);
}

/* Stop, limits: the process's answer is the answer. */

void
helper_on_answer(const json_t *result, int fd, const struct err *err, void *arg)
{
	close_extra(fd);
	if (err != NULL)
		job_fail(arg, err);
	else
		job_done(arg, json_deep_copy(result), -1);
}

static void
run_stop(struct job *job)
{
	job_op(job, "vm.stop", STOP_MS + json_get_int(job->args, "grace_ms", 0),
	    helper_on_answer);
}

void
handle_vm_stop(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, stop_fields, run_stop, false);
}

/* Ended with its state on disk, or running on. */
static void
run_suspend(struct job *job)
{
	job_op(job, "vm.suspend", SUSPEND_MS, helper_on_answer);
}

void
handle_vm_suspend(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, helper_id_fields, run_suspend, false);
}

/* Streams of a virtual machine's own devices. */

static void
on_stream(const json_t *result, int fd, const struct err *err, void *arg)
{
	if (err != NULL) {
		close_extra(fd);
		job_fail(arg, err);
	} else {
		job_done(arg, json_deep_copy(result), fd);
	}
}

static void
run_screen(struct job *job)
{
	job_op(job, "vm.screen", LOOK_MS, on_stream);
}

static void
run_console(struct job *job)
{
	job_op(job, "vm.console", LOOK_MS, on_stream);
}

void
handle_vm_screen(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, helper_id_fields, run_screen, false);
}

void
handle_vm_console(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, helper_id_fields, run_console, false);
}

static void
run_limits(struct job *job)
{
	job_op(job, "vm.limits", LOOK_MS, helper_on_answer);
}

void
handle_vm_limits(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, helper_id_fields, run_limits, false);
}

/* Another policy while it runs. */

static void
run_network(struct job *job)
{
	struct err err = { 0 };
	int r;

	if (!confine_has(job->helper->confine, job->vm_id))
		r = err_set(&err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node",
		    (long long)job->vm_id);
	else
		r = add_elements(job, &err);
	if (r < 0)
		job_fail(job, &err);
	else
		job_done(job, NULL, -1);
}

void
handle_vm_network(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, network_fields, run_network, false);
}

/* Clean */

static void
on_cleaned(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;
	struct err why = { 0 };
	bool did = false;
	json_t *answer;

	close_extra(fd);
	if (err != NULL) {
		job_fail(job, err);
		return;
	}
	if (confine_del(job->helper->confine, job->vm_id, &did, &why) < 0) {
		job_fail(job, &why);
		return;
	}
	answer = json_deep_copy(result);
	if (did)
		json_array_append_new(json_object_get(answer, "removed"),
		    json_string("firewall elements"));
	job_done(job, answer, -1);
}

static void
run_clean(struct job *job)
{
	job_op(job, "vm.clean", CLEAN_MS, on_cleaned);
}

void
handle_vm_clean(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	close_extra(fd);
	helper_queue(arg, call, args, clean_fields, run_clean, false);
}
