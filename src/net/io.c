/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/io_priv.h"

#define CONNECT_RETRY_MS 20 /* unix sockets: the backlog is full */
#define CONNECT_RETRIES  250
#define DRAIN_READS      16 /* after a failed write */

struct io_scratch io_scratch;

struct io_retry {
	struct timer timer;
	int left;
	struct sockaddr_un addr;
	socklen_t len;
};

static void on_ready(int events, void *arg);
static void on_timer(void *arg);

/* Life */

static struct io *
io_alloc(struct loop *loop, int fd, io_cb cb, void *arg)
{
	struct io *io = new0(struct io);

	io->loop = loop;
	io->fd = fd;
	io->cb = cb;
	io->arg = arg;
	io->read_limit = IO_READ_LIMIT;
	io->progress_at = loop_now_ms(loop);
	list_init(&io->orphan.link);
	buf_init(&io->in, SIZE_MAX / 4);
	buf_init(&io->out, SIZE_MAX / 4);
	timer_init(&io->timer, loop, on_timer, io);
	watch_init(&io->watch, loop, fd, on_ready, io);
	return io;
}

struct io *
io_new(struct loop *loop, int fd, io_cb cb, void *arg)
{
	struct io *io = io_alloc(loop, fd, cb, arg);

	io_update(io);
	return io;
}

static void
free_retry(struct io *io)
{
	if (io->retry == NULL)
		return;
	timer_done(&io->retry->timer);
	free(take_ptr(io->retry));
}

static void
destroy(void *arg)
{
	struct io *io = arg;

	io_tls_destroy(io);
	buf_done(&io->in);
	buf_done(&io->out);
	free(io->error);
	free(io->peer);
	free(io);
}

void
io_free(struct io *io)
{
	if (io == NULL || io->freed)
		return;
	io->freed = true;
	io->cb = NULL;
	list_del(&io->orphan.link);
	free_retry(io);
	watch_done(&io->watch);
	timer_done(&io->timer);
	closep(&io->fd);
	io->fresh_len = 0;
	loop_defer(io->loop, destroy, io);
}

void
io_set_cb(struct io *io, io_cb cb, void *arg)
{
	io->cb = cb;
	io->arg = arg;
	if (io_in_len(io) > 0)
		io->data_pending = true;
	if (io->eof)
		io->eof_pending = true;
	if (io->broken)
		io->error_pending = true;
	if (io->data_pending || io->eof_pending || io->error_pending)
		io_wake(io);
}

/* Events */

void
io_emit(struct io *io, enum io_event event)
{
	if (io->cb != NULL && !io->freed)
		io->cb(io, event, io->arg);
}

/* What the descriptor should be watched for. */
void
io_update(struct io *io)
{
	bool handshaking = io->tls != NULL && io->tls->handshaking;
	int events = 0;

	if (io->freed || io->broken || io->fd < 0)
		return;
	if (io->connecting) {
		events = io->retry != NULL ? 0 : WATCH_WRITE;
	} else {
		if (!io->eof &&
		    (handshaking || (io_read_room(io) > 0 &&
					!(io->tls != NULL && io->tls->more))))
			events |= WATCH_READ;
		if (io->blocked)
			events |= WATCH_WRITE;
	}
	watch_set(&io->watch, events);
}

size_t
io_read_room(const struct io *io)
{
	size_t len = io_in_len(io);

	if (io->paused || io->eof)
		return 0;
	return io->read_limit > len ? io->read_limit - len : 0;
}

void
io_fail(struct io *io, const struct err *err)
{
	if (io->broken || io->freed)
		return;
	if (!io->eof && !io->paused && !io->connecting &&
	    !(io->tls != NULL && io->tls->handshaking))
		io->drain_pending = true;
	watch_set(&io->watch, 0);
	io->broken = true;
	io->error = new0(struct err);
	*io->error = *err;
	buf_done(&io->out);
	if (io->tls != NULL)
		buf_done(&io->tls->out);
	io->error_pending = true;
	io_wake(io);
}

void
io_fail_errno(struct io *io, int errnum, const char *what)
{
	struct err err;

	err_errno(&err, ERR_NETWORK, errnum, "%s", what);
	io_fail(io, &err);
}

static void
read_some(struct io *io)
{
	if (io->tls != NULL)
		io_tls_read(io);
	else if (io_read_room(io) > 0) {
		size_t room = io_read_room(io), n;
		int r;

		if (room > sizeof(io_scratch.plain))
			room = sizeof(io_scratch.plain);
		r = io_receive(io, io_scratch.plain, room, &n);
		if (r == 0 && n > 0)
			io_deliver(io, io_scratch.plain, n);
		else if (r == 0)
			io_deliver_eof(io);
	}
}

/* The peer may have said why before it closed: read that first. */
static void
drain(struct io *io)
{
	uint64_t before;
	int i;

	for (i = 0; i < DRAIN_READS && !io->freed && !io->eof; i++) {
		before = io->bytes_in;
		read_some(io);
		if (io->bytes_in == before)
			break;
	}
}

