/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a VM's agent says of itself: one `GET /events` stream for as long as
 * the VM runs, and the request to power off. Every byte of it is hostile:
 * lines have a limit, words are checked, changes that come faster than one a
 * second are coalesced, and an agent that floods is left alone for a minute.
 * Embedded in struct vm. Role main.
 */
#ifndef HKD_AGENT_H
#define HKD_AGENT_H

#include "base/buf.h"
#include "loop/loop.h"
#include "model/states.h"
#include "net/http_client.h"
#include "net/rpc.h"

struct vm;

struct agent {
	struct vm *vm;
	struct rpc_request *request; /* for the channel */
	struct http_client *client;
	struct buf line;
	struct timer timer; /* the next attempt, or the next write */
	int64_t pause_ms;
	bool heard; /* its first line came on this stream */
	bool ends;  /* and its last: it powers off, in order */
	int lines;  /* in the second that began at */
	int64_t second_ms;
	enum session_state session; /* the newest that it said */
	int64_t said_ms;            /* when the last one was passed on */
};

void agent_init(struct agent *agent, struct vm *vm);
void agent_done(struct agent *agent);
/* Connects and listens; goes on trying until agent_close(). wait_ms: how
 * long the first attempt waits for the agent's socket. */
void agent_open(struct agent *agent, int64_t wait_ms);
void agent_close(struct agent *agent);
/* It said on its last stream that it was powering off. */
bool agent_ends(const struct agent *agent);
/* It listens, or goes on trying to. */
bool agent_is_open(const struct agent *agent);

struct agent_call;
/* POST target; body's reference is taken (NULL: none). cb: NULL, or why it was
 * not done. */
struct agent_call *agent_post(struct vm *vm, const char *target, json_t *body,
    int64_t timeout_ms, void (*cb)(const struct err *err, void *arg),
    void *arg);
/* Asks it to power off, in the same way. */
struct agent_call *agent_poweroff(
    struct vm *vm, void (*cb)(const struct err *err, void *arg), void *arg);
void agent_call_cancel(struct agent_call *call);

/* Called by agent.c, in vm.c: the agent said its first word; the session
 * changed; the first attempt failed. */
void vm_agent_ready(struct vm *vm);
void vm_agent_session(struct vm *vm, enum session_state session);
void vm_agent_failed(struct vm *vm, const struct err *err);

#endif
