/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-hkd-vm: one operation on one VM at a time, and mostly one at all.
 * Single-threaded by design: liblxc's monitors inherit what other threads have
 * open. Forked from the forge (op_forge.h), with requests on descriptor 0. A
 * start says which hypervisor runs the VM; all that comes later finds it in the
 * record of the run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "confine/confine.h"
#include "hkd/hv_request.h"
#include "hkd/op.h"
#include "hkd/op_forge.h"
#include "hypervisor/cgroup.h"
#include "hypervisor/hv.h"
#include "hypervisor/memory.h"
#include "json/json.h"

static json_t *
run_to_json(const struct hv_run *run)
{
	json_t *phases = json_object(), *o;
	int i;

	for (i = 0; i < run->n_phases; i++)
		json_object_set_new(phases, run->phases[i].name,
		    json_real((double)run->phases[i].us / 1000.0));
	o = json_pack("{si sI sI so}", "pid", (int)run->pid, "start_time",
	    (json_int_t)run->start_time, "epoch", (json_int_t)run->epoch,
	    "phases", phases);
	if (run->init != NULL)
		json_object_set_new(o, "init", json_string(run->init));
	if (run->home.store != HOME_STORE_AUTO)
		json_object_set_new(
		    o, "home", json_encode(home_info_fields, &run->home));
	return o;
}

static int
do_start(const struct hv_request *q, struct err *err)
{
	struct hv_vm vm = hv_vm_defaults;
	const struct hv_ops *ops;
	struct hv_run run;
	int r, status;

	if ((r = json_decode(q->args, hv_vm_fields, &vm, q->arena, NULL, err)) <
		0 ||
	    (r = hv_by_name(vm.hypervisor, &ops, err)) < 0 ||
	    (r = ops->start(&q->node, &vm, &run, err)) < 0)
		return r;
	status = ops->starts_cleanly
		     ? op_send_result_and_stay(run_to_json(&run), run.pidfd)
		     : op_send_result(run_to_json(&run), run.pidfd);
	close(run.pidfd);
	return status;
}

static int
do_adopt(const struct hv_request *q, struct err *err)
{
	struct hv_run run;
	int r, status;

	if ((r = q->ops->adopt(&q->node, q->vm_id, &run, err)) < 0)
		return r;
	status = op_send_result(run_to_json(&run), run.pidfd);
	close(run.pidfd);
	return status;
}

