/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "client/conn.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"
#include "client/trust.h"

/* A link that answers nothing for so long is lost: a laptop that was closed,
 * a cable pulled out. The kernel finds out; nobody has to count. */
#define LINK_DEAD_MS     30000
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_STEP_S 5
#define KEEPALIVE_COUNT  4
/* An address that doesn't answer must not use up the time of the others. */
#define ADDRESS_MS 10000

/* Modern TLS only, as the farm's (net/tls.c says why these). */
#define CIPHERS                                                      \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

/* The socket as OpenSSL sees it. Its own BIO writes with write(2), which
 * raises SIGPIPE in the program that we are a guest of. */
static int
bio_write(BIO *bio, const char *data, int n)
{
	int *fd = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	do
		r = send(*fd, data, (size_t)n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return (int)r;
}

static int
bio_read(BIO *bio, char *data, int n)
{
	int *fd = BIO_get_data(bio);
	ssize_t r;

	BIO_clear_retry_flags(bio);
	do
		r = recv(*fd, data, (size_t)n, 0);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return (int)r;
}

static long
bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static bool
attach_bio(struct conn *conn)
{
	BIO *bio;

	conn->method = BIO_meth_new(
	    BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "qvd connection");
	if (conn->method == NULL)
		return false;
	BIO_meth_set_write(conn->method, bio_write);
	BIO_meth_set_read(conn->method, bio_read);
	BIO_meth_set_ctrl(conn->method, bio_ctrl);
	bio = BIO_new(conn->method);
	if (bio == NULL)
		return false;
	BIO_set_data(bio, &conn->fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(conn->ssl, bio, bio);
	return true;
}

void
conn_init(struct conn *conn, int cancel_fd)
{
	memset(conn, 0, sizeof(*conn));
	conn->fd = -1;
	conn->cancel_fd = cancel_fd;
}

void
conn_close(struct conn *conn)
{
	ERR_clear_error();
	if (conn->ssl != NULL && SSL_is_init_finished(conn->ssl))
		SSL_shutdown(conn->ssl); /* one try; it doesn't block */
	ERR_clear_error();
	SSL_free(conn->ssl);
	SSL_CTX_free(conn->ctx);
	BIO_meth_free(conn->method);
	closep(&conn->fd);
	conn->ssl = NULL;
	conn->ctx = NULL;
	conn->method = NULL;
}

bool
conn_is_open(const struct conn *conn)
{
	return conn->fd >= 0;
}

int
conn_check_cancel(int cancel_fd, struct err *err)
{
	struct pollfd p = { .fd = cancel_fd, .events = POLLIN };

	if (poll(&p, 1, 0) > 0)
		return err_set(err, ERR_CANCELLED, "interrupted");
	return 0;
}

/* Until the socket is ready, the deadline has passed, or the user gave up. */
static int
wait_for(struct conn *conn, short events, int64_t deadline_ms, struct err *err)
{
	struct pollfd p[2] = {
		{ .fd = conn->fd, .events = events },
		{ .fd = conn->cancel_fd, .events = POLLIN },
	};
	int64_t left;
	int r;

	do {
		left = deadline_ms - time_now_ms();
		if (left <= 0)
			return err_set(err, ERR_TIMEOUT,
			    "the server doesn't answer; check the network, or "
			    "try again later");
		r = poll(p, 2, left > 60000 ? 60000 : (int)left);
	} while (r == 0 || (r < 0 && errno == EINTR));
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, errno, "poll");
	if (p[1].revents != 0)
		return err_set(err, ERR_CANCELLED, "interrupted");
	return 0;
}

static void
set_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_STEP_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, LINK_DEAD_MS },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(options); i++)
		setsockopt(fd, options[i].level, options[i].name,
		    &options[i].value, sizeof(options[i].value));
}

static int
connect_one(struct conn *conn, const struct addrinfo *ai, int64_t deadline_ms,
    struct err *err)
{
	int64_t until = time_now_ms() + ADDRESS_MS;
	int errnum = 0, r;
	socklen_t len = sizeof(errnum);

	conn->fd = socket(
	    ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return err_errno(err, ERR_NETWORK, errno, "make a socket");
	set_options(conn->fd);
	if (connect(conn->fd, ai->ai_addr, ai->ai_addrlen) < 0 &&
	    errno != EINPROGRESS)
		return err_errno(err, ERR_NETWORK, errno, "connect");
	if (ai->ai_next == NULL || until > deadline_ms)
		until = deadline_ms;
	if ((r = wait_for(conn, POLLOUT, until, err)) < 0)
		return r;
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0)
		errnum = errno;
	if (errnum != 0)
		return err_errno(err, ERR_NETWORK, errnum, "connect");
	return 0;
}

static void
addrinfo_freep(struct addrinfo **ai)
{
	if (*ai != NULL)
		freeaddrinfo(*ai);
}

