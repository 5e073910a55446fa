/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/machine.h"

#include "base/mem.h"

static const struct {
	enum vm_state from;
	enum vm_event event;
	enum vm_state to;
} vm_table[] = {
#define T(from, event, to)                                       \
	{                                                        \
		VM_STATE_##from, VM_EVENT_##event, VM_STATE_##to \
	}
	T(STOPPED, START, STARTING),
	/* Its row was lost or its writer died before it could say so. */
	T(STOPPED, ADOPT, RUNNING),

	T(STARTING, READY, RUNNING),
	T(STARTING, STOP, STOPPING),
	T(STARTING, FAIL, STOPPING),
	T(STARTING, EXIT, STOPPING),
	/* The daemon was restarted while the VMA came up. */
	T(STARTING, ADOPT, STARTING),

	T(RUNNING, STOP, STOPPING),
	T(RUNNING, FAIL, STOPPING),
	T(RUNNING, EXIT, STOPPING),
	T(RUNNING, ADOPT, RUNNING),
	T(RUNNING, SUSPEND, SUSPENDING),

	T(SUSPENDING, SAVED, SUSPENDED),
	/* It couldn't be saved and goes on. */
	T(SUSPENDING, FAIL, RUNNING),
	T(SUSPENDING, EXIT, STOPPING),
	/* Cut short, so it begins anew. */
	T(SUSPENDING, ADOPT, RUNNING),

	T(SUSPENDED, START, STARTING),
	T(SUSPENDED, STOP, STOPPING),
	/* What was saved is not there any more. */
	T(SUSPENDED, EXIT, STOPPING),
	T(SUSPENDED, ADOPT, RUNNING),

	T(STOPPING, EXIT, STOPPING),
	T(STOPPING, FAIL, STOPPING),
	T(STOPPING, ADOPT, STOPPING),
	T(STOPPING, CLEAN, STOPPED),
	T(STOPPING, STUCK, ZOMBIE),
	/* It couldn't go on from its memory, which is there as before. */
	T(STOPPING, SAVED, SUSPENDED),

	T(ZOMBIE, EXIT, ZOMBIE),
	T(ZOMBIE, STUCK, ZOMBIE),
	T(ZOMBIE, ADOPT, ZOMBIE),
	T(ZOMBIE, CLEAN, STOPPED),
#undef T
};

static const struct {
	enum session_state from;
	enum session_event event;
	enum session_state to;
} session_table[] = {
#define T(from, event, to)                                          \
	{                                                           \
		SESSION_##from, SESSION_EVENT_##event, SESSION_##to \
	}
	T(STOPPED, START, STARTING),

	T(STARTING, LISTEN, LISTENING),
	/* The agent gave up a resume and is as it was. */
	T(STARTING, SUSPENDED, SUSPENDED),
	T(STARTING, STOP, STOPPING),
	T(STARTING, EXIT, STOPPED),

	T(LISTENING, CONNECT, CONNECTED),
	/* The client for whom it listens was replaced or went away. */
	T(LISTENING, SUSPEND, SUSPENDING),
	T(LISTENING, SUSPENDED, SUSPENDED),
	T(LISTENING, STOP, STOPPING),
	T(LISTENING, EXIT, STOPPED),

	T(CONNECTED, SUSPEND, SUSPENDING),
	T(CONNECTED, SUSPENDED, SUSPENDED),
	T(CONNECTED, STOP, STOPPING),
	T(CONNECTED, EXIT, STOPPED),

	T(SUSPENDING, SUSPENDED, SUSPENDED),
	T(SUSPENDING, STOP, STOPPING),
	T(SUSPENDING, EXIT, STOPPED),

	T(SUSPENDED, RESUME, STARTING),
	T(SUSPENDED, STOP, STOPPING),
	T(SUSPENDED, EXIT, STOPPED),

	/* TERM makes an agent suspend first if it had a display. */
	T(STOPPING, SUSPENDED, STOPPING),
	T(STOPPING, STOP, STOPPING),
	T(STOPPING, EXIT, STOPPED),
#undef T
};

/* A start includes the checkout of an image and a cold boot. */
static const struct vm_deadline vm_deadlines[VM_STATE_COUNT_] = {
	[VM_STATE_STARTING] = { 180 * 1000, VM_EVENT_FAIL },
	[VM_STATE_STOPPING] = { 90 * 1000, VM_EVENT_STUCK },
	/* Longer than the helper may take to save it. */
	[VM_STATE_SUSPENDING] = { 420 * 1000, VM_EVENT_FAIL },
	/* Cleaning is tried again. */
	[VM_STATE_ZOMBIE] = { 60 * 1000, VM_EVENT_STUCK },
};

static const struct session_deadline session_deadlines[SESSION_COUNT_] = {
	[SESSION_STARTING] = { 60 * 1000, SESSION_EVENT_STOP },
	[SESSION_LISTENING] = { 30 * 1000, SESSION_EVENT_STOP },
	[SESSION_SUSPENDING] = { 10 * 1000, SESSION_EVENT_STOP },
	[SESSION_STOPPING] = { 10 * 1000, SESSION_EVENT_STOP },
};

int
vm_state_next(enum vm_state from, enum vm_event event, enum vm_state *ret,
    struct err *err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vm_table); i++) {
		if (vm_table[i].from == from && vm_table[i].event == event) {
			*ret = vm_table[i].to;
			return 0;
		}
	}
	return err_set(err, ERR_CONFLICT,
	    "a VM in state '%s' can't take the event '%s'",
	    vm_state_to_str(from), vm_event_to_str(event));
}

int
session_state_next(enum session_state from, enum session_event event,
    enum session_state *ret, struct err *err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(session_table); i++) {
		if (session_table[i].from == from &&
		    session_table[i].event == event) {
			*ret = session_table[i].to;
			return 0;
		}
	}
	return err_set(err, ERR_CONFLICT,
	    "a session in state '%s' can't take the event '%s'",
	    session_state_to_str(from), session_event_to_str(event));
}

const struct vm_deadline *
vm_state_deadline(enum vm_state state)
{
	return &vm_deadlines[state];
}

const struct session_deadline *
session_state_deadline(enum session_state state)
{
	return &session_deadlines[state];
}

bool
vm_state_is_alive(enum vm_state state)
{
	return state != VM_STATE_STOPPED;
}

bool
session_state_is_alive(enum session_state state)
{
	return state != SESSION_STOPPED;
}
