/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Starting, stopping and suspending VMs: what should be is written to the VM's
 * row in one transaction, by the same rules as when its user connects; the node
 * does it.
 */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/acquire.h"
#include "model/placement.h"
#include "model/rows.h"

#define START_WAIT_MS (INT64_C(300) * 1000)
#define STOP_WAIT_MS  (INT64_C(300) * 1000)
#define SAVE_WAIT_MS  (INT64_C(600) * 1000)

static const struct db_stmt lock_stmt = { "vm_run_lock",
	"SELECT * FROM vms WHERE id = $1 FOR UPDATE", 1 };
static const struct db_stmt runtime_stmt = { "vm_run_runtime",
	"SELECT * FROM vm_runtimes WHERE vm_id = $1", 1 };
static const struct db_stmt hosts_stmt = { "vm_run_hosts",
	"SELECT h.id AS host_id, h.name, h.blocked, "
	"coalesce(r.state, 'stopped') AS state, "
	"coalesce(r.lease_until IS NULL OR "
	"r.lease_until > clock_timestamp(), false) AS lease_ok, "
	"coalesce(r.memory_bytes, 0) AS memory_bytes, "
	"coalesce(r.cpus, 1) AS cpus, "
	"coalesce(sum(o.memory_mb), 0) * 1048576 AS memory_used_bytes, "
	"count(v.id) AS vms, "
	"(SELECT o2.memory_mb::bigint * 1048576 FROM vms v2 JOIN osfs o2 "
	"ON o2.id = v2.osf_id WHERE v2.id = $1) AS need_bytes "
	"FROM hosts h LEFT JOIN host_runtimes r ON r.host_id = h.id "
	"LEFT JOIN vms v ON v.host_id = h.id AND v.desired = 'running' "
	"AND v.id <> $1 LEFT JOIN osfs o ON o.id = v.osf_id "
	"GROUP BY h.id, r.host_id",
	1 };
/* vm, epoch, host, by whom */
static const struct db_stmt start_stmt = { "vm_run_start",
	"UPDATE vms SET desired = 'running', desired_at = now(), "
	"desired_by = $4, host_id = $3, epoch = $2 WHERE id = $1 "
	"RETURNING id",
	4 };
static const struct db_stmt stop_stmt = { "vm_run_stop",
	"UPDATE vms SET desired = 'stopped', desired_at = now(), "
	"desired_by = $2 WHERE id = $1 RETURNING id",
	2 };
/* vm, by whom: what else may be wanted of the run that goes on */
static const struct db_stmt go_on_stmt = { "vm_run_go_on",
	"UPDATE vms SET desired = 'running', desired_at = now(), "
	"desired_by = $2 WHERE id = $1 RETURNING id",
	2 };
static const struct db_stmt suspend_stmt = { "vm_run_suspend",
	"UPDATE vms SET desired = 'suspended', desired_at = now(), "
	"desired_by = $2 WHERE id = $1 RETURNING id",
	2 };
static const struct db_stmt hypervisor_stmt = { "vm_run_hypervisor",
	"SELECT o.hypervisor FROM vms v JOIN osfs o ON o.id = v.osf_id "
	"WHERE v.id = $1",
	1 };
/* name, vm, host, text */
static const struct db_stmt event_stmt = { "vm_run_event",
	"INSERT INTO events (name, vm_id, user_id, host_id, text) "
	"SELECT $1, v.id, v.user_id, $3::int, $4 FROM vms v "
	"WHERE v.id = $2::int",
	4 };
static const struct db_stmt look_stmt = { "vm_run_look",
	"SELECT v.epoch AS wanted, v.desired, r.epoch, r.state, r.step, "
	"r.error_id, r.error, r.error_ref FROM vms v "
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id WHERE v.id = $1",
	1 };

struct run {
	struct vm_row vm;
	struct vm_runtime_row runtime;
	bool has_runtime;
	int64_t host_id, epoch;
	char by[64];
};

static int
decode(struct request *req, const struct db_result *res,
    const struct field *fields, void *out)
{
	struct err err = { 0 };

	if (db_row_decode(res, 0, fields, out, req->arena, &err) == 0)
		return 0;
	respond_err(req, &err);
	return -1;
}

static void
write_event(struct request *req, const char *name, int64_t host_id,
    const char *text, step_cb cb)
{
	struct db_params p = { .n = 0 };

	db_param_str(&p, name);
	db_param_i64(&p, req->id);
	if (host_id != 0)
		db_param_i64(&p, host_id);
	else
		db_param_null(&p);
	db_param_str(&p, text);
	change_exec(req, &event_stmt, &p, cb);
}

