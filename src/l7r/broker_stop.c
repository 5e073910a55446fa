/* SPDX-License-Identifier: GPL-3.0-or-later */
/* stop_vm: wishes the VM to stop, and waits until its node says that it has. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define REPEAT_MS 2000

struct stop_op {
	struct list link;
	struct broker *broker;
	struct rpc_call *call;
	struct login login;
	int64_t vm_id;
	int64_t epoch; /* the run that is to end */
	struct vm_read vr;
	struct wait wait;
	struct timer deadline, repeat;
};

static void
stop_free(struct stop_op *op)
{
	list_del(&op->link);
	vm_read_end(&op->vr);
	wait_done(&op->wait);
	timer_done(&op->deadline);
	timer_done(&op->repeat);
	free(op);
}

static void
fail(struct stop_op *op, int status, const struct err *err)
{
	struct failure f;

	failure_from_err(&f, err);
	f.status = status;
	log_warn("stop VM %lld for '%s@%s': %s (%s, ref %s)",
	    (long long)op->vm_id, op->login.login, op->login.tenant, err->msg,
	    err_id(err->code), f.ref);
	reply_failure(op->call, &f);
	stop_free(op);
}

static void
on_cancel(void *arg)
{
	struct stop_op *op = arg;

	reply_failure(op->call, &(struct failure){ 0 });
	stop_free(op);
}

static void
on_repeat(void *arg)
{
	struct stop_op *op = arg;

	progress(op->call, "Waiting for VM to reach state 'stopped'");
	timer_start(&op->repeat, REPEAT_MS);
}

static void
on_deadline(void *arg)
{
	struct stop_op *op = arg;
	struct err err = { 0 };

	err_set(&err, ERR_TIMEOUT,
	    "VM %lld didn't reach state 'stopped'. Timeout",
	    (long long)op->vm_id);
	fail(op, 408, &err);
}

static void
on_runtime(const struct vm_runtime_row *row, const struct err *err, void *arg)
{
	struct stop_op *op = arg;
	struct err stuck = { 0 };

	if (err != NULL) {
		fail(op, 0, err);
	} else if (row != NULL && row->state == VM_STATE_ZOMBIE) {
		err_set(&stuck, ERR_UNAVAILABLE,
		    "The requested virtual machine is in an unstoppable state "
		    "(%s)",
		    vm_state_to_str(row->state));
		fail(op, 503, &stuck);
	} else if (row == NULL || row->state == VM_STATE_STOPPED ||
		   row->epoch > op->epoch) {
		/* A node that had read the wish to run before ours sees that
		 * the row has changed, and starts nothing. */
		rpc_reply(op->call, NULL, -1);
		stop_free(op);
	} else if (!timer_active(&op->repeat)) {
		on_repeat(op);
	}
}

static void
wait_for_it(struct stop_op *op)
{
	timer_start(&op->deadline, op->broker->settings.stop_ms);
	wait_start(&op->wait, op->broker, op->vm_id, on_runtime, op);
}

static void
on_committed(struct vm_read *vr, const struct err *err)
{
	struct stop_op *op = container_of(vr, struct stop_op, vr);

	if (err != NULL) {
		fail(op, 0, err);
		return;
	}
	vm_read_end(vr);
	wait_for_it(op);
}

static void
on_written(struct vm_read *vr, const struct err *err)
{
	struct stop_op *op = container_of(vr, struct stop_op, vr);

	if (err != NULL)
		fail(op, 0, err);
	else
		vm_read_commit(vr, on_committed);
}

static void
write_stop(struct stop_op *op)
{
	struct db_params stop = { 0 }, event = { 0 };
	char by[160];

	snprintf(
	    by, sizeof(by), "user %s@%s", op->login.login, op->login.tenant);
	db_param_i64(&stop, op->vm_id);
	db_param_str(&stop, by);
	vm_read_exec(&op->vr, &sql_vm_stop, &stop, on_written);
	event_params(&event, op->broker,
	    &(struct event){ .name = "vm.stop-requested",
		.vm_id = op->vm_id,
		.user_id = op->login.user_id,
		.text = by,
		.duration_ms = -1 });
	vm_read_exec(&op->vr, &sql_event, &event, on_written);
}

static void
on_locked(struct vm_read *vr, const struct err *err)
{
	struct stop_op *op = container_of(vr, struct stop_op, vr);
	enum stop_plan plan;
	struct err bad = { 0 };

	if (err != NULL) {
		fail(op, 0, err);
		return;
	}
	if (stop_decide(&vr->in, &plan, &bad) < 0) {
		fail(op, 0, &bad);
		return;
	}
	op->epoch = vr->vm.epoch;
	if (plan == STOP_WRITE) {
		write_stop(op);
		return;
	}
	vm_read_end(vr);
	wait_for_it(op);
}

void
op_stop(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct worker_link *w = arg;
	struct broker *b = w->broker;
	const struct login *login;
	struct stop_op *op;

	closep(&fd);
	if ((login = login_of(w, call, args)) == NULL)
		return;
	op = new0(struct stop_op);
	op->broker = b;
	op->call = call;
	op->login = *login;
	op->vm_id = json_get_int(args, "vm_id", -1);
	list_init(&op->link);
	list_add(&b->stops, &op->link);
	timer_init(&op->deadline, b->loop, on_deadline, op);
	timer_init(&op->repeat, b->loop, on_repeat, op);
	rpc_call_on_cancel(call, on_cancel, op);
	vm_read_start(&op->vr, b, op->vm_id, login, on_locked);
}
