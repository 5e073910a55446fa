/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a line of nxagent's output means (nx-libs 3.5.99): the events of its
 * session, by how their lines begin. Pure; owns nothing. The agent (qvd-vma).
 */
#ifndef VMA_AGENT_LINE_H
#define VMA_AGENT_LINE_H

#include "base/enum.h"

/* Event of the session, and how the line that says so begins. "started" and
 * "resumed" come when a display is connected. */
#define AGENT_LINE_TABLE(X)                                     \
	X(STARTING, "Session: Starting session at")             \
	X(LISTENING, "Info: Waiting for connection from")       \
	X(ACCEPTED, "Info: Accepted connection from")           \
	X(STARTED, "Session: Session started at")               \
	X(RESUMING, "Session: Resuming session at")             \
	X(RESUMED, "Session: Session resumed at")               \
	X(SUSPENDING, "Session: Suspending session at")         \
	X(SUSPENDED, "Session: Session suspended at")           \
	X(DISPLAY_LOST, "Session: Display failure detected at") \
	X(TERMINATING, "Session: Terminating session at")       \
	X(TERMINATED, "Session: Session terminated at")         \
	X(ABORTING, "Session: Aborting session at")             \
	X(ABORTED, "Session: Session aborted at")               \
	X(TROUBLE, "Error:")                                    \
	X(TROUBLE_X, "Fatal server error")                      \
	X(TROUBLE_ERR, "(EE)")                                  \
	X(TROUBLE_AGENT, "nxagent:")                            \
	X(TROUBLE_LIB, "/usr/bin/nxagent:")                     \
	X(OTHER, "")

#define X(name, word) AGENT_LINE_##name,
enum agent_line { AGENT_LINE_TABLE(X) AGENT_LINE_COUNT_ };
#undef X
ENUM_FUNCTIONS(agent_line);

enum agent_line agent_line_parse(const char *line);
/* Worth quoting when the agent has failed. */
bool agent_line_is_trouble(enum agent_line kind);

#endif
