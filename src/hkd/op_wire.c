/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/op_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "hkd/op.h"
#include "json/json.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int
op_wire_send(int sock, const json_t *msg, int fd, struct err *err)
{
	_cleanup_(freep)
	char *text = json_text(msg);
	struct iovec iov = { .iov_base = text, .iov_len = strlen(text) };
	union control control = { 0 };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (iov.iov_len > OP_MESSAGE_MAX)
		return err_set(err, ERR_TOO_LARGE,
		    "message of %zu bytes; the limit is %d", iov.iov_len,
		    OP_MESSAGE_MAX);
	if (fd >= 0) {
		struct cmsghdr *c;

		hdr.msg_control = control.bytes;
		hdr.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &hdr, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? err_errno(err, ERR_SYSTEM, errno, "send") : 0;
}

static int
take_descriptor(struct msghdr *hdr)
{
	struct cmsghdr *c;
	int fd = -1;

	for (c = CMSG_FIRSTHDR(hdr); c != NULL; c = CMSG_NXTHDR(hdr, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}

/* 1: *ret is the length of the packet that is next; else as op_wire_recv. */
static int
wait_for_packet(int sock, int flags, size_t *ret, struct err *err)
{
	ssize_t n;

	do
		n = recv(sock, NULL, 0, flags | MSG_PEEK | MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && (errno == EAGAIN || errno == ECONNRESET)))
		return 0;
	if (n < 0)
		return err_errno(err, ERR_SYSTEM, errno, "receive");
	if (n > OP_MESSAGE_MAX)
		return err_set(err, ERR_PROTOCOL, "truncated message");
	*ret = (size_t)n;
	return 1;
}

/*
 * In room for this packet and not for the largest: an operation is a fork,
 * in which each page that is written for the first time costs a copy.
 */
int
op_wire_recv(int sock, int flags, json_t **ret, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(closep)
	int fd = -1;
	struct iovec iov = { 0 };
	union control control = { 0 };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	int r;

	if ((r = wait_for_packet(sock, flags, &iov.iov_len, err)) <= 0)
		return r;
	iov.iov_base = text = xcalloc(1, iov.iov_len);
	do
		n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, ERR_SYSTEM, errno, "receive");
	fd = take_descriptor(&hdr);
	if ((hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
		return err_set(err, ERR_PROTOCOL, "truncated message");
	if ((r = json_parse(text, (size_t)n, ret, err)) < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 1;
}

bool
op_wire_ended(int sock)
{
	char c;

	return recv(sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}
