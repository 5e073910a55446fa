/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client: commands, their answers, and the events between them. */
#include "hypervisor/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "json/json.h"

/* True when fd is ready for it before the deadline. */
static bool
wait_for(int fd, short what, int64_t until_ms)
{
	struct pollfd p = { .fd = fd, .events = what };
	int64_t left;
	int n;

	do {
		left = until_ms - time_now_ms();
		n = poll(&p, 1, left < 0 ? 0 : (int)left);
	} while (n < 0 && errno == EINTR);
	return n > 0;
}

static int
gone(struct err *err)
{
	return err_set(err, ERR_VM_LOST, "QEMU has ended");
}

/* The next message, whatever it is. */
static int
receive(
    struct qmp *q, int64_t until_ms, struct qmp_message *ret, struct err *err)
{
	char bytes[16384];
	ssize_t n;
	int r;

	while ((r = qmp_parser_next(&q->in, ret, err)) == 0) {
		if (!wait_for(q->fd, POLLIN, until_ms))
			return err_set(
			    err, ERR_TIMEOUT, "QEMU's monitor doesn't answer");
		n = recv(q->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return gone(err);
		if ((r = qmp_parser_feed(&q->in, bytes, (size_t)n, err)) < 0)
			return r;
	}
	return r < 0 ? r : 0;
}

static int
keep_event(struct qmp *q, struct qmp_message *msg, struct err *err)
{
	if (q->n_events == QMP_EVENTS_MAX) {
		qmp_message_done(msg);
		return err_set(
		    err, ERR_PROTOCOL, "QEMU's monitor floods us with events");
	}
	if (q->events == NULL)
		q->events = xcalloc(QMP_EVENTS_MAX, sizeof(*q->events));
	q->events[q->n_events++] = *msg;
	return 0;
}

/* The first n bytes, and with the first of them fd. */
static ssize_t
send_some(struct qmp *q, const char *text, size_t n, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text,
		.iov_len = n };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(q->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int
send_all(
    struct qmp *q, const char *text, int fd, int64_t until_ms, struct err *err)
{
	size_t len = strlen(text), done = 0;
	ssize_t n;

	while (done < len) {
		n = send_some(q, text + done, len - done, done == 0 ? fd : -1);
		if (n > 0)
			done += (size_t)n;
		else if (errno == EAGAIN && !wait_for(q->fd, POLLOUT, until_ms))
			return err_set(
			    err, ERR_TIMEOUT, "QEMU's monitor doesn't listen");
		else if (errno != EAGAIN && errno != EINTR)
			return gone(err);
	}
	return 0;
}

/* The answer to command `id`. */
static int
await_answer(struct qmp *q, int64_t id, const char *command, int64_t until_ms,
    json_t **ret, struct err *err)
{
	struct qmp_message msg;
	int r = 0;

	for (;;) {
		if ((r = receive(q, until_ms, &msg, err)) < 0)
			return err_wrap(err, r, "%s", command);
		if (msg.kind == QMP_EVENT) {
			if ((r = keep_event(q, &msg, err)) < 0)
				return r;
			continue;
		}
		if (msg.kind != QMP_GREETING && msg.id == id)
			break;
		/* To a command that we gave up. */
		qmp_message_done(&msg);
	}
	if (msg.kind == QMP_ERROR)
		r = err_set(
		    err, ERR_VM_LOST, "QEMU refuses %s: %s", command, msg.text);
	else if (ret != NULL)
		*ret = take_ptr(msg.data);
	qmp_message_done(&msg);
	return r;
}

int
qmp_run(struct qmp *q, const char *command, json_t *args, int fd,
    int timeout_ms, json_t **ret, struct err *err)
{
	int64_t until_ms = time_now_ms() + timeout_ms;
	_cleanup_(json_decrefp)
	json_t *ask = json_pack(
	    "{ss sI}", "execute", command, "id", (json_int_t)++q->last_id);
	_cleanup_(freep)
	char *text = NULL;
	int r;

	if (args != NULL)
		json_object_set_new(ask, "arguments", args);
	text = json_text(ask);
	if ((r = send_all(q, text, fd, until_ms, err)) < 0)
		return err_wrap(err, r, "%s", command);
	return await_answer(q, q->last_id, command, until_ms, ret, err);
}

/* Takes the first n events away. */
static void
drop_events(struct qmp *q, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		qmp_message_done(&q->events[i]);
	q->n_events -= n;
	if (q->n_events > 0)
		memmove(
		    q->events, q->events + n, q->n_events * sizeof(*q->events));
}

int
qmp_wait(struct qmp *q, const char *event, int timeout_ms, json_t **ret,
    struct err *err)
{
	int64_t until_ms = time_now_ms() + timeout_ms;
	struct qmp_message msg;
	size_t i;
	int r;

	for (;;) {
		for (i = 0; i < q->n_events; i++) {
			if (!str_eq(q->events[i].name, event))
				continue;
			if (ret != NULL)
				*ret = json_incref(q->events[i].data);
			drop_events(q, i + 1);
			return 0;
		}
		drop_events(q, q->n_events);
		if ((r = receive(q, until_ms, &msg, err)) < 0)
			return err_wrap(err, r, "wait for %s", event);
		if (msg.kind != QMP_EVENT)
			qmp_message_done(&msg);
		else if ((r = keep_event(q, &msg, err)) < 0)
			return r;
	}
}

static int
greet(struct qmp *q, int timeout_ms, struct err *err)
{
	int64_t until_ms = time_now_ms() + timeout_ms;
	struct qmp_message msg;
	bool right;
	int r;

	if ((r = receive(q, until_ms, &msg, err)) < 0)
		return r;
	right = msg.kind == QMP_GREETING;
	qmp_message_done(&msg);
	if (!right)
		return err_set(err, ERR_PROTOCOL,
		    "QEMU's monitor doesn't begin with a greeting");
	return qmp_run(q, "qmp_capabilities", NULL, -1, timeout_ms, NULL, err);
}

int
qmp_init(struct qmp *q, int fd, int timeout_ms, struct err *err)
{
	int r;

	*q = (struct qmp){ .fd = fd };
	qmp_parser_init(&q->in);
	if ((r = greet(q, timeout_ms, err)) < 0)
		qmp_done(q);
	return r;
}

int
qmp_open(struct qmp *q, const char *path, int timeout_ms, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), path))
		return err_set(
		    err, ERR_CONFIG, "'%s' is too long for a socket", path);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_errno(err, ERR_VM_LOST, errno,
		    "connect to QEMU's monitor %s", path);
	return qmp_init(q, take_fd(&fd), timeout_ms, err);
}

void
qmp_done(struct qmp *q)
{
	if (q->events != NULL)
		drop_events(q, q->n_events);
	free(q->events);
	qmp_parser_done(&q->in);
	closep(&q->fd);
	*q = (struct qmp){ .fd = -1 };
}