static int
connect_host(struct conn *conn, const char *host, int port, int64_t deadline_ms,
    struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV };
	_cleanup_(addrinfo_freep)
	struct addrinfo *list = NULL;
	struct addrinfo *ai;
	char service[16];
	int r = 0;

	snprintf(service, sizeof(service), "%d", port);
	r = getaddrinfo(host, service, &hints, &list);
	if (r == EAI_NONAME) { /* loopback names without any network */
		hints.ai_flags = AI_NUMERICSERV;
		r = getaddrinfo(host, service, &hints, &list);
	}
	if (r != 0)
		return err_set(err, ERR_NETWORK,
		    "find server '%s': %s; check its name and your network",
		    host, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
	for (ai = list; ai != NULL; ai = ai->ai_next) {
		r = connect_one(conn, ai, deadline_ms, err);
		if (r == 0 || r == -ERR_CANCELLED)
			return r;
		closep(&conn->fd);
	}
	return err_wrap(err, r, "server %s port %d", host, port);
}

static int
handshake(struct conn *conn, int64_t deadline_ms, struct err *err)
{
	const char *reason;
	int e, r;

	for (;;) {
		ERR_clear_error();
		r = SSL_connect(conn->ssl);
		if (r == 1)
			return 0;
		e = SSL_get_error(conn->ssl, r);
		if (e == SSL_ERROR_WANT_READ)
			r = wait_for(conn, POLLIN, deadline_ms, err);
		else if (e == SSL_ERROR_WANT_WRITE)
			r = wait_for(conn, POLLOUT, deadline_ms, err);
		else
			break;
		if (r < 0)
			return r;
	}
	reason = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return err_set(err, e == SSL_ERROR_SYSCALL ? ERR_NETWORK : ERR_TLS,
	    "no TLS with the server: %s; check host and port",
	    reason != NULL ? reason : "it closed the connection");
}

static int
ssl_failed(struct err *err)
{
	ERR_clear_error();
	return err_set(err, ERR_TLS, "OpenSSL can't be set up");
}

static int
secure(struct conn *conn, const char *host, int port, struct trust *trust,
    int64_t deadline_ms, struct err *err)
{
	int r;

	conn->ctx = SSL_CTX_new(TLS_client_method());
	if (conn->ctx == NULL ||
	    SSL_CTX_set_min_proto_version(conn->ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(conn->ctx, CIPHERS) != 1)
		return ssl_failed(err);
	SSL_CTX_set_mode(conn->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(
	    conn->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	if ((r = trust_prepare(trust, conn->ctx, err)) < 0)
		return r;
	conn->ssl = SSL_new(conn->ctx);
	if (conn->ssl == NULL || !attach_bio(conn))
		return ssl_failed(err);
	if ((r = trust_expect(conn->ssl, host, err)) < 0 ||
	    (r = handshake(conn, deadline_ms, err)) < 0)
		return r;
	return trust_check(trust, conn->ssl, host, port, err);
}

int
conn_open(struct conn *conn, const char *host, int port, struct trust *trust,
    int64_t deadline_ms, struct err *err)
{
	int r;

	conn_close(conn);
	conn->fresh = true;
	if ((r = conn_check_cancel(conn->cancel_fd, err)) < 0)
		return r;
	r = connect_host(conn, host, port, deadline_ms, err);
	if (r == 0)
		r = secure(conn, host, port, trust, deadline_ms, err);
	if (r < 0)
		conn_close(conn);
	return r;
}

/* What an OpenSSL result of 0 or less means for a non-blocking caller. */
static int
classify(struct conn *conn, int r)
{
	switch (SSL_get_error(conn->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return CONN_AGAIN_READ;
	case SSL_ERROR_WANT_WRITE:
		return CONN_AGAIN_WRITE;
	default:
		ERR_clear_error();
		return CONN_END;
	}
}

int
conn_try_read(struct conn *conn, void *data, int size)
{
	int r;

	ERR_clear_error();
	r = SSL_read(conn->ssl, data, size);
	return r > 0 ? r : classify(conn, r);
}

bool
conn_was_closed(const struct conn *conn)
{
	return conn->ssl != NULL &&
	       (SSL_get_shutdown(conn->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

int
conn_try_write(struct conn *conn, const void *data, int n)
{
	int r;

	ERR_clear_error();
	r = SSL_write(conn->ssl, data, n);
	return r > 0 ? r : classify(conn, r);
}

int
conn_write(struct conn *conn, const void *data, size_t n, int64_t deadline_ms,
    struct err *err)
{
	const char *p = data;
	int r, w;

	while (n > 0) {
		r = conn_try_write(conn, p, n > 16384 ? 16384 : (int)n);
		if (r > 0) {
			p += r;
			n -= (size_t)r;
			continue;
		}
		if (r == CONN_END)
			return err_set(err, ERR_NETWORK,
			    "the server closed the connection");
		w = wait_for(conn, r == CONN_AGAIN_READ ? POLLIN : POLLOUT,
		    deadline_ms, err);
		if (w < 0)
			return w;
	}
	return 0;
}

int
conn_read(struct conn *conn, void *data, size_t size, size_t *ret_n,
    int64_t deadline_ms, struct err *err)
{
	int r, w;

	for (;;) {
		r = conn_try_read(conn, data, (int)size);
		if (r > 0 || r == CONN_END) {
			*ret_n = r > 0 ? (size_t)r : 0;
			return 0;
		}
		w = wait_for(conn, r == CONN_AGAIN_READ ? POLLIN : POLLOUT,
		    deadline_ms, err);
		if (w < 0)
			return w;
	}
}

int
conn_rtt_us(const struct conn *conn)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (conn->fd < 0 ||
	    getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_rtt == 0)
		return -1;
	return (int)info.tcpi_rtt;
}
