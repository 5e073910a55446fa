/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * connect_to_vm: one transaction acquires the session and wishes the VM to
 * run; then the VM is waited for; then hkd.sock gives the way to its agent.
 * A client that vanishes meanwhile gives the session back; the start of its
 * VM goes on.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"
#include "model/placement.h"

#define KEY_LEN   64
#define REPEAT_MS 2000 /* of the wire's progress line, as the original */
#define HOSTS_MAX 1000

struct attempt {
	struct list link;
	struct broker *broker;
	struct worker_link *worker; /* valid while its call is: see on_cancel */
	uint64_t conn;
	struct rpc_call *call;
	struct login login;
	int64_t vm_id;
	char *address, *client;
	char key[KEY_LEN + 1];
	char key_hash[HASH_TEXT];
	bool resumes;
	struct vm_read vr;
	struct acquire_plan plan;
	int64_t host_id; /* where it runs */
	bool assigned;
	struct hold *hold;
	json_t *user, *properties;
	struct wait wait;
	struct hkd_ask ask;
	struct timer deadline, repeat;
	char step[200];
};

static void
attempt_free(struct attempt *a)
{
	struct broker *b = a->broker;

	list_del(&a->link);
	vm_read_end(&a->vr);
	wait_done(&a->wait);
	hkd_ask_done(&a->ask);
	db_forget(b->db, a);
	timer_done(&a->deadline);
	timer_done(&a->repeat);
	json_decref(a->user);
	json_decref(a->properties);
	explicit_bzero(a->key, sizeof(a->key));
	free(a->address);
	free(a->client);
	free(a);
}

static void
release(struct attempt *a)
{
	if (a->hold == NULL)
		return;
	a->hold->writing = false;
	hold_release(a->broker, take_ptr(a->hold));
}

static void
fail(struct attempt *a, struct failure *f)
{
	char text[ERR_MSG_MAX + 256];

	/* Elsewhere the user is the VM's own, and goes without saying. */
	if (f->err.code == ERR_FORBIDDEN)
		snprintf(text, sizeof(text), "user '%s@%s': %s", a->login.login,
		    a->login.tenant, f->err.msg);
	else
		str_copy(text, sizeof(text), f->err.msg);
	log_warn("VM %lld, user '%s@%s': %s (%s, ref %s)", (long long)a->vm_id,
	    a->login.login, a->login.tenant, f->err.msg, err_id(f->err.code),
	    f->ref);
	event_write(
	    a->broker, &(struct event){ .name = "session.failed",
			   .vm_id = f->err.code == ERR_NOT_FOUND ? 0 : a->vm_id,
			   .user_id = a->login.user_id,
			   .text = text,
			   .duration_ms = -1,
			   .failure = f });
	release(a);
	reply_failure(a->call, f);
	attempt_free(a);
}

static void
fail_err(struct attempt *a, const struct err *err)
{
	struct failure f;

	failure_from_err(&f, err);
	fail(a, &f);
}

/* A refusal that the protocol answers in its own words, with a status of its
 * own. */
static void
refuse(struct attempt *a, const struct err *err)
{
	struct failure f;

	failure_from_err(&f, err);
	if (err->code == ERR_NOT_FOUND || err->code == ERR_BLOCKED ||
	    err->code == ERR_AUTH || err->code == ERR_TAKEN_OVER)
		f.status = err_http_status(err->code);
	fail(a, &f);
}

void
attempt_evict(struct attempt *a)
{
	struct failure f;

	failure_set(&f, 0, ERR_TAKEN_OVER,
	    "Aborted by contending session VM VM_ID: %lld",
	    (long long)a->vm_id);
	fail(a, &f);
}

static void
on_cancel(void *arg)
{
	struct attempt *a = arg;

	log_info("VM %lld: the client of '%s@%s' left while connecting",
	    (long long)a->vm_id, a->login.login, a->login.tenant);
	if (a->hold != NULL)
		event_write(a->broker,
		    &(struct event){ .name = "session.disconnected",
			.vm_id = a->vm_id,
			.user_id = a->login.user_id,
			.text = "the client left while it was being connected",
			.duration_ms = -1 });
	release(a);
	reply_failure(a->call, &(struct failure){ 0 });
	attempt_free(a);
}

/* The way to the agent */