static int
do_stop(const struct hv_request *q, struct err *err)
{
	int grace_ms = (int)json_get_int(q->args, "grace_ms", 0);
	int r = q->ops->stop(&q->node, q->vm_id, grace_ms, err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

static int
do_clean(const struct hv_request *q, struct err *err)
{
	bool forget = json_get_bool(q->args, "forget_state", false);
	json_t *removed = json_array();
	int r;

	if ((r = q->ops->clean(&q->node, q->vm_id, removed, err)) < 0 ||
	    (forget && (r = hv_state_forget(&q->node, q->vm_id, err)) < 0)) {
		json_decref(removed);
		return r;
	}
	return op_send_result(json_pack("{so sb}", "removed", removed, "saved",
				  (int)hv_state_is_saved(&q->node, q->vm_id)),
	    -1);
}

static int
do_list(const struct hv_request *q, struct err *err)
{
	json_t *ids = json_array();
	int r = q->ops->list(&q->node, ids, err);

	if (r < 0) {
		json_decref(ids);
		return r;
	}
	return op_send_result(json_pack("{so}", "vms", ids), -1);
}

static int
do_limits(const struct hv_request *q, struct err *err)
{
	struct hv_limits limits;
	int r = q->ops->limits(&q->node, q->vm_id, &limits, err);

	if (r < 0)
		return r;
	return op_send_result(json_encode(hv_limits_fields, &limits), -1);
}

static int
do_left(const struct hv_request *q, struct err *err)
{
	json_t *left = json_array();
	int r = hv_left(&q->node, q->vm_id, left, err);

	if (r < 0) {
		json_decref(left);
		return r;
	}
	return op_send_result(json_pack("{so}", "left", left), -1);
}

static int
do_remains(const struct hv_request *q, struct err *err)
{
	json_t *items = json_array();
	int r = hv_remains_find(&q->node, items, err);

	if (r < 0) {
		json_decref(items);
		return r;
	}
	return op_send_result(json_pack("{so}", "items", items), -1);
}

static int
do_remove(const struct hv_request *q, struct err *err)
{
	int r = hv_remains_remove(&q->node, json_get_str(q->args, "kind", ""),
	    q->vm_id, json_get_str(q->args, "name", ""), err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

static int
no_such(const struct hv_request *q, const char *what, struct err *err)
{
	return err_set(err, ERR_CONFLICT,
	    "VM %lld is a container or isn't running here: only a virtual "
	    "machine %s",
	    (long long)q->vm_id, what);
}

static int
do_suspend(const struct hv_request *q, struct err *err)
{
	int64_t bytes = 0;
	int r;

	if (q->ops->suspend == NULL)
		return no_such(q, "can be suspended to disk", err);
	r = q->ops->suspend(&q->node, q->vm_id, &bytes, err);
	return r < 0 ? r
		     : op_send_result(
			   json_pack("{sI}", "bytes", (json_int_t)bytes), -1);
}

static int
send_stream(int fd)
{
	int status = op_send_result(json_object(), fd);

	close(fd);
	return status;
}

static int
do_screen(const struct hv_request *q, struct err *err)
{
	int fd, r;

	if (q->ops->screen == NULL)
		return no_such(q, "has a screen", err);
	r = q->ops->screen(&q->node, q->vm_id, &fd, err);
	return r < 0 ? r : send_stream(fd);
}

static int
do_console(const struct hv_request *q, struct err *err)
{
	int fd, r;

	if (q->ops->console == NULL)
		return no_such(q, "has a console", err);
	r = q->ops->console(&q->node, q->vm_id, &fd, err);
	return r < 0 ? r : send_stream(fd);
}

/* Of a VM that stands: its record can't say what it is. */
static int
do_pack(const struct hv_request *q, struct err *err)
{
	struct hv_vm vm = { .vm_id = q->vm_id,
		.checksum = json_get_str(q->args, "base", ""),
		.accel = json_get_str(q->args, "accel", "auto") };
	const struct hv_ops *ops;
	int fd, r;

	if ((r = hv_by_name(
		 json_get_str(q->args, "hypervisor", ""), &ops, err)) < 0)
		return r;
	if (ops->pack == NULL || !hv_is_checksum(vm.checksum))
		return err_set(
		    err, ERR_PARAMETER, "its changes are not to be packed");
	r = ops->pack(&q->node, &vm, op_send_progress, &fd, err);
	return r < 0 ? err_wrap(err, r, "commit VM %lld", (long long)q->vm_id)
		     : send_stream(fd);
}

static int
do_reclaim(const struct hv_request *q, struct err *err)
{
	struct memory_reclaimed done = { .note = NULL };
	struct cgroup cg;
	int r;

	if ((r = cgroup_init(&cg, q->node.cgroup, err)) < 0)
		return r;
	r = memory_reclaim(&cg, q->vm_id, &done, err);
	cgroup_done(&cg);
	if (r < 0)
		return r;
	return op_send_result(
	    json_pack("{sI sI sI sf sf ss?}", "before_kb",
		(json_int_t)done.before_kb, "after_kb",
		(json_int_t)done.after_kb, "swapped_kb",
		(json_int_t)done.swapped_kb, "freeze_ms",
		(double)done.frozen_us / 1000.0, "reclaim_ms",
		(double)done.reclaim_us / 1000.0, "note", done.note),
	    -1);
}

static int
do_usage(const struct hv_request *q, struct err *err)
{
	json_t *list = json_array();
	struct cgroup cg;
	int r;

	if ((r = cgroup_init(&cg, q->node.cgroup, err)) < 0) {
		json_decref(list);
		return r;
	}
	memory_usage_all(&cg, list);
	cgroup_done(&cg);
	return op_send_result(json_pack("{so}", "vms", list), -1);
}

/* Of all of them. */
static int
do_disks(const struct hv_request *q, struct err *err)
{
	json_t *list = json_array();
	int r = hv_look_all(
	    &q->node, json_get_bool(q->args, "go_on", false), list, err);

	if (r < 0) {
		json_decref(list);
		return r;
	}
	return op_send_result(json_pack("{so}", "vms", list), -1);
}

static const struct {
	const char *name;
	int (*fn)(const struct hv_request *q, struct err *err);
	bool node; /* about no VM */
} operations[] = {
	{ "start", do_start, false },
	{ "adopt", do_adopt, false },
	{ "stop", do_stop, false },
	{ "clean", do_clean, false },
	{ "left", do_left, false },
	{ "list", do_list, true },
	{ "limits", do_limits, false },
	{ "remains", do_remains, true },
	{ "remove", do_remove, true },
	{ "look", home_op_look, false },
	{ "snapshot", home_op_snapshot, false },
	{ "restore", home_op_restore, false },
	{ "forget", home_op_forget, false },
	{ "grow", home_op_grow, false },
	{ "convert", home_op_convert, false },
	{ "collect", root_op_collect, false },
	{ "suspend", do_suspend, false },
	{ "screen", do_screen, false },
	{ "console", do_console, false },
	{ "pack", do_pack, false },
	{ "reclaim", do_reclaim, false },
	{ "usage", do_usage, true },
	{ "disks", do_disks, true },
};

/* With [node] netns, descriptor 1 is that network namespace until it is
 * entered. */
static int
enter_netns(const json_t *request, struct err *err)
{
	static bool inside;
	_cleanup_(closep)
	int null = -1;
	int r;

	if (inside || !json_get_bool(request, "netns", false))
		return 0;
	if ((r = netns_enter(STDOUT_FILENO, err)) < 0)
		return r;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open /dev/null");
	inside = true;
	return 0;
}

/*
 * liblxc would run newuidmap and newgidmap through a shell if it found them:
 * three programs to write two lines that root may write, a seventh of a
 * start. The container has a PATH of its own.
 */
static int
hide_idmap_tools(const struct hv_node *node, struct err *err)
{
	if (setenv("PATH", node->programs_dir, 1) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "set PATH");
	return 0;
}

static int
perform(struct hv_request *q, const json_t *request, struct err *err)
{
	const char *name = json_get_str(request, "op", "");
	size_t i;
	int r;

	q->args = json_object_get(request, "args");
	q->vm_id = json_get_int(q->args, "vm_id", 0);
	if ((r = json_decode(json_object_get(request, "node"), hv_node_fields,
		 &q->node, q->arena, NULL, err)) < 0 ||
	    (r = hv_node_check(&q->node, err)) < 0 ||
	    (r = hide_idmap_tools(&q->node, err)) < 0 ||
	    (r = enter_netns(request, err)) < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (str_eq(name, operations[i].name))
			break;
	if (i == ARRAY_SIZE(operations))
		return err_set(err, ERR_INTERNAL, "no operation '%s'", name);
	if (!operations[i].node && !hv_is_vm_id(q->vm_id))
		return err_set(err, ERR_PARAMETER, "vm_id: not an id");
	q->ops = hv_of_vm(&q->node, q->vm_id);
	return operations[i].fn(q, err);
}

static int
operate(void)
{
	struct hv_request q = { 0 };
	struct err err = { 0 };
	json_t *request;
	int r;

	if ((request = op_recv(&err)) == NULL) {
		log_err(LOG_LEVEL_ERROR, &err, "qvd-hkd-vm");
		return err_exit_code(err.code);
	}
	q.arena = arena_new(1 << 20);
	r = perform(&q, request, &err);
	json_decref(request);
	arena_free(q.arena);
	return r < 0 ? op_send_error(&err) : r;
}

int
main(void)
{
	int r;

	log_init("hkd/vm");
	umask(022);
	r = op_forge_serve();
	if (r == 0)
		do
			r = operate();
		while (r == OP_STAY && op_wait());
	if (r == OP_STAY)
		r = EXIT_SUCCESS;
	/* A fork leaves alone what the libraries would do at the end of the
	 * program that they were loaded into. */
	_exit(r);
}