static void
wake_now(void *arg)
{
	struct io *io = arg;

	io->wake_deferred = false;
	if (io->connected_pending && !io->freed) {
		io->connected_pending = false;
		io_emit(io, IO_CONNECTED);
	}
	if (io->secured_pending && !io->freed) {
		io->secured_pending = false;
		io_emit(io, IO_SECURED);
	}
	if (io->data_pending && !io->freed && !io->paused) {
		io->data_pending = false;
		if (io->in.len > 0)
			io_emit(io, IO_DATA);
	}
	if (io->tls != NULL && io->tls->more && !io->freed && !io->broken &&
	    (io->tls->handshaking || io_read_room(io) > 0))
		io_tls_read(io);
	if (io->drain_pending && !io->freed) {
		io->drain_pending = false;
		drain(io);
	}
	if (io->eof_pending && !io->freed && !io->paused) {
		io->eof_pending = false;
		io_emit(io, IO_EOF);
	}
	if (io->error_pending && !io->freed) {
		io->error_pending = false;
		if (io->closing)
			io_free(io);
		else
			io_emit(io, IO_ERROR);
	}
	io_update(io);
}

void
io_wake(struct io *io)
{
	if (io->wake_deferred || io->freed)
		return;
	io->wake_deferred = true;
	loop_defer(io->loop, wake_now, io);
}

/* Connecting */