static void
on_channel(int fd, const struct err *err, void *arg)
{
	struct attempt *a = arg;
	struct err lost = { 0 };

	if (err != NULL) {
		if (err->code == ERR_NOT_FOUND)
			err_set(&lost, ERR_VM_LOST,
			    "VM %lld ended before it could be connected",
			    (long long)a->vm_id);
		fail_err(a, err_is_set(&lost) ? &lost : err);
		return;
	}
	rpc_reply(a->call,
	    json_pack("{s:I, s:s, s:O, s:O, s:I}", "generation",
		(json_int_t)a->plan.generation, "key", a->key, "user", a->user,
		"properties", a->properties, "session_ms",
		(json_int_t)a->broker->settings.session_ms),
	    fd);
	a->hold->attempt = NULL; /* it stays, until the worker says more */
	attempt_free(a);
}

/* Waiting for the VM */

static void
on_repeat(void *arg)
{
	struct attempt *a = arg;

	progress(a->call, "Waiting for VM to reach state 'running'%s%s",
	    a->step[0] != '\0' ? ": " : "", a->step);
	timer_start(&a->repeat, REPEAT_MS);
}

static void
on_deadline(void *arg)
{
	struct attempt *a = arg;
	struct err err = { 0 };

	err_set(&err, ERR_TIMEOUT,
	    "VM didn't reach state 'running'. Timeout%s%s",
	    a->step[0] != '\0' ? " while: " : "", a->step);
	fail_err(a, &err);
}

/* It ended badly; the node that saw it has said why, under its reference. */
static void
fail_run(struct attempt *a, const struct vm_runtime_row *row)
{
	struct failure f;

	failure_set(&f, 0, ERR_VM_START,
	    "Failed to start virtual machine %lld%s%s", (long long)a->vm_id,
	    row->error != NULL ? ": " : "",
	    row->error != NULL ? row->error : "");
	if (row->error_id != NULL && err_from_id(row->error_id) != ERR_INTERNAL)
		f.err.code = err_from_id(row->error_id);
	if (row->error_ref != NULL && strlen(row->error_ref) == REF_LEN)
		str_copy(f.ref, sizeof(f.ref), row->error_ref);
	fail(a, &f);
}

static void
running(struct attempt *a, const struct vm_runtime_row *row)
{
	struct err err = { 0 };

	wait_done(&a->wait);
	timer_stop(&a->deadline);
	timer_stop(&a->repeat);
	if (row->host_id != a->broker->host_id) {
		err_set(&err, ERR_UNAVAILABLE,
		    "VM %lld runs on another node; connect to that one",
		    (long long)a->vm_id);
		fail_err(a, &err);
		return;
	}
	hkd_channel(
	    &a->ask, a->broker->hkd, a->vm_id, a->plan.epoch, on_channel, a);
}

/* A machine that is just being suspended will go on from there. */
static bool
is_on_its_way(const struct vm_runtime_row *row)
{
	return row->state == VM_STATE_STARTING ||
	       row->state == VM_STATE_SUSPENDING ||
	       (row->state == VM_STATE_SUSPENDED && row->error == NULL);
}

/* A run that failed says why at once, while its node still cleans up; one
 * that stops without an error was stopped by somebody. */
static void
on_runtime(const struct vm_runtime_row *row, const struct err *err, void *arg)
{
	struct attempt *a = arg;
	struct err moved = { 0 };

	if (err != NULL) {
		fail_err(a, err);
	} else if (row == NULL || row->epoch < a->plan.epoch ||
		   is_on_its_way(row)) {
		const char *step = row == NULL || row->step == NULL ||
					   row->epoch < a->plan.epoch
				       ? ""
				       : row->step;

		if (!timer_active(&a->repeat) || !str_eq(step, a->step)) {
			str_copy(a->step, sizeof(a->step), step);
			on_repeat(a);
		}
	} else if (row->epoch > a->plan.epoch ||
		   (row->state == VM_STATE_STOPPING && row->error == NULL)) {
		err_set(&moved, ERR_VM_START,
		    "Unable to start VM %lld, state changed unexpectedly",
		    (long long)a->vm_id);
		fail_err(a, &moved);
	} else if (row->state == VM_STATE_RUNNING) {
		running(a, row);
	} else {
		fail_run(a, row);
	}
}

/* The transaction */