static void
nothing(struct request *req, const struct db_result *res)
{
}

/* Waiting */

static int
run_failed(const struct db_result *res, struct err *err)
{
	const char *id = db_str(res, 0, "error_id");
	const char *text = db_str(res, 0, "error");
	const char *ref = db_str(res, 0, "error_ref");

	return err_set(err, err_from_id(id != NULL ? id : "vm-start-failed"),
	    "%s%s%s", text != NULL ? text : "the VM ended while it started",
	    ref != NULL ? ", reference " : "", ref != NULL ? ref : "");
}

static int
look_start(struct request *req, const struct db_result *res, char *text,
    size_t size, struct err *err)
{
	enum vm_state state = VM_STATE_STOPPED;
	const char *step;

	if (db_rows(res) == 0)
		return err_set(
		    err, ERR_NOT_FOUND, "the VM was deleted meanwhile");
	if (db_str(res, 0, "state") == NULL ||
	    db_i64(res, 0, "epoch") < req->epoch) {
		if (str_eq(db_str(res, 0, "desired"), "stopped"))
			return err_set(err, ERR_CANCELLED,
			    "somebody stopped the VM meanwhile");
		str_copy(text, size, "waiting for its node");
		return 0;
	}
	vm_state_from_str(db_str(res, 0, "state"), &state);
	if (state == VM_STATE_RUNNING || db_i64(res, 0, "epoch") > req->epoch)
		return 1;
	if (state == VM_STATE_STARTING) {
		step = db_str(res, 0, "step");
		str_copy(text, size, step != NULL ? step : "starting");
		return 0;
	}
	/* It will go on from there. */
	if (state == VM_STATE_SUSPENDING ||
	    (state == VM_STATE_SUSPENDED && db_str(res, 0, "error") == NULL)) {
		str_copy(text, size, db_str(res, 0, "state"));
		return 0;
	}
	/* An end that is under way may still get its reason. */
	if (state == VM_STATE_STOPPING) {
		str_copy(text, size, "stopping");
		return 0;
	}
	return run_failed(res, err);
}

static int
look_stop(struct request *req, const struct db_result *res, char *text,
    size_t size, struct err *err)
{
	enum vm_state state = VM_STATE_STOPPED;
	const char *word = db_rows(res) > 0 ? db_str(res, 0, "state") : NULL;

	if (word == NULL)
		return 1; /* never ran, or is gone */
	vm_state_from_str(word, &state);
	if (state == VM_STATE_STOPPED)
		return 1;
	if (state == VM_STATE_ZOMBIE)
		return err_set(err, ERR_CONFLICT,
		    "something of VM %lld can't be removed from its node; "
		    "see 'qvd why vm %lld'",
		    (long long)req->id, (long long)req->id);
	if (str_eq(db_str(res, 0, "desired"), "running"))
		return err_set(
		    err, ERR_CANCELLED, "somebody started the VM meanwhile");
	str_copy(text, size, word);
	return 0;
}

/* It is written: the answer, or first what becomes of it. */
static void
wait_or_answer(struct request *req,
    int (*look)(struct request *, const struct db_result *, char *, size_t,
	struct err *),
    int64_t timeout_ms)
{
	if (req->wait)
		await_start(
		    req, "qvd_vm_runtimes", &look_stmt, look, timeout_ms);
	else
		respond_object(req, &resource_vms, req->id, 202);
}

/* Start */

static void
on_start_commit(struct request *req, const struct db_result *res)
{
	wait_or_answer(req, look_start, START_WAIT_MS);
}

static void
commit(struct request *req, step_cb cb)
{
	change_commit(req, object_text(req, &resource_vms, req->id), cb);
}

static void
on_start_written(struct request *req, const struct db_result *res)
{
	commit(req, on_start_commit);
}

/* The event and the statement of a wish that makes no new run. */
static void
write_wish(struct request *req, const struct db_stmt *stmt, const char *event,
    step_cb cb)
{
	struct run *run = req->data;
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, run->by);
	write_event(req, event, 0, run->by, nothing);
	if (!req->failed)
		change_exec(req, stmt, &p, cb);
}

static void
write_start(struct request *req)
{
	struct run *run = req->data;
	struct db_params p = { .n = 0 };

	req->epoch = run->vm.epoch + 1;
	db_param_i64(&p, req->id);
	db_param_i64(&p, req->epoch);
	db_param_i64(&p, run->host_id);
	db_param_str(&p, run->by);
	write_event(req, "vm.start-requested", 0, run->by, nothing);
	if (!req->failed && run->host_id != run->vm.host_id)
		write_event(req, "vm.placed", run->host_id,
		    "placed for its start", nothing);
	if (!req->failed)
		change_exec(req, &start_stmt, &p, on_start_written);
}

