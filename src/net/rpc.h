/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests between our own processes on one machine: JSON objects over
 * SOCK_SEQPACKET unix sockets, each with at most one descriptor beside it
 * (SCM_RIGHTS). Both ends may ask. A message is at most 256 KiB. A request
 * has a name, arguments, any number of progress messages, and one answer: a
 * result or an error. The receiving end checks who asks (peer credentials)
 * and what it may ask (its table of operations): a broken peer gets an
 * error, never more than its table holds. A peer that sends what is not this
 * protocol is cut off.
 */
#ifndef NET_RPC_H
#define NET_RPC_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "loop/loop.h"

struct rpc;      /* one end of one connection */
struct rpc_call; /* a request that we are to answer */

/* args is borrowed for the duration of the call (incref to keep); fd (-1:
 * none) is the handler's. Answer now or later, exactly once. */
typedef void (*rpc_handler)(
    struct rpc_call *call, const json_t *args, int fd, void *arg);

struct rpc_op {
	const char *name; /* NULL ends the table */
	rpc_handler handler;
};

/* The other end went away, or was cut off (err says why). All open requests
 * have been answered with ERR_UNAVAILABLE before. Call rpc_free() then or
 * later. */
typedef void (*rpc_closed_cb)(
    struct rpc *rpc, const struct err *err, void *arg);

/* Takes fd (SEQPACKET, any blocking mode). */
struct rpc *rpc_new(struct loop *loop, int fd, const struct rpc_op *ops,
    rpc_closed_cb closed, void *arg);
/* Connects to a listening socket. */
struct rpc *rpc_connect(struct loop *loop, const char *path,
    const struct rpc_op *ops, rpc_closed_cb closed, void *arg, struct err *err);
/* Safe inside callbacks. Requests that we asked are forgotten without their
 * callbacks; calls that we were to answer see rpc_call_on_cancel(), and their
 * answers go nowhere. */
void rpc_free(struct rpc *rpc);
/* The connection is over: open requests are being, or have been, answered
 * for that reason alone. */
bool rpc_is_cut(const struct rpc *rpc);
void *rpc_arg(struct rpc *rpc);
struct rpc_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};
const struct rpc_peer *rpc_peer(const struct rpc *rpc);

/* Answering. result's reference is taken (NULL: {}); fd is taken, -1: none. */
void rpc_reply(struct rpc_call *call, json_t *result, int fd);
void rpc_fail(struct rpc_call *call, const struct err *err);
void rpc_progress(struct rpc_call *call, json_t *info); /* takes info */
/* NULL when that end has been freed. */
struct rpc *rpc_call_rpc(const struct rpc_call *call);
/* The asker cancelled or went away: cb is called at most once, and an answer
 * is still due (it goes nowhere). */
void rpc_call_on_cancel(
    struct rpc_call *call, void (*cb)(void *arg), void *arg);

/* Asking. args' reference is taken (NULL: {}); fd is taken. Exactly one of:
 * result != NULL (borrowed; fd is the callee's), or err. Never called before
 * rpc_ask() has returned. deadline_ms 0: none. */
typedef void (*rpc_result_cb)(
    const json_t *result, int fd, const struct err *err, void *arg);
typedef void (*rpc_progress_cb)(const json_t *info, void *arg);
struct rpc_request;
struct rpc_request *rpc_ask(struct rpc *rpc, const char *op, json_t *args,
    int fd, int64_t deadline_ms, rpc_result_cb cb, void *arg);
void rpc_request_on_progress(struct rpc_request *r, rpc_progress_cb cb);
/* The callback won't be called; the other end is told. */
void rpc_request_cancel(struct rpc_request *r);
/* A message without answer. */
void rpc_tell(struct rpc *rpc, const char *op, json_t *args, int fd);

/* A listening socket: mode and group as given, stale sockets replaced. */
struct rpc_listener;
typedef void (*rpc_accept_cb)(int fd, const struct rpc_peer *peer, void *arg);
struct rpc_listener *rpc_listen(struct loop *loop, const char *path,
    mode_t mode, gid_t gid, rpc_accept_cb cb, void *arg, struct err *err);
/* The same in two steps, for a socket that root makes and another role
 * serves. rpc_listen_fd takes fd. */
int rpc_listen_open(
    const char *path, mode_t mode, gid_t gid, int *ret_fd, struct err *err);
struct rpc_listener *rpc_listen_fd(
    struct loop *loop, int fd, rpc_accept_cb cb, void *arg);
void rpc_listener_free(struct rpc_listener *l);

/* A connected pair for parent and child; both close-on-exec. */
int rpc_pair(int ret_fds[2], struct err *err);

#endif