static void
on_acquired(struct vm_read *vr, const struct err *err)
{
	struct attempt *a = container_of(vr, struct attempt, vr);
	struct broker *b = a->broker;
	bool evict = a->plan.evict;

	if (err != NULL) { /* if it was committed, it is taken back */
		fail_err(a, err);
		return;
	}
	a->hold->writing = false;
	vm_read_end(vr);
	if (a->hold->outdated) {
		attempt_evict(a);
		return;
	}
	if (evict)
		progress(a->call, "Aborting contending session for VM_ID: %lld",
		    (long long)a->vm_id);
	sessions_evict(b, a->vm_id, a->plan.generation);
	progress(
	    a->call, "Session acquired for VM_ID: %lld", (long long)a->vm_id);
	if (a->assigned)
		progress(
		    a->call, "Assigning VM %lld to host", (long long)a->vm_id);
	if (a->plan.run == ACQUIRE_START) {
		progress(a->call, "Starting virtual machine");
		on_repeat(a); /* said even if it runs by the next look */
	}
	timer_start(&a->deadline, a->broker->settings.start_ms);
	wait_start(&a->wait, b, a->vm_id, on_runtime, a);
}

static void
on_written(struct vm_read *vr, const struct err *err)
{
	struct attempt *a = container_of(vr, struct attempt, vr);

	if (err != NULL) {
		fail_err(a, err);
		return;
	}
	/* Known before it is true, so that no comparison of the rows takes it
	 * for a leftover. */
	a->hold = hold_new(
	    a->worker, a->conn, a->vm_id, a->plan.generation, a->login.user_id);
	a->hold->writing = true;
	a->hold->attempt = a;
	vm_read_commit(vr, on_acquired);
}

static void
write_event(struct attempt *a, const char *name, const char *text)
{
	struct db_params p = { 0 };

	event_params(&p, a->broker,
	    &(struct event){ .name = name,
		.vm_id = a->vm_id,
		.user_id = a->login.user_id,
		.text = text,
		.duration_ms = -1 });
	vm_read_exec(&a->vr, &sql_event, &p, on_written);
}

static void
write_wish(struct attempt *a)
{
	bool start = a->plan.run == ACQUIRE_START;
	struct db_params p = { 0 };
	char by[160];

	snprintf(by, sizeof(by), "user %s@%s", a->login.login, a->login.tenant);
	db_param_i64(&p, a->vm_id);
	if (start) {
		db_param_i64(&p, a->plan.epoch);
		db_param_i64(&p, a->host_id);
	}
	db_param_str(&p, by);
	vm_read_exec(
	    &a->vr, start ? &sql_vm_start : &sql_vm_go_on, &p, on_written);
	write_event(a, "vm.start-requested", by);
	if (a->assigned)
		write_event(a, "vm.placed", "placed for its start");
}

static void
write_all(struct attempt *a)
{
	struct db_params p = { 0 };
	char text[300];

	a->assigned = a->plan.place && a->vr.vm.host_id != a->host_id;
	db_param_i64(&p, a->vm_id);
	db_param_i64(&p, a->plan.generation);
	db_param_i64(&p, a->broker->host_id);
	db_param_i64(&p, a->login.user_id);
	db_param_str(&p, a->address);
	db_param_str(&p, a->client);
	db_param_str(&p, a->key_hash);
	vm_read_exec(&a->vr, &sql_acquire, &p, on_written);
	if (a->plan.evict)
		write_event(a, "session.taken-over",
		    "another client opened the session");
	snprintf(text, sizeof(text), "from %s%s%s", a->address,
	    a->client[0] != '\0' ? ", " : "", a->client);
	write_event(a, "session.connecting", text);
	if (a->plan.run == ACQUIRE_START || a->plan.takes_back)
		write_wish(a);
}

static int
choose_host(struct attempt *a, const struct db_result *res, struct err *err)
{
	_cleanup_(freep)
	struct placement_host *hosts = NULL;
	struct placement_need need = {
		.vm_id = a->vm_id,
		.last_host_id = a->vr.vm.host_id,
	};
	int n = db_rows(res), i;
	int v;

	if (n > HOSTS_MAX)
		n = HOSTS_MAX;
	hosts = xcalloc((size_t)n + 1, sizeof(*hosts));
	for (i = 0; i < n; i++) {
		hosts[i].host_id = db_i64(res, i, "host_id");
		if (enum_from_str(
			&host_state_words, db_str(res, i, "state"), &v))
			hosts[i].state = (enum host_state)v;
		hosts[i].blocked = db_bool(res, i, "blocked");
		hosts[i].lease_ok = db_bool(res, i, "lease_ok");
		hosts[i].memory_bytes = db_i64(res, i, "memory_bytes");
		hosts[i].memory_used_bytes =
		    db_i64(res, i, "memory_used_bytes");
		hosts[i].cpus = (int32_t)db_i64(res, i, "cpus");
		hosts[i].vms = (int32_t)db_i64(res, i, "vms");
		need.memory_bytes = db_i64(res, i, "need_bytes");
	}
	return placement_choose(&need, hosts, (size_t)n, &a->host_id, err);
}

