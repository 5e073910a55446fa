/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The decision that gives a user a session: joins, starts, refusals. */
#include "test.h"

#include <string.h>

#include "model/acquire.h"

struct world {
	struct tenant_row tenant;
	struct user_row user;
	struct vm_row vm;
	struct vm_runtime_row runtime;
	struct session_row session;
	struct acquire_in in;
	struct acquire_plan plan;
	struct err err;
};

/* A VM that runs on host 1, nobody connected. */
static void
world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->tenant = (struct tenant_row){ .id = 1, .name = "default" };
	w->user = (struct user_row){ .id = 7, .login = "alice" };
	w->vm = (struct vm_row){ .id = 3,
		.user_id = 7,
		.host_id = 1,
		.epoch = 5,
		.desired = VM_DESIRED_RUNNING };
	w->runtime = (struct vm_runtime_row){
		.vm_id = 3, .epoch = 5, .host_id = 1, .state = VM_STATE_RUNNING
	};
	w->session = (struct session_row){ .vm_id = 3,
		.generation = 9,
		.state = LINK_DISCONNECTED,
		.key_hash = "\\x0102" };
	w->in = (struct acquire_in){ .vm_id = 3,
		.user_id = 7,
		.vm = &w->vm,
		.runtime = &w->runtime,
		.session = &w->session,
		.user = &w->user,
		.tenant = &w->tenant,
		.host_name = "n1",
		.host_running = true };
}

static int
decide(struct world *w)
{
	return acquire_decide(&w->in, &w->plan, &w->err);
}

static void
test_join(void **state)
{
	struct world w;

	world_init(&w);
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_JOIN);
	assert_int_equal(w.plan.epoch, 5);
	assert_int_equal(w.plan.generation, 10);
	assert_false(w.plan.evict);

	/* A start under way, and one that its node hasn't seen yet. */
	w.runtime.state = VM_STATE_STARTING;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_JOIN);
	w.runtime.state = VM_STATE_STOPPED;
	w.runtime.epoch = 4;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_JOIN);
	w.in.runtime = NULL;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_JOIN);
}

static void
test_start(void **state)
{
	struct world w;

	/* Never ran, never connected. */
	world_init(&w);
	w.vm.epoch = 0;
	w.vm.desired = VM_DESIRED_STOPPED;
	w.vm.host_id = 0;
	w.in.runtime = NULL;
	w.in.session = NULL;
	w.in.host_running = false;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_true(w.plan.place);
	assert_int_equal(w.plan.epoch, 1);
	assert_int_equal(w.plan.generation, 1);

	/* Its run failed: desired is still running. */
	world_init(&w);
	w.runtime.state = VM_STATE_STOPPED;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_true(w.plan.place);
	assert_int_equal(w.plan.epoch, 6);

	/* It is being stopped: the next run, on the same node. */
	world_init(&w);
	w.vm.desired = VM_DESIRED_STOPPED;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_false(w.plan.place);
	w.runtime.state = VM_STATE_STOPPING;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_false(w.plan.place);
}

static void
test_suspended(void **state)
{
	struct world w;

	/* It goes on as a new run, where its memory is. */
	world_init(&w);
	w.vm.desired = VM_DESIRED_SUSPENDED;
	w.runtime.state = VM_STATE_SUSPENDED;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_int_equal(w.plan.epoch, 6);
	assert_false(w.plan.place);
	assert_false(w.plan.takes_back);
	w.runtime.state = VM_STATE_SUSPENDING;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_START);
	assert_false(w.plan.place);

	/* That node can't be another. */
	w.in.host_running = false;
	assert_int_equal(decide(&w), -ERR_UNAVAILABLE);

	/* It hasn't begun, and is not wanted any more. */
	world_init(&w);
	w.vm.desired = VM_DESIRED_SUSPENDED;
	assert_int_equal(decide(&w), 0);
	assert_int_equal(w.plan.run, ACQUIRE_JOIN);
	assert_int_equal(w.plan.epoch, 5);
	assert_true(w.plan.takes_back);

	/* A client that lost its link wakes nobody. */
	w.in.resume_key_hash = "\\x0102";
	assert_int_equal(decide(&w), -ERR_CONFLICT);
	assert_non_null(strstr(w.err.msg, "was suspended meanwhile"));
}

static void
test_refusals(void **state)
{
	struct world w;

	world_init(&w);
	w.in.vm = NULL;
	assert_int_equal(decide(&w), -ERR_NOT_FOUND);
	assert_string_equal(
	    w.err.msg, "The requested virtual machine does not exist");

	/* Blocked is said before whose it is, as the original does. */
	world_init(&w);
	w.vm.blocked = true;
	w.vm.user_id = 8;
	assert_int_equal(decide(&w), -ERR_BLOCKED);
	assert_string_equal(w.err.msg,
	    "The requested virtual machine is offline for maintenance");
	w.vm.blocked = false;
	assert_int_equal(decide(&w), -ERR_FORBIDDEN);
	assert_string_equal(w.err.msg,
	    "You are not allowed to access requested virtual machine");

	world_init(&w);
	w.user.blocked = true;
	assert_int_equal(decide(&w), -ERR_AUTH);
	world_init(&w);
	w.tenant.blocked = true;
	assert_int_equal(decide(&w), -ERR_AUTH);

	world_init(&w);
	w.runtime.state = VM_STATE_ZOMBIE;
	assert_int_equal(decide(&w), -ERR_UNAVAILABLE);

	world_init(&w);
	w.in.host_running = false;
	assert_int_equal(decide(&w), -ERR_UNAVAILABLE);
	assert_non_null(strstr(w.err.msg, "'n1'"));
}

static void
test_takeover(void **state)
{
	struct world w;

	world_init(&w);
	w.session.state = LINK_CONNECTED;
	assert_int_equal(decide(&w), 0);
	assert_true(w.plan.evict);
	assert_int_equal(w.plan.generation, 10);

	/* A reconnection with the key of the last holder, and with another. */
	w.in.resume_key_hash = "\\x0102";
	assert_int_equal(decide(&w), 0);
	/* It doesn't start what was stopped meanwhile. */
	w.vm.desired = VM_DESIRED_STOPPED;
	assert_int_equal(decide(&w), -ERR_CONFLICT);
	w.vm.desired = VM_DESIRED_RUNNING;
	w.in.resume_key_hash = "\\x0103";
	assert_int_equal(decide(&w), -ERR_TAKEN_OVER);
	w.in.session = NULL;
	assert_int_equal(decide(&w), -ERR_TAKEN_OVER);
}

static void
test_stop(void **state)
{
	enum stop_plan plan;
	struct world w;

	world_init(&w);
	assert_int_equal(stop_decide(&w.in, &plan, &w.err), 0);
	assert_int_equal(plan, STOP_WRITE);
	w.vm.blocked = true;
	assert_int_equal(stop_decide(&w.in, &plan, &w.err), 0);
	w.vm.desired = VM_DESIRED_STOPPED;
	assert_int_equal(stop_decide(&w.in, &plan, &w.err), 0);
	assert_int_equal(plan, STOP_NOTHING);
	w.vm.user_id = 8;
	assert_int_equal(stop_decide(&w.in, &plan, &w.err), -ERR_FORBIDDEN);
	world_init(&w);
	w.runtime.state = VM_STATE_ZOMBIE;
	assert_int_equal(stop_decide(&w.in, &plan, &w.err), -ERR_UNAVAILABLE);
	assert_string_equal(w.err.msg, "The requested virtual machine is in "
				       "an unstoppable state (zombie)");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_suspended),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_takeover),
		cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
