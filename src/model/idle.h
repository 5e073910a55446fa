/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * When a desktop that nobody uses is put to sleep: its OSF has idle_after,
 * its session has been suspended for that long, and nobody is just coming
 * in. Pure; used by the house-keeper.
 */
#ifndef MODEL_IDLE_H
#define MODEL_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/states.h"

/*
 * Whoever was given a stream to the agent has this long to make use of it
 * (the session's next state ends the idleness). A desktop that were frozen
 * between the stream and the request on it would leave its user waiting.
 */
#define IDLE_STREAM_MS 10000

struct idle_facts {
	enum vm_state state;
	enum session_state session;
	int64_t session_since_ms; /* monotonic, as all here */
	int64_t stream_ms;        /* when the last one was given; 0: never */
	int64_t idle_after_ms;    /* 0: never */
};

/* When it is to be hibernated; -1: not as things are. A time that is past
 * means now. */
int64_t idle_due_ms(const struct idle_facts *f);

#endif
