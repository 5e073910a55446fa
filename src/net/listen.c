/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/listen_priv.h"

#define BACKLOG        4096
#define ACCEPTS_A_TURN 64
#define RETRY_MS       100 /* after EMFILE, if no connection of ours ends */

struct listener {
	struct loop *loop;
	struct watch watch;
	struct timer retry;
	int fd;
	int max; /* 0: no limit */
	int open;
	bool freed;
	listener_cb cb;
	void *arg;
};

int
unix_address(const char *path, struct sockaddr_un *ret, socklen_t *ret_len,
    struct err *err)
{
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (!str_copy(ret->sun_path, sizeof(ret->sun_path), path))
		return err_set(err, ERR_CONFIG,
		    "socket path '%s' is longer than %zu bytes", path,
		    sizeof(ret->sun_path) - 1);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
			       strlen(path) + 1);
	return 0;
}

/* "host:port", "*:port" or "[v6]:port" into its parts. */
static int
split_address(const char *address, char *host, size_t host_size, char *port,
    size_t port_size, struct err *err)
{
	const char *colon = strrchr(address, ':');
	size_t len;
	int n;

	if (colon == NULL || !str_to_int(colon + 1, 0, 65535, &n))
		return err_set(err, ERR_CONFIG,
		    "'%s' isn't an address like '*:8443'", address);
	len = (size_t)(colon - address);
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (len >= host_size || memchr(address, '/', len) != NULL)
		return err_set(err, ERR_CONFIG,
		    "'%s' isn't an address like '*:8443'", address);
	memcpy(host, address, len);
	host[len] = '\0';
	snprintf(port, port_size, "%d", n);
	return 0;
}

static int
bind_tcp(const struct addrinfo *ai, bool both, bool reuseport, int *ret_fd)
{
	_cleanup_(closep)
	int fd = -1;
	int on = 1, v6only = both ? 0 : 1;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    IPPROTO_TCP);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (reuseport &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -1;
	if (ai->ai_family == AF_INET6)
		setsockopt(
		    fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return -1;
	*ret_fd = take_fd(&fd);
	return 0;
}

int
listen_tcp(const char *address, bool reuseport, int *ret_fd, struct err *err)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST |
					      AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	char host[64], port[8];
	bool any;
	int r;

	r = split_address(address, host, sizeof(host), port, sizeof(port), err);
	if (r < 0)
		return r;
	any = str_eq(host, "*") || str_eq(host, "");
	/* "*" is both families on one socket; a kernel without IPv6 has
	 * only the other one. */
	hints.ai_family = any ? AF_INET6 : AF_UNSPEC;
	r = getaddrinfo(any ? NULL : host, port, &hints, &list);
	if (r != 0)
		return err_set(err, ERR_CONFIG,
		    "'%s' isn't an address like '*:8443': %s", address,
		    gai_strerror(r));
	r = bind_tcp(list, any, reuseport, ret_fd);
	freeaddrinfo(list);
	if (r < 0 && any && errno == EAFNOSUPPORT) {
		hints.ai_family = AF_INET;
		if (getaddrinfo(NULL, port, &hints, &list) == 0) {
			r = bind_tcp(list, false, reuseport, ret_fd);
			freeaddrinfo(list);
		}
	}
	if (r < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "listen on '%s'", address);
	return 0;
}

/* Removes a socket that nobody listens on any more. */
static int
remove_stale(
    int type, const struct sockaddr_un *addr, socklen_t len, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct stat st;

	if (lstat(addr->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ERR_CONFLICT,
		    "'%s' exists and isn't a socket; remove it",
		    addr->sun_path);
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	if (connect(fd, (const struct sockaddr *)addr, len) == 0 ||
	    errno == EAGAIN)
		return err_set(err, ERR_CONFLICT,
		    "another process listens on '%s' already", addr->sun_path);
	unlink(addr->sun_path);
	return 0;
}

int
listen_unix_type(int type, const char *path, mode_t mode, gid_t gid,
    int *ret_fd, struct err *err)
{
	struct sockaddr_un addr;
	socklen_t len = 0;
	mode_t old;
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = unix_address(path, &addr, &len, err)) < 0 ||
	    (r = remove_stale(type, &addr, len, err)) < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	/* Nobody gets in before owner and mode are right. */
	old = umask(0777);
	r = bind(fd, (const struct sockaddr *)&addr, len);
	umask(old);
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, errno, "bind '%s'", path);
	if ((gid != (gid_t)-1 && chown(path, (uid_t)-1, gid) < 0) ||
	    chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0) {
		r = err_errno(
		    err, ERR_SYSTEM, errno, "listen on '%s'", addr.sun_path);
		unlink(path);
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int
listen_unix(
    const char *path, mode_t mode, gid_t gid, int *ret_fd, struct err *err)
{
	return listen_unix_type(SOCK_STREAM, path, mode, gid, ret_fd, err);
}

static void
update(struct listener *l)
{
	bool full = l->max > 0 && l->open >= l->max;

	watch_set(&l->watch, full || timer_active(&l->retry) ? 0 : WATCH_READ);
}

static void
on_retry(void *arg)
{
	update(arg);
}

/* Small writes must not wait for the acknowledgement of earlier ones. Fails
 * harmlessly on unix sockets. */
static void
set_nodelay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void
on_ready(int events, void *arg)
{
	struct listener *l = arg;
	int fd, i;

	for (i = 0; i < ACCEPTS_A_TURN && !l->freed; i++) {
		if (l->max > 0 && l->open >= l->max)
			break;
		fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE ||
			    errno == ENOBUFS || errno == ENOMEM)
				timer_start(&l->retry, RETRY_MS);
			else if (errno == ECONNABORTED || errno == EINTR)
				continue;
			break;
		}
		set_nodelay(fd);
		l->open++;
		l->cb(fd, l->arg);
	}
	if (!l->freed)
		update(l);
}

struct listener *
listener_new(struct loop *loop, int fd, int max, listener_cb cb, void *arg)
{
	struct listener *l = new0(struct listener);

	/* The parent may have made it. */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	l->loop = loop;
	l->fd = fd;
	l->max = max;
	l->cb = cb;
	l->arg = arg;
	watch_init(&l->watch, loop, fd, on_ready, l);
	timer_init(&l->retry, loop, on_retry, l);
	update(l);
	return l;
}

void
listener_closed_one(struct listener *l)
{
	if (l->open > 0)
		l->open--;
	timer_stop(&l->retry);
	update(l);
}

static void
destroy(void *arg)
{
	free(arg);
}

void
listener_free(struct listener *l)
{
	if (l == NULL || l->freed)
		return;
	l->freed = true;
	watch_done(&l->watch);
	timer_done(&l->retry);
	closep(&l->fd);
	loop_defer(l->loop, destroy, l);
}
