/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Packets with descriptors, in and out, and the sockets that carry them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "json/json.h"
#include "net/rpc_priv.h"

#define PACKETS_A_TURN 64
/* The kernel passes at most this many in one packet (SCM_MAX_FD): room for
 * all of them, so that those that nobody asked for can be closed. */
#define FDS_MAX 253

struct packet {
	struct list link;
	char *text;
	size_t len;
	int fd;
};

/* One thread a process reads packets, one at a time: one buffer is enough.
 * It is wiped after each packet, for passwords come this way. */
static char inbox[RPC_MESSAGE_MAX + 1];

static void
packet_free(struct packet *p)
{
	list_del(&p->link);
	closep(&p->fd);
	explicit_bzero(p->text, p->len);
	free(p->text);
	free(p);
}

void
rpc_wire_init(struct rpc *rpc, int fd)
{
	int size = RPC_MESSAGE_MAX * 2;

	/* A packet must fit into the socket's buffer as a whole. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	rpc->fd = fd;
	list_init(&rpc->queue);
	watch_init(&rpc->watch, rpc->loop, fd, rpc_wire_event, rpc);
	watch_set(&rpc->watch, WATCH_READ);
}

void
rpc_wire_done(struct rpc *rpc)
{
	struct packet *p;

	watch_done(&rpc->watch);
	closep(&rpc->fd);
	LIST_EACH (&rpc->queue, p, struct packet, link)
		packet_free(p);
	rpc->queued_bytes = 0;
}

static void
cut_errno(struct rpc *rpc, int errnum, const char *what)
{
	struct err err = { 0 };

	if (errnum == EPIPE || errnum == ECONNRESET)
		err_set(&err, ERR_UNAVAILABLE, "the other end went away");
	else
		err_errno(&err, ERR_UNAVAILABLE, errnum, "%s", what);
	rpc_cut(rpc, &err);
}

/* 0: sent, 1: the socket is full, -1: errno. */
static int
transmit(int sock, const char *text, size_t len, int fd)
{
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)text, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	/* ETOOMANYREFS: the peer hasn't received descriptors in flight. */
	if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)
		return 1;
	return -1;
}

static void
queue_packet(struct rpc *rpc, char *text, size_t len, int fd)
{
	struct packet *p;
	struct err err = { 0 };

	p = new0(struct packet);
	p->text = text;
	p->len = len;
	p->fd = fd;
	list_init(&p->link);
	list_add(&rpc->queue, &p->link);
	rpc->queued_bytes += len + sizeof(*p);
	watch_set(&rpc->watch, WATCH_READ | WATCH_WRITE);
	if (rpc->queued_bytes > RPC_QUEUE_MAX) {
		err_set(&err, ERR_UNAVAILABLE,
		    "the other end doesn't read: more than %d MiB wait for it",
		    RPC_QUEUE_MAX / 1024 / 1024);
		rpc_cut(rpc, &err);
	}
}

bool
rpc_send(struct rpc *rpc, json_t *msg, int fd)
{
	char *text = NULL;
	size_t len;
	int r = -1;

	if (!rpc->cutting && !rpc->freed)
		text = json_text(msg);
	json_decref(msg);
	if (text == NULL) {
		closep(&fd);
		return true;
	}
	len = strlen(text);
	if (len <= RPC_MESSAGE_MAX) {
		r = 1;
		if (list_empty(&rpc->queue) &&
		    (r = transmit(rpc->fd, text, len, fd)) < 0)
			cut_errno(rpc, errno, "send");
		if (r > 0) {
			queue_packet(rpc, text, len, fd);
			return true;
		}
	}
	explicit_bzero(text, len);
	free(text);
	closep(&fd);
	return len <= RPC_MESSAGE_MAX;
}

static void
flush(struct rpc *rpc)
{
	struct packet *p;
	int r;

	while ((p = list_first(&rpc->queue, struct packet, link)) != NULL) {
		r = transmit(rpc->fd, p->text, p->len, p->fd);
		if (r > 0)
			return;
		if (r < 0) {
			cut_errno(rpc, errno, "send");
			return;
		}
		rpc->queued_bytes -= p->len + sizeof(*p);
		packet_free(p);
	}
	watch_set(&rpc->watch, WATCH_READ);
}

/* Keeps the first descriptor in *ret_fd, closes all others. */
static void
take_fds(struct msghdr *msg, int *ret_fd)
{
	struct cmsghdr *c;
	int fd;
	size_t n, i;

	for (c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
}

static int
handle_packet(struct rpc *rpc, size_t len, int flags, int fd, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *msg = NULL;
	int r;

	if ((flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || len > RPC_MESSAGE_MAX) {
		closep(&fd);
		return err_set(err, ERR_PROTOCOL, "a message is too long");
	}
	r = json_parse(inbox, len, &msg, err);
	explicit_bzero(inbox, len);
	if (r < 0 || !json_is_object(msg)) {
		closep(&fd);
		return err_set(
		    err, ERR_PROTOCOL, "a message isn't a JSON object");
	}
	return rpc_dispatch(rpc, msg, fd, err);
}

/* True: one packet was read, and there may be more. */
static bool
receive(struct rpc *rpc)
{
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { inbox, sizeof(inbox) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct err err = { 0 };
	int fd = -1;
	ssize_t n;

	n = recvmsg(rpc->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		cut_errno(rpc, errno, "receive");
		return false;
	}
	take_fds(&msg, &fd);
	if (n == 0) {
		closep(&fd);
		cut_errno(rpc, EPIPE, "receive");
		return false;
	}
	if (handle_packet(rpc, (size_t)n, msg.msg_flags, fd, &err) < 0) {
		err_wrap(&err, -ERR_PROTOCOL, "process %d was cut off",
		    (int)rpc->peer.pid);
		rpc_cut(rpc, &err);
		return false;
	}
	return true;
}

void
rpc_wire_event(int events, void *arg)
{
	struct rpc *rpc = arg;
	int i;

	if ((events & WATCH_WRITE) && !rpc->cutting && !rpc->freed)
		flush(rpc);
	if (!(events & WATCH_READ))
		return;
	for (i = 0; i < PACKETS_A_TURN && !rpc->cutting && !rpc->freed; i++)
		if (!receive(rpc))
			break;
}
