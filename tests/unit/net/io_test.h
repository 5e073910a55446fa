/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Two ends of a socketpair for tests: plain or TLS ios, and a record of what
 * each has seen. TLS uses one self-signed certificate a program, made when
 * first needed.
 */
#ifndef IO_TEST_H
#define IO_TEST_H

#include "loop/loop_test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "net/io.h"

static struct err err;

struct seen {
	struct io *io;
	struct buf got; /* IO_DATA, if keep */
	size_t bytes;
	int connected, secured, data, lowat, eof, timeout, error;
	bool keep;
	bool leave; /* don't consume */
};

static _unused_ void
see(struct io *io, enum io_event event, void *arg)
{
	struct seen *s = arg;
	const char *p;
	size_t n;

	switch (event) {
	case IO_CONNECTED:
		s->connected++;
		break;
	case IO_SECURED:
		s->secured++;
		break;
	case IO_DATA:
		s->data++;
		if (s->leave)
			break;
		p = io_input(io, &n);
		s->bytes += n;
		if (s->keep)
			buf_append(&s->got, p, n);
		io_consume(io, n);
		break;
	case IO_LOWAT:
		s->lowat++;
		break;
	case IO_EOF:
		s->eof++;
		break;
	case IO_TIMEOUT:
		s->timeout++;
		break;
	case IO_ERROR:
		s->error++;
		break;
	}
}

static struct tls_ctx *server_ctx, *client_ctx;

static void
make_ctx(void)
{
	const char *const names[] = { "localhost", "127.0.0.1", NULL };
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	char path[] = "/tmp/qvd-test-ca-XXXXXX";
	int fd;

	assert_ok(tls_self_signed(names, 7, &cert, &key, &err));
	server_ctx = tls_ctx_new_server(cert, key, NULL, &err);
	assert_non_null(server_ctx);
	fd = mkstemp(path);
	assert_int_equal(write(fd, cert, strlen(cert)), (ssize_t)strlen(cert));
	close(fd);
	client_ctx = tls_ctx_new_client(path, true, &err);
	unlink(path);
	assert_non_null(client_ctx);
}

static void
stream_pair(int fds[2])
{
	assert_int_equal(
	    socketpair(
		AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
	    0);
}

/* b is the server. */
static _unused_ void
io_pair(struct seen *a, struct seen *b, bool tls)
{
	int fds[2];

	stream_pair(fds);
	memset(a, 0, sizeof(*a));
	memset(b, 0, sizeof(*b));
	buf_init(&a->got, SIZE_MAX / 2);
	buf_init(&b->got, SIZE_MAX / 2);
	a->keep = b->keep = true;
	a->io = io_new(loop, fds[0], see, a);
	b->io = io_new(loop, fds[1], see, b);
	if (!tls)
		return;
	if (server_ctx == NULL)
		make_ctx();
	io_tls_accept(b->io, server_ctx);
	io_tls_connect(a->io, client_ctx, "localhost");
}

static _unused_ void
seen_done(struct seen *s)
{
	io_free(s->io);
	buf_done(&s->got);
}

/* n bytes that tell where they are in the stream. */
static _unused_ char *
pattern(size_t n)
{
	char *p = xcalloc(n, 1);
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (char)((i * 7 + i / 251) & 0xff);
	return p;
}

static int
io_teardown(void **state)
{
	tls_ctx_unref(take_ptr(server_ctx));
	tls_ctx_unref(take_ptr(client_ctx));
	return loop_teardown(state);
}

#define io_test(f) cmocka_unit_test_setup_teardown(f, loop_setup, io_teardown)

#endif