static int
read_hosts(struct request *req, const struct db_result *res,
    struct placement_host **ret)
{
	int n = db_rows(res), i;
	struct placement_host *hosts =
	    arena_alloc(req->arena, sizeof(*hosts) * (size_t)(n + 1));

	for (i = 0; i < n && hosts != NULL; i++) {
		struct placement_host *h = &hosts[i];

		h->host_id = db_i64(res, i, "host_id");
		if (!host_state_from_str(db_str(res, i, "state"), &h->state))
			h->state = HOST_LOST;
		h->blocked = db_bool(res, i, "blocked");
		h->lease_ok = db_bool(res, i, "lease_ok");
		h->memory_bytes = db_i64(res, i, "memory_bytes");
		h->memory_used_bytes = db_i64(res, i, "memory_used_bytes");
		h->cpus = (int32_t)db_i64(res, i, "cpus");
		h->vms = (int32_t)db_i64(res, i, "vms");
	}
	*ret = hosts;
	return hosts != NULL ? n : 0;
}

/* While anything of the last run may be left, the same node must end it
 * before it starts the next. */
static int
choose_host(struct run *run, struct placement_host *hosts, int n,
    int64_t need_bytes, struct err *err)
{
	struct placement_need need = { .vm_id = run->vm.id,
		.memory_bytes = need_bytes,
		.last_host_id = run->vm.host_id };
	int i;

	if (run->vm.host_id == 0 || !run->has_runtime ||
	    run->runtime.state == VM_STATE_STOPPED)
		return placement_choose(
		    &need, hosts, (size_t)n, &run->host_id, err);
	for (i = 0; i < n; i++)
		if (hosts[i].host_id == run->vm.host_id &&
		    hosts[i].state == HOST_RUNNING)
			break;
	if (i == n)
		return err_set(err, ERR_UNAVAILABLE,
		    "the node that holds VM %lld is not running; start "
		    "qvd-hkd there",
		    (long long)run->vm.id);
	run->host_id = run->vm.host_id;
	return 0;
}

static void
on_hosts(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;
	struct placement_host *hosts;
	struct err err = { 0 };
	int n = read_hosts(req, res, &hosts);

	if (choose_host(run, hosts, n, n > 0 ? db_i64(res, 0, "need_bytes") : 0,
		&err) < 0)
		respond_err(req, &err);
	else
		write_start(req);
}

/* The run that goes on. */
static void
join(struct request *req)
{
	struct run *run = req->data;

	req->epoch = run->vm.epoch;
	if (acquire_takes_back(&run->vm, false))
		write_wish(
		    req, &go_on_stmt, "vm.start-requested", on_start_written);
	else
		commit(req, on_start_commit);
}

static void
on_start_runtime(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;
	struct db_params p = { .n = 0 };

	run->has_runtime = db_rows(res) > 0;
	if (run->has_runtime &&
	    decode(req, res, vm_runtime_fields, &run->runtime) < 0)
		return;
	if (run->has_runtime && run->runtime.state == VM_STATE_ZOMBIE) {
		respond_fail(req, ERR_CONFLICT,
		    "something of the last run of VM %lld can't be removed "
		    "from its node; see 'qvd why vm %lld'",
		    (long long)req->id, (long long)req->id);
		return;
	}
	if (!acquire_run_is_over(
		&run->vm, run->has_runtime ? &run->runtime : NULL)) {
		join(req);
		return;
	}
	db_param_i64(&p, req->id);
	change_exec(req, &hosts_stmt, &p, on_hosts);
}

static void
on_locked(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;

	if (db_rows(res) == 0)
		respond_fail(req, ERR_NOT_FOUND, "there is no VM %lld",
		    (long long)req->id);
	else
		decode(req, res, vm_fields, &run->vm);
}

static bool
new_run(struct request *req)
{
	struct run *run = arena_new0(req->arena, struct run);

	if (run == NULL)
		return false;
	snprintf(run->by, sizeof(run->by), "administrator %s", req->actor);
	req->data = run;
	return true;
}

static void
on_start_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	/* The lock first: what is read next is true under it. */
	db_param_i64(&p, req->id);
	change_exec(req, &lock_stmt, &p, on_locked);
	if (!req->failed)
		change_exec(req, &runtime_stmt, &p, on_start_runtime);
}

void
vm_start(struct request *req)
{
	if (new_run(req))
		change_begin(req, on_start_begun);
}

/* Stop */