static void
connected(struct io *io)
{
	int on = 1;

	io->connecting = false;
	free_retry(io);
	io->progress_at = loop_now_ms(io->loop);
	setsockopt(io->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	io->connected_pending = true;
	if (io->tls != NULL)
		io_tls_start(io);
	io_wake(io);
	io_flush(io);
}

static void
finish_connect(struct io *io)
{
	int errnum = 0;
	socklen_t len = sizeof(errnum);

	if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
		errnum = errno;
	if (errnum != 0) {
		io_fail_errno(io, errnum, "connect");
		return;
	}
	connected(io);
}

static void
on_retry(void *arg)
{
	struct io *io = arg;

	if (connect(io->fd, (struct sockaddr *)&io->retry->addr,
		io->retry->len) == 0)
		connected(io);
	else if (errno != EAGAIN || --io->retry->left == 0)
		io_fail_errno(io, errno, "connect");
	else
		timer_start(&io->retry->timer, CONNECT_RETRY_MS);
}

struct io *
io_connect(struct loop *loop, const struct sockaddr *addr, socklen_t len,
    io_cb cb, void *arg, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct io *io;
	int r;

	fd = socket(
	    addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err_errno(err, ERR_NETWORK, errno, "socket");
		return NULL;
	}
	r = connect(fd, addr, len) == 0 ? 0 : errno;
	if (r != 0 && r != EINPROGRESS &&
	    !(r == EAGAIN && addr->sa_family == AF_UNIX)) {
		err_errno(err, ERR_NETWORK, r, "connect");
		return NULL;
	}
	io = io_alloc(loop, take_fd(&fd), cb, arg);
	io->connecting = true;
	if (r == 0) {
		connected(io);
	} else if (r == EAGAIN) {
		io->retry = new0(struct io_retry);
		io->retry->left = CONNECT_RETRIES;
		memcpy(&io->retry->addr, addr, len);
		io->retry->len = len;
		timer_init(&io->retry->timer, loop, on_retry, io);
		timer_start(&io->retry->timer, CONNECT_RETRY_MS);
	}
	io_update(io);
	return io;
}

/* Input */

int
io_receive(struct io *io, char *data, size_t size, size_t *ret_n)
{
	ssize_t n;

	do {
		n = io->is_pipe ? read(io->fd, data, size)
				: recv(io->fd, data, size, 0);
		if (n < 0 && errno == ENOTSOCK && !io->is_pipe) {
			io->is_pipe = true;
			errno = EINTR;
		}
	} while (n < 0 && errno == EINTR);
	if (n >= 0) {
		*ret_n = (size_t)n;
		return 0;
	}
	*ret_n = 0;
	if (errno == EAGAIN)
		return -1;
	io_fail_errno(io, errno, "receive");
	return -2;
}

void
io_deliver(struct io *io, const char *data, size_t n)
{
	io->bytes_in += n;
	io->progress_at = loop_now_ms(io->loop);
	io->data_pending = false;
	if (io->in.len > 0) {
		buf_append(&io->in, data, n);
		io_emit(io, IO_DATA);
		return;
	}
	io->fresh = data;
	io->fresh_len = n;
	io_emit(io, IO_DATA);
	if (io->fresh_len > 0)
		buf_append(&io->in, io->fresh, io->fresh_len);
	io->fresh = NULL;
	io->fresh_len = 0;
}

void
io_deliver_eof(struct io *io)
{
	if (io->eof || io->freed)
		return;
	io->eof = true;
	/* Paused by what came just before: told after io_resume(). */
	io->eof_pending = io->paused;
	if (io->paused)
		return;
	if (io->closing && io->shutdown_done)
		io_free(io);
	else
		io_emit(io, IO_EOF);
}

/* What comes after io_close() interests nobody, but closing with unread
 * input would reset the connection under our last words. */
static void
discard(struct io *io)
{
	size_t n;

	if (io_receive(io, io_scratch.cipher, sizeof(io_scratch.cipher), &n) ==
		0 &&
	    n == 0)
		io_deliver_eof(io);
}

static void
on_ready(int events, void *arg)
{
	struct io *io = arg;

	if (io->connecting) {
		finish_connect(io);
		io_update(io);
		return;
	}
	if (events & WATCH_WRITE)
		io_flush(io);
	if ((events & WATCH_READ) && !io->freed && !io->broken) {
		if (io->closing && !(io->tls != NULL && io->tls->handshaking))
			discard(io);
		else
			read_some(io);
	}
	io_update(io);
}

const char *
io_input(struct io *io, size_t *ret_len)
{
	*ret_len = io_in_len(io);
	return io->fresh_len > 0 ? io->fresh : buf_head(&io->in);
}

void
io_consume(struct io *io, size_t n)
{
	if (io->fresh_len > 0) {
		io->fresh += n;
		io->fresh_len -= n;
		return;
	}
	buf_consume(&io->in, n);
	buf_release(&io->in);
	if (io->tls != NULL && io->tls->more)
		io_wake(io);
	io_update(io);
}

void
io_set_read_limit(struct io *io, size_t bytes)
{
	io->read_limit = bytes;
	if (io->tls != NULL && io->tls->more)
		io_wake(io);
	io_update(io);
}

void
io_pause(struct io *io)
{
	io->paused = true;
	io_update(io);
}

void
io_resume(struct io *io)
{
	if (!io->paused)
		return;
	io->paused = false;
	if (io->in.len > 0)
		io->data_pending = true;
	if (io->data_pending || io->eof_pending ||
	    (io->tls != NULL && io->tls->more))
		io_wake(io);
	io_update(io);
}

/* Time */

static void
arm(struct io *io)
{
	int64_t now = loop_now_ms(io->loop), at = 0;

	if (io->timeout_ms > 0)
		at = io->progress_at + io->timeout_ms;
	if (io->deadline_at != 0 && (at == 0 || io->deadline_at < at))
		at = io->deadline_at;
	if (at == 0)
		timer_stop(&io->timer);
	else
		timer_start(&io->timer, at > now ? at - now : 0);
}

static void
on_timer(void *arg)
{
	struct io *io = arg;
	int64_t now = loop_now_ms(io->loop);
	bool out = false;

	if (io->deadline_at != 0 && now >= io->deadline_at) {
		io->deadline_at = 0;
		out = true;
	}
	if (io->timeout_ms > 0 && now >= io->progress_at + io->timeout_ms) {
		io->progress_at = now;
		out = true;
	}
	arm(io);
	if (!out)
		return;
	if (io->closing)
		io_free(io);
	else
		io_emit(io, IO_TIMEOUT);
}

void
io_set_timeout(struct io *io, int64_t ms)
{
	io->timeout_ms = ms;
	io->progress_at = loop_now_ms(io->loop);
	arm(io);
}

void
io_set_deadline(struct io *io, int64_t ms)
{
	io->deadline_at = ms <= 0 ? 0 : loop_now_ms(io->loop) + ms;
	arm(io);
}

/* Facts */

const struct err *
io_error(const struct io *io)
{
	static const struct err none = { 0 };

	return io->error == NULL ? &none : io->error;
}

int
io_fd(const struct io *io)
{
	return io->fd;
}

struct loop *
io_loop(const struct io *io)
{
	return io->loop;
}

uint64_t
io_bytes_in(const struct io *io)
{
	return io->bytes_in;
}

uint64_t
io_bytes_out(const struct io *io)
{
	return io->bytes_out;
}

bool
io_is_tls(const struct io *io)
{
	return io->tls != NULL;
}

void *
io_tls(struct io *io)
{
	return io->tls == NULL ? NULL : io->tls->ssl;
}

static char *
peer_name(int fd)
{
	struct sockaddr_storage ss = { 0 };
	const struct sockaddr_in *v4 = (const void *)&ss;
	const struct sockaddr_in6 *v6 = (const void *)&ss;
	socklen_t len = sizeof(ss);
	char text[INET6_ADDRSTRLEN] = "";

	if (fd < 0 || getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
		return xstrdup("unknown");
	if (ss.ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
		return xasprintf("%s:%d", text, ntohs(v4->sin_port));
	}
	if (ss.ss_family == AF_INET6) {
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text,
			    sizeof(text));
			return xasprintf("%s:%d", text, ntohs(v6->sin6_port));
		}
		inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
		return xasprintf("[%s]:%d", text, ntohs(v6->sin6_port));
	}
	return xstrdup("unix");
}

const char *
io_peer(const struct io *io)
{
	/* Found when first asked for; that is not a change of the io. */
	struct io *cache = (struct io *)(uintptr_t)io;

	if (io->peer == NULL)
		cache->peer = peer_name(io->fd);
	return io->peer;
}
