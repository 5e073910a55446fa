/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The helper's side of the forge. */
#include "hkd/op_forge.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "hkd/op_wire.h"
#include "json/json.h"
#include "loop/child.h"

#define ANSWER_S 20    /* for a fork, on a node that is out of breath */
#define KEEP_MS  10000 /* a process that nobody needs */
#define END_MS   2000  /* for such a one to go by itself */

/* A process between two operations. */
struct kept {
	struct op_forge *forge;
	struct list link;
	struct child *child;
	struct timer timer;
	int sock; /* -1: it is let go */
};

struct op_forge {
	struct loop *loop;
	struct list kept; /* the last one used first, those let go last */
	char *program;
	struct child *child; /* NULL: it doesn't run */
	int sock;
};

struct op_forge *
op_forge_new(struct loop *loop, const char *program)
{
	struct op_forge *forge = new0(struct op_forge);

	forge->loop = loop;
	list_init(&forge->kept);
	forge->program = xstrdup(program);
	forge->sock = -1;
	return forge;
}

/* The next operation gets another one. */
static void
forget(struct op_forge *forge)
{
	child_free(forge->child);
	forge->child = NULL;
	closep(&forge->sock);
	forge->sock = -1;
}

static void
kept_destroy(struct kept *k)
{
	list_del(&k->link);
	timer_done(&k->timer);
	closep(&k->sock);
	free(k);
}

/* Let go, or killed by somebody: it had nothing to do. */
static void
on_kept_ended(struct child *child, int status, bool timed_out, void *arg)
{
	kept_destroy(arg);
}

/* It sees the end of its socket. */
static void
let_go(void *arg)
{
	struct kept *k = arg;

	closep(&k->sock);
	k->sock = -1;
	list_move(&k->forge->kept, &k->link);
	child_pass(k->child, END_MS, on_kept_ended, k);
}

void
op_forge_keep(struct op_forge *forge, struct child *child, int sock)
{
	struct kept *k = new0(struct kept);

	k->forge = forge;
	k->child = child;
	k->sock = sock;
	timer_init(&k->timer, forge->loop, let_go, k);
	timer_start(&k->timer, KEEP_MS);
	child_pass(child, 0, on_kept_ended, k);
	list_init(&k->link);
	list_add(forge->kept.next, &k->link); /* before the first */
}

struct child *
op_forge_kept(struct op_forge *forge, int *ret_sock)
{
	struct kept *k = list_first(&forge->kept, struct kept, link);
	struct child *child;

	if (k == NULL || k->sock < 0)
		return NULL;
	child = k->child;
	*ret_sock = take_fd(&k->sock);
	kept_destroy(k);
	return child;
}

void
op_forge_free(struct op_forge *forge)
{
	struct kept *k;

	if (forge == NULL)
		return;
	LIST_EACH (&forge->kept, k, struct kept, link) {
		child_free(k->child);
		kept_destroy(k);
	}
	forget(forge);
	free(forge->program);
	free(forge);
}

static void
on_ended(struct child *child, int status, bool timed_out, void *arg)
{
	struct op_forge *forge = arg;
	struct err err = { 0 };

	if (child_status_err(
		"the forge of operations", status, timed_out, &err) < 0)
		log_err(LOG_LEVEL_WARN, &err, "helper");
	forge->child = NULL;
	closep(&forge->sock);
	forge->sock = -1;
}

static int
start(struct op_forge *forge, int fd, struct err *err)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	const char *argv[] = { forge->program, NULL };
	struct child_spec spec = {
		.path = forge->program,
		.argv = argv,
		.fds = { -1, fd },
		.n_fds = 2,
		.parent_death_signal = SIGKILL,
	};
	_cleanup_(closep)
	int ours = -1;
	_cleanup_(closep)
	int theirs = -1;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socketpair");
	ours = fds[0];
	theirs = spec.fds[0] = fds[1];
	if (setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) <
		0 ||
	    setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) <
		0)
		return err_errno(err, ERR_SYSTEM, errno, "setsockopt");
	forge->child = child_spawn(forge->loop, &spec, on_ended, forge, err);
	if (forge->child == NULL)
		return -(int)ERR_SYSTEM;
	forge->sock = take_fd(&ours);
	return 0;
}

/* 1: it answered; 0: it is gone, or too slow. */
static int
ask(struct op_forge *forge, int sock, json_t **ret, int *ret_pidfd,
    struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *wanted = json_object();

	if (op_wire_send(forge->sock, wanted, sock, NULL) < 0)
		return 0;
	return op_wire_recv(forge->sock, 0, ret, ret_pidfd, err);
}

static int
take_answer(const struct op_forge *forge, const json_t *answer, pid_t *ret_pid,
    int *pidfd, struct err *err)
{
	*ret_pid = (pid_t)json_get_int(answer, "pid", 0);
	if (*ret_pid > 0 && *pidfd >= 0)
		return 0;
	closep(pidfd);
	return err_errno(err, ERR_SYSTEM,
	    (int)json_get_int(answer, "errno", EPROTO), "fork '%s'",
	    forge->program);
}

int
op_forge_fork(struct op_forge *forge, int sock, int fd, pid_t *ret_pid,
    int *ret_pidfd, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	bool fresh;
	int r = 0;

	*ret_pidfd = -1;
	/* One that was there may have ended without our having seen it. */
	do {
		fresh = forge->child == NULL;
		if (fresh && (r = start(forge, fd, err)) < 0)
			return r;
		r = ask(forge, sock, &answer, ret_pidfd, err);
		if (r <= 0)
			forget(forge);
	} while (r == 0 && !fresh);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_SYSTEM,
		    "the process that '%s' is forked from doesn't answer",
		    forge->program);
	return take_answer(forge, answer, ret_pid, ret_pidfd, err);
}
