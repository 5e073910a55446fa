/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What rpc.c (requests and answers) and rpc_wire.c (packets with
 * descriptors, in and out) share. Not for other folders.
 *
 * On the wire each packet is one JSON object:
 *	{"t": "ask", "id": N, "op": NAME, "args": {}}	with or without fd
 *	{"t": "tell", "op": NAME, "args": {}}		with or without fd
 *	{"t": "ok", "id": N, "result": {}}		with or without fd
 *	{"t": "fail", "id": N, "error": {"id", "message"}}
 *	{"t": "progress", "id": N, "info": {}}
 *	{"t": "cancel", "id": N}
 * Ids are chosen by the asker and only grow.
 */
#ifndef NET_RPC_PRIV_H
#define NET_RPC_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "net/rpc.h"

#define RPC_MESSAGE_MAX (256 * 1024)
#define RPC_QUEUE_MAX   (16 * 1024 * 1024)
#define RPC_CALLS_MAX   16384 /* open calls of one peer */

struct rpc {
	struct loop *loop;
	int fd;
	struct watch watch;
	const struct rpc_op *ops;
	rpc_closed_cb closed;
	void *arg;
	struct rpc_peer peer;
	struct list queue; /* struct packet: the peer doesn't read */
	size_t queued_bytes;
	struct map requests; /* id -> struct rpc_request, asked by us */
	uint64_t last_id;
	struct map calls;      /* id -> struct rpc_call, to be answered by us */
	struct list all_calls; /* also told and cancelled ones */
	bool cutting;          /* the end is near: nothing goes in or out */
	bool freed;
	struct err why;
};

/* Sends or queues; takes msg and fd. False: the message is longer than
 * RPC_MESSAGE_MAX and nothing was sent. A full queue cuts the rpc off. */
bool rpc_send(struct rpc *rpc, json_t *msg, int fd);
/* Ends the connection at the end of the turn; err says why. */
void rpc_cut(struct rpc *rpc, const struct err *err);
/* Reads what is there, calls rpc_dispatch() for each packet. */
void rpc_wire_event(int events, void *arg);
void rpc_wire_init(struct rpc *rpc, int fd);
void rpc_wire_done(struct rpc *rpc);
/* One packet; fd is the callee's. Negative: what came isn't the protocol. */
int rpc_dispatch(struct rpc *rpc, const json_t *msg, int fd, struct err *err);

#endif
