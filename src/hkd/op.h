/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One operation at a time in a process of its own: the helper starts
 * qvd-hkd-image, or has qvd-hkd-vm forked (op_forge.h), with a SOCK_SEQPACKET
 * pair on descriptor 0, sends one JSON request, and gets any number of
 * {"progress": {}} and one {"result": {}} (with at most one descriptor) or
 * {"error": {}}. A process that says {"stay": true} with its result is kept for
 * another operation; any other ends. An operation has a deadline and is killed
 * with its group; what has left the group on purpose (a container's monitor)
 * stays. Upper half: the helper's side, on its loop. Lower half: the process's
 * side, blocking.
 */
#ifndef HKD_OP_H
#define HKD_OP_H

#include <jansson.h>

#include "base/err.h"
#include "loop/loop.h"

#define OP_MESSAGE_MAX (192 * 1024)

struct op;
struct op_forge;

/* Exactly one of: result (borrowed; fd is the callee's, -1: none) or err.
 * The op is freed after the callback. */
typedef void (*op_done_cb)(
    const json_t *result, int fd, const struct err *err, void *arg);
typedef void (*op_progress_cb)(const json_t *info, void *arg);

struct op_spec {
	const char *program; /* absolute path, unless there is a forge */
	struct op_forge *forge;
	const char *name; /* for error sentences: "vm.start" */
	json_t *request;  /* taken, also on failure */
	int fd;           /* becomes the process's 1; -1: /dev/null */
	int64_t deadline_ms;
	op_done_cb done;
	op_progress_cb progress; /* may be NULL */
	void *arg;
};

/* NULL with *err filled: the callback won't be called. */
struct op *op_start(
    struct loop *loop, const struct op_spec *spec, struct err *err);
/* Kills the process; its end comes as an error through the callback. */
void op_cancel(struct op *op);
/* Kills the process; no callback. */
void op_free(struct op *op);

/* In the process. The request; ends the process when the helper is gone. */
json_t *op_recv(struct err *err);
/* Waits for another one; false: there won't be any. */
bool op_wait(void);
void op_send_progress(int percent, const char *text);
/* Take result; the descriptor stays the caller's. Return an exit status. */
int op_send_result(json_t *result, int fd);
/* The same of a process that is as it was before its request, and so may get
 * another one. Returns OP_STAY if it is to wait for that. */
#define OP_STAY 256 /* no exit status */
int op_send_result_and_stay(json_t *result, int fd);
int op_send_error(const struct err *err);

#endif
