/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's side of an operation process. */
#include "hkd/op.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "hkd/op_forge.h"
#include "hkd/op_wire.h"
#include "json/json.h"
#include "loop/child.h"

struct op {
	struct loop *loop;
	struct op_forge *forge; /* NULL: the program was executed */
	struct child *child;
	struct watch watch;
	int sock;
	char *name;
	json_t *result; /* came before the process ended */
	int fd;
	bool stays; /* the process, for another operation */
	struct err err;
	op_done_cb done;
	op_progress_cb progress;
	void *arg;
};

static void
op_destroy(void *arg)
{
	struct op *op = arg;

	watch_done(&op->watch);
	closep(&op->sock);
	closep(&op->fd);
	json_decref(op->result);
	free(op->name);
	free(op);
}

static void
take_message(struct op *op, json_t *msg, int fd)
{
	json_t *v;

	if ((v = json_object_get(msg, "progress")) != NULL) {
		if (op->progress != NULL && op->done != NULL)
			op->progress(v, op->arg);
		closep(&fd);
		return;
	}
	if (op->result != NULL || err_is_set(&op->err)) {
		closep(&fd);
		return; /* one answer is enough */
	}
	if ((v = json_object_get(msg, "result")) != NULL) {
		op->result = json_incref(v);
		op->fd = fd;
		op->stays =
		    op->forge != NULL && json_get_bool(msg, "stay", false);
		return;
	}
	closep(&fd);
	json_to_err(msg, &op->err);
}

/* False at the end of what there is. */
static bool
read_message(struct op *op)
{
	json_t *msg = NULL;
	int fd = -1, r;

	r = op_wire_recv(op->sock, MSG_DONTWAIT, &msg, &fd, NULL);
	if (r <= 0)
		return false;
	take_message(op, msg, fd);
	json_decref(msg);
	return true;
}

static void
finish(struct op *op)
{
	op->child = NULL;
	if (op->done == NULL)
		;
	else if (op->result != NULL)
		op->done(op->result, take_fd(&op->fd), NULL, op->arg);
	else
		op->done(NULL, -1, &op->err, op->arg);
	loop_defer(op->loop, op_destroy, op);
}

static void
on_readable(int events, void *arg)
{
	struct op *op = arg;

	while (!op->stays && read_message(op))
		;
	if (op->stays) {
		watch_done(&op->watch);
		op_forge_keep(op->forge, op->child, take_fd(&op->sock));
		finish(op);
		return;
	}
	/* The end of the stream says nothing that the end of the process
	 * doesn't say better. */
	watch_set(&op->watch, 0);
	if (!op_wire_ended(op->sock))
		watch_set(&op->watch, WATCH_READ);
}

static void
on_exit_status(struct child *child, int status, bool timed_out, void *arg)
{
	struct op *op = arg;

	while (read_message(op))
		;
	/* An answer that came counts, however the process ended. */
	if (op->result == NULL && !err_is_set(&op->err) &&
	    child_status_err(op->name, status, timed_out, &op->err) == 0)
		err_set(&op->err, ERR_INTERNAL, "%s: ended without an answer",
		    op->name);
	finish(op);
}

static int
spawn(struct op *op, const struct op_spec *spec, int fd, struct err *err)
{
	const char *argv[] = { spec->program, NULL };
	struct child_spec child = {
		.path = spec->program,
		.argv = argv,
		.fds = { fd, spec->fd },
		.n_fds = 2,
		.deadline_ms = spec->deadline_ms,
		.parent_death_signal = SIGKILL,
	};

	op->child = child_spawn(op->loop, &child, on_exit_status, op, err);
	return op->child == NULL ? -(int)ERR_SYSTEM : 0;
}

static int
forge(struct op *op, const struct op_spec *spec, int fd, struct err *err)
{
	int pidfd, r;
	pid_t pid;

	if ((r = op_forge_fork(spec->forge, fd, spec->fd, &pid, &pidfd, err)) <
	    0)
		return r;
	op->child = child_adopt(
	    op->loop, pid, pidfd, spec->deadline_ms, on_exit_status, op);
	return 0;
}

/* By a process that has stayed. One that has just ended takes no request. */
static bool
reuse(struct op *op, const struct op_spec *spec)
{
	if (spec->forge == NULL)
		return false;
	while ((op->child = op_forge_kept(spec->forge, &op->sock)) != NULL) {
		if (op_wire_send(op->sock, spec->request, -1, NULL) == 0) {
			child_pass(
			    op->child, spec->deadline_ms, on_exit_status, op);
			return true;
		}
		child_free(op->child);
		closep(&op->sock);
		op->sock = -1;
	}
	return false;
}

/* By a process that is made for it. */
static int
make(struct op *op, const struct op_spec *spec, struct err *err)
{
	_cleanup_(closep)
	int theirs = -1;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socketpair");
	op->sock = fds[0];
	theirs = fds[1];
	/* Into the socket before the process is there to read it. */
	if ((r = op_wire_send(op->sock, spec->request, -1, err)) < 0)
		return r;
	return spec->forge != NULL ? forge(op, spec, theirs, err)
				   : spawn(op, spec, theirs, err);
}

struct op *
op_start(struct loop *loop, const struct op_spec *spec, struct err *err)
{
	struct op *op = new0(struct op);
	int r;

	op->loop = loop;
	op->forge = spec->forge;
	op->sock = op->fd = -1;
	op->name = xstrdup(spec->name);
	op->done = spec->done;
	op->progress = spec->progress;
	op->arg = spec->arg;
	r = reuse(op, spec) ? 0 : make(op, spec, err);
	json_decref(spec->request);
	if (r < 0) {
		op_destroy(op);
		return NULL;
	}
	watch_init(&op->watch, loop, op->sock, on_readable, op);
	watch_set(&op->watch, WATCH_READ);
	return op;
}

void
op_cancel(struct op *op)
{
	if (op->child != NULL)
		child_kill(op->child, SIGKILL);
}

void
op_free(struct op *op)
{
	if (op == NULL || op->child == NULL)
		return; /* in its callback: it frees itself */
	op->done = NULL;
	child_free(op->child);
	op_destroy(op);
}
