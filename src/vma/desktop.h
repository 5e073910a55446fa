/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The X session's program (the desktop itself), and the orderly end of
 * everything that belongs to the session: program, agent, leftovers. VMA.
 */
#ifndef VMA_DESKTOP_H
#define VMA_DESKTOP_H

#include "vma/session.h"

/* Stages of the end, in order; each has a time limit. */
enum desktop_stage {
	DESKTOP_UP,
	DESKTOP_HANGS,  /* the agent does: no grace for it */
	DESKTOP_LOGOUT, /* the programs were told to end */
	DESKTOP_AGENT,  /* the agent was told */
	DESKTOP_KILLED,
};

/* Starts the program. A failure stops the session. */
void desktop_start(struct session *s);
/* Entered SESSION_STOPPING: begins the end. */
void desktop_stop(struct session *s);
/* Program or agent has ended: the next stage, or the event EXIT. */
void desktop_stop_next(struct session *s);
/* The agent has nothing left to do: a moment, then KILL. */
void desktop_hurry(struct session *s);
void desktop_kill(struct session *s);
void desktop_on_stop_timer(void *arg);

#endif