static void
on_hosts(const struct db_result *res, const struct err *err, void *arg)
{
	struct attempt *a = arg;
	struct err bad = { 0 };
	char why[ERR_MSG_MAX];

	if (err != NULL) {
		fail_err(a, err);
	} else if (choose_host(a, res, &bad) < 0) {
		str_copy(why, sizeof(why), bad.msg);
		err_set(&bad, bad.code,
		    "Unable to start VM %lld, can't assign to any host: %s",
		    (long long)a->vm_id, why);
		fail_err(a, &bad);
	} else {
		write_all(a);
	}
}

static void
on_properties(const struct db_result *res, const struct err *err, void *arg)
{
	struct attempt *a = arg;
	struct db_params p = { 0 };
	int i;

	if (err != NULL) {
		fail_err(a, err);
		return;
	}
	a->properties = json_object();
	json_object_set_new(
	    a->properties, "qvd.vm.user.name", json_string(a->vr.user.login));
	for (i = 0; i < db_rows(res); i++)
		json_object_set_new(a->properties, db_str(res, i, "key"),
		    json_string(db_str(res, i, "value")));
	a->host_id = a->vr.vm.host_id;
	if (!a->plan.place) {
		write_all(a);
		return;
	}
	db_param_i64(&p, a->vm_id);
	db_txn_exec(a->vr.txn, &sql_hosts, &p, on_hosts, a);
}

static void
on_locked(struct vm_read *vr, const struct err *err)
{
	struct attempt *a = container_of(vr, struct attempt, vr);
	struct db_params p = { 0 };
	struct err bad = { 0 };

	if (err != NULL) {
		refuse(a, err);
		return;
	}
	if (a->resumes)
		vr->in.resume_key_hash = a->key_hash;
	if (acquire_decide(&vr->in, &a->plan, &bad) < 0) {
		refuse(a, &bad);
		return;
	}
	a->user = json_pack("{s:s, s:i, s:s, s:[], s:s}", "name",
	    vr->user.login, "uid", vr->user.uid, "full_name",
	    vr->user.full_name != NULL ? vr->user.full_name : "", "groups",
	    "shell", "/bin/bash");
	db_param_i64(&p, a->vm_id);
	db_txn_exec(vr->txn, &sql_properties, &p, on_properties, a);
}

/*
 * A client that reconnects by itself keeps its key: if this attempt fails
 * half-way, it can still prove that the session is its own.
 */
static void
make_key(struct attempt *a, const char *resume)
{
	a->resumes = resume != NULL;
	if (a->resumes)
		str_copy(a->key, sizeof(a->key), resume);
	else
		str_random(a->key, KEY_LEN);
	hash_text(a->key_hash, a->key);
}

void
op_connect(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;
	const struct login *login;
	struct attempt *a;

	closep(&fd);
	if ((login = login_of(w, call, args)) == NULL)
		return;
	a = new0(struct attempt);
	a->broker = b;
	a->worker = w;
	a->conn = (uint64_t)json_get_int(args, "conn", 0);
	a->call = call;
	a->login = *login;
	a->vm_id = json_get_int(args, "vm_id", -1);
	a->address = xstrndup(json_get_str(args, "address", ""), 64);
	a->client = xstrndup(json_get_str(args, "client", ""), AGENT_BYTES_MAX);
	make_key(a, json_get_str(args, "resume", NULL));
	list_init(&a->link);
	list_add(&b->attempts, &a->link);
	timer_init(&a->deadline, b->loop, on_deadline, a);
	timer_init(&a->repeat, b->loop, on_repeat, a);
	rpc_call_on_cancel(call, on_cancel, a);
	vm_read_start(&a->vr, b, a->vm_id, login, on_locked);
}
