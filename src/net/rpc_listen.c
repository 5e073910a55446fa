/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The sockets of rpc: listening, connecting, pairs. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/listen_priv.h"
#include "net/rpc.h"

#define CONNECT_WAIT_S 2 /* while the other end's backlog is full */

struct rpc_listener {
	struct listener *listener;
	rpc_accept_cb cb;
	void *arg;
};

static void
on_accept(int fd, void *arg)
{
	struct rpc_listener *l = arg;
	struct ucred cred = { .pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t len = sizeof(cred);
	struct rpc_peer peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		close(fd);
		return;
	}
	peer = (struct rpc_peer){ cred.pid, cred.uid, cred.gid };
	l->cb(fd, &peer, l->arg);
}

int
rpc_listen_open(
    const char *path, mode_t mode, gid_t gid, int *ret_fd, struct err *err)
{
	return listen_unix_type(SOCK_SEQPACKET, path, mode, gid, ret_fd, err);
}

struct rpc_listener *
rpc_listen_fd(struct loop *loop, int fd, rpc_accept_cb cb, void *arg)
{
	struct rpc_listener *l = new0(struct rpc_listener);

	l->cb = cb;
	l->arg = arg;
	l->listener = listener_new(loop, fd, 0, on_accept, l);
	return l;
}

struct rpc_listener *
rpc_listen(struct loop *loop, const char *path, mode_t mode, gid_t gid,
    rpc_accept_cb cb, void *arg, struct err *err)
{
	int fd = -1;

	if (rpc_listen_open(path, mode, gid, &fd, err) < 0)
		return NULL;
	return rpc_listen_fd(loop, fd, cb, arg);
}

void
rpc_listener_free(struct rpc_listener *l)
{
	if (l == NULL)
		return;
	listener_free(l->listener);
	free(l);
}

struct rpc *
rpc_connect(struct loop *loop, const char *path, const struct rpc_op *ops,
    rpc_closed_cb closed, void *arg, struct err *err)
{
	struct timeval wait = { .tv_sec = CONNECT_WAIT_S };
	struct sockaddr_un addr;
	socklen_t len;
	_cleanup_(closep)
	int fd = -1;

	if (unix_address(path, &addr, &len, err) < 0)
		return NULL;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err_errno(err, ERR_SYSTEM, errno, "socket");
		return NULL;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&addr, len) < 0) {
		err_errno(err, ERR_UNAVAILABLE, errno, "connect to '%s'", path);
		return NULL;
	}
	return rpc_new(loop, take_fd(&fd), ops, closed, arg);
}

int
rpc_pair(int ret_fds[2], struct err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, ret_fds) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socketpair");
	return 0;
}
