/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The state machines: one const table {from, event, to} each for a VM (its
 * node's HKD walks it) and for the X session in a VM (its VMA walks it). A
 * pair that is not in the table is refused with ERR_CONFLICT, which names
 * both. Every state in which somebody waits has a deadline; the owner turns
 * it into a timer and gives the event that the table names when it runs out.
 * Pure; every process may use it.
 */
#ifndef MODEL_MACHINE_H
#define MODEL_MACHINE_H

#include <stdint.h>

#include "base/err.h"
#include "model/states.h"

/* *ret is written only on success. */
int vm_state_next(enum vm_state from, enum vm_event event, enum vm_state *ret,
    struct err *err);
int session_state_next(enum session_state from, enum session_event event,
    enum session_state *ret, struct err *err);

/* How long a state may last, and the event that ends it. A resting state
 * (stopped, running; stopped, connected, suspended) has deadline 0. */
struct vm_deadline {
	int64_t deadline_ms;
	enum vm_event event;
};
struct session_deadline {
	int64_t deadline_ms;
	enum session_event event;
};
const struct vm_deadline *vm_state_deadline(enum vm_state state);
const struct session_deadline *session_state_deadline(enum session_state state);

/* Something of the VM may exist on its node. */
bool vm_state_is_alive(enum vm_state state);
/* An X server of that session exists. */
bool session_state_is_alive(enum session_state state);

#endif
