/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one X session of the VM: its state (model/machine.h), the client who
 * wants it, its processes. A client's request is held until the agent
 * listens; a newer request (greater generation) beats an older one. Nothing
 * here is freed before the process ends but requests and tunnels. VMA.
 */
#ifndef VMA_SESSION_H
#define VMA_SESSION_H

#include "model/machine.h"
#include "net/tunnel.h"
#include "vma/agent.h"
#include "vma/hook.h"

/* Who waits for an answer: api.c. Each held request is answered once, by
 * one of these; then the session forgets it. */
struct session_client;
void session_client_info(struct session_client *client, const char *text);
void session_client_fail(struct session_client *client, const struct err *err);
void session_client_listening(
    struct session_client *client, bool resumed, json_t *phases);
void session_client_done(struct session_client *client);
/* To all who follow events; takes the object. */
void session_publish(struct vma *vma, json_t *event);

enum session_want { SESSION_WANT_SUSPEND, SESSION_WANT_STOP };

struct session_waiter {
	struct list link;
	enum session_want want;
	struct session_client *client;
};

/* Making everything ready for the agent: the chain of hooks, provisioner,
 * agent (prepare.c). */
struct prepare {
	bool running;
	bool again; /* a newer client came meanwhile: begin anew */
	bool resume;
	int step;
	bool user_unknown;
	bool user_added; /* by us or by the hook */
	struct hook *hook;
	struct task task;
	struct err task_error;
	json_t *phases;
	int64_t began_ms, step_began_ms;
};

struct session {
	struct vma *vma;
	enum session_state state;
	struct timer deadline;
	bool deadline_half;
	int64_t deadline_ms;
	int64_t since_ms;  /* when the state was entered */
	struct err reason; /* why it ended or failed last; may be unset */

	struct request *req; /* of the newest client; NULL: none ever */
	struct session_client *client; /* its held request, NULL: answered */
	struct list waiters;
	int64_t listens_for; /* generation whose options the agent has */
	bool restarted;      /* for this client the agent was started anew */
	bool hung;           /* the agent did, and was killed for it */
	bool over; /* the last one was ended by who may: no accident */
	bool drive_due;

	struct prepare prepare;
	struct user_account account;
	struct agent agent;
	bool resuming;
	bool had_display;    /* since the agent's start */
	struct task desktop; /* the X session's program */
	int64_t desktop_began_ms;
	char program[256]; /* of the desktop */
	struct tunnel *tunnel;
	struct task message; /* the one that is shown: notify.c */
	char *message_text;  /* the next one; NULL: none */

	int stop_stage;
	struct timer stop_timer;
	void (*stopped)(void *arg); /* one-time, for the orderly end */
	void *stopped_arg;
};

struct session *session_new(struct vma *vma);

/* Takes req. 0: client is held; it hears by the functions above. */
int session_request(struct session *s, struct request *req,
    struct session_client *client, struct err *err);
/* The client went away: it isn't answered any more. */
void session_forget(struct session *s, struct session_client *client);
/* 1: it is so already; 0: client is held. */
int session_wait(struct session *s, enum session_want want,
    struct session_client *client, struct err *err);
/* Connects to the listening agent for that generation. */
int session_stream(
    struct session *s, int64_t generation, int *ret_fd, struct err *err);
/* The client's side of that stream; takes both. */
void session_relay(struct session *s, struct io *client, struct io *agent);
/* Stops it if it runs; then stopped(arg). */
void session_end(struct session *s, void (*stopped)(void *arg), void *arg);

/* What hooks are told: user, params, session, generation, and hook = name. */
json_t *session_info(const struct session *s, const char *hook);
/* {"at", "session", "generation", "reason"} */
json_t *session_event(const struct session *s);

/* For prepare.c. */
void session_fire(struct session *s, enum session_event event);
void session_tell(struct session *s, const char *text);
/* Begins or goes on; the end is one of the two below. */
void prepare_begin(struct session *s, bool resume);
void prepare_cancel(struct session *s);
void session_prepared(struct session *s);
void session_prepare_failed(struct session *s, const struct err *err);
void prepare_phase(struct prepare *p, const char *name, int64_t now_ms);

#endif