static void
on_stop_commit(struct request *req, const struct db_result *res)
{
	wait_or_answer(req, look_stop, STOP_WAIT_MS);
}

static void
on_stop_written(struct request *req, const struct db_result *res)
{
	commit(req, on_stop_commit);
}

static void
on_stop_locked(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;

	on_locked(req, res);
	if (req->failed)
		return;
	if (run->vm.desired == VM_DESIRED_STOPPED)
		commit(req, on_stop_commit);
	else
		write_wish(
		    req, &stop_stmt, "vm.stop-requested", on_stop_written);
}

static void
on_stop_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &lock_stmt, &p, on_stop_locked);
}

void
vm_stop(struct request *req)
{
	if (new_run(req))
		change_begin(req, on_stop_begun);
}

/* Suspend */

/* The node notes a failure in the row of the run that goes on; an earlier
 * one's reference is another. */
static bool
is_new_error(const struct request *req, const struct db_result *res)
{
	const struct run *run = req->data;
	const char *ref = db_str(res, 0, "error_ref");

	return ref != NULL && (run->runtime.error_ref == NULL ||
				  !str_eq(ref, run->runtime.error_ref));
}

static int
look_suspend(struct request *req, const struct db_result *res, char *text,
    size_t size, struct err *err)
{
	enum vm_state state = VM_STATE_STOPPED;
	const char *word = db_rows(res) > 0 ? db_str(res, 0, "state") : NULL;

	if (word == NULL)
		return err_set(
		    err, ERR_NOT_FOUND, "the VM was deleted meanwhile");
	vm_state_from_str(word, &state);
	if (db_i64(res, 0, "epoch") == db_i64(res, 0, "wanted") &&
	    state == VM_STATE_SUSPENDED)
		return 1;
	if (!str_eq(db_str(res, 0, "desired"), "suspended"))
		return err_set(err, ERR_CANCELLED,
		    "somebody %s the VM meanwhile",
		    str_eq(db_str(res, 0, "desired"), "stopped") ? "stopped"
								 : "started");
	if (db_i64(res, 0, "epoch") == db_i64(res, 0, "wanted") &&
	    (state == VM_STATE_STOPPED || is_new_error(req, res)))
		return run_failed(res, err);
	str_copy(text, size, word);
	return 0;
}

static void
on_suspend_commit(struct request *req, const struct db_result *res)
{
	wait_or_answer(req, look_suspend, SAVE_WAIT_MS);
}

static void
on_suspend_written(struct request *req, const struct db_result *res)
{
	commit(req, on_suspend_commit);
}

/* Whoever looks at it would wait for a machine that says nothing any more. */
static void
write_suspend(struct request *req)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	db_param_str(&p, req->actor);
	change_exec(req, &session_disconnect_stmt, &p, nothing);
	if (!req->failed)
		write_wish(req, &suspend_stmt, "vm.suspend-requested",
		    on_suspend_written);
}

static void
on_suspend_hypervisor(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;
	bool rests =
	    run->has_runtime && (run->runtime.state == VM_STATE_SUSPENDED ||
				    run->runtime.state == VM_STATE_SUSPENDING);

	if (db_rows(res) > 0 && !str_eq(db_str(res, 0, "hypervisor"), "kvm"))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld is a container: only virtual machines can be "
		    "suspended to disk (an idle container is hibernated: 'qvd "
		    "osf set OSF --idle-after')",
		    (long long)req->id);
	else if (rests && run->vm.desired == VM_DESIRED_SUSPENDED)
		commit(req, on_suspend_commit);
	else if (!rests && acquire_run_is_over(&run->vm,
			       run->has_runtime ? &run->runtime : NULL))
		respond_fail(req, ERR_CONFLICT,
		    "VM %lld isn't running, so there is nothing to be "
		    "suspended",
		    (long long)req->id);
	else
		write_suspend(req);
}

static void
on_suspend_runtime(struct request *req, const struct db_result *res)
{
	struct run *run = req->data;
	struct db_params p = { .n = 0 };

	run->has_runtime = db_rows(res) > 0;
	if (run->has_runtime &&
	    decode(req, res, vm_runtime_fields, &run->runtime) < 0)
		return;
	db_param_i64(&p, req->id);
	change_exec(req, &hypervisor_stmt, &p, on_suspend_hypervisor);
}

static void
on_suspend_begun(struct request *req, const struct db_result *res)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, req->id);
	change_exec(req, &lock_stmt, &p, on_locked);
	if (!req->failed)
		change_exec(req, &runtime_stmt, &p, on_suspend_runtime);
}

void
vm_suspend(struct request *req)
{
	if (new_run(req))
		change_begin(req, on_suspend_begun);
}
