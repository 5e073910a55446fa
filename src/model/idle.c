/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/idle.h"

int64_t
idle_due_ms(const struct idle_facts *f)
{
	int64_t due = f->session_since_ms + f->idle_after_ms;

	/* Only a suspended session is known to be idle: in a desktop without
	 * one something may have been started from outside. */
	if (f->idle_after_ms <= 0 || f->state != VM_STATE_RUNNING ||
	    f->session != SESSION_SUSPENDED)
		return -1;
	if (f->stream_ms != 0 && due < f->stream_ms + IDLE_STREAM_MS)
		due = f->stream_ms + IDLE_STREAM_MS;
	return due;
}
