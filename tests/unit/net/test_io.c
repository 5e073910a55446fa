/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io_test.h"

#include <netinet/in.h>
#include <sys/un.h>

#include "net/listen.h"
#include "net/tls_ca.h"

#define BIG (3 * 1000 * 1000)

static struct seen a, b;

/* What goes in comes out, whole and in order, and both ends end. */
static void
carry(bool tls)
{
	_cleanup_(freep)
	char *data = pattern(BIG);

	io_pair(&a, &b, tls);
	io_write(a.io, data, BIG); /* before the handshake is done */
	io_write(b.io, "pong", 4);
	io_shutdown(a.io);
	run_until(b.eof == 1 && a.got.len == 4);
	assert_int_equal(b.got.len, BIG);
	assert_memory_equal(buf_head(&b.got), data, BIG);
	assert_int_equal(io_bytes_out(a.io), BIG);
	assert_int_equal(io_bytes_in(b.io), BIG);
	/* Half-closed: the other direction still works. */
	io_write(b.io, "late", 4);
	io_shutdown(b.io);
	run_until(a.eof == 1);
	assert_memory_equal(buf_head(&a.got), "ponglate", 8);
	assert_int_equal(a.error + b.error, 0);
	assert_int_equal(a.secured + b.secured, tls ? 2 : 0);
	assert_true(a.lowat > 0);
	seen_done(&a);
	seen_done(&b);
}

static void
carries_plain(void **state)
{
	carry(false);
}

static void
carries_tls(void **state)
{
	carry(true);
	carry(true);
}

/* A reader that doesn't consume stops the writer; nothing grows without
 * end. */
static void
hold_back(bool tls)
{
	_cleanup_(freep)
	char *data = pattern(BIG);
	size_t n;

	io_pair(&a, &b, tls);
	b.leave = true;
	io_set_read_limit(b.io, 10000);
	io_write(a.io, data, BIG);
	run_for(50);
	io_input(b.io, &n);
	assert_int_equal(n, 10000);
	assert_true(io_queued(a.io) > BIG / 2);
	assert_int_equal(a.lowat, 0);
	b.leave = false;
	io_consume(b.io, n);
	run_until(b.bytes == BIG - 10000);
	assert_memory_equal(buf_head(&b.got), data + 10000, BIG - 10000);
	assert_true(a.lowat > 0);
	seen_done(&a);
	seen_done(&b);
}

static void
holds_back_plain(void **state)
{
	hold_back(false);
}

static void
holds_back_tls(void **state)
{
	hold_back(true);
}

static void
pauses_and_resumes(void **state)
{
	int tls;

	for (tls = 0; tls < 2; tls++) {
		io_pair(&a, &b, tls);
		run_for(20);
		io_pause(b.io);
		io_write(a.io, "hello", 5);
		io_shutdown(a.io);
		run_for(20);
		assert_int_equal(b.data + b.eof, 0);
		io_resume(b.io);
		run_until(b.eof == 1);
		assert_int_equal(b.got.len, 5);
		seen_done(&a);
		seen_done(&b);
	}
}

static void
pause_at_once(struct io *io, enum io_event event, void *arg)
{
	see(io, event, arg);
	io_pause(io);
}

/* The end that came with the last bytes waits, too. */
static void
a_pause_holds_the_end_back(void **state)
{
	int tls;

	for (tls = 0; tls < 2; tls++) {
		io_pair(&a, &b, tls);
		run_until(!tls || b.secured == 1);
		io_set_cb(b.io, pause_at_once, &b);
		b.leave = true;
		io_write(a.io, "hello", 5);
		io_shutdown(a.io);
		run_for(20);
		assert_int_equal(b.data, 1);
		assert_int_equal(b.eof, 0);
		io_set_cb(b.io, see, &b);
		b.leave = false;
		io_resume(b.io);
		run_until(b.eof == 1);
		assert_int_equal(b.got.len, 5);
		seen_done(&a);
		seen_done(&b);
	}
}

static void
partly_consumed_input_stays(void **state)
{
	size_t n;

	io_pair(&a, &b, false);
	b.leave = true;
	io_write(a.io, "abc", 3);
	run_until(b.data == 1);
	io_input(b.io, &n);
	assert_int_equal(n, 3);
	io_consume(b.io, 1);
	run_for(5);
	assert_int_equal(b.data, 1); /* not again without more */
	io_write(a.io, "def", 3);
	run_until(b.data == 2);
	assert_memory_equal(io_input(b.io, &n), "bcdef", 5);
	assert_int_equal(n, 5);
	seen_done(&a);
	seen_done(&b);
}

static void
a_new_owner_hears_what_is_there(void **state)
{
	struct seen c = { .keep = true };

	buf_init(&c.got, 1000);
	io_pair(&a, &b, false);
	b.leave = true;
	io_write(a.io, "abc", 3);
	io_shutdown(a.io);
	run_until(b.eof == 1);
	io_set_cb(b.io, see, &c);
	assert_int_equal(c.data, 0);
	run_until(c.eof == 1);
	assert_memory_equal(buf_head(&c.got), "abc", 3);
	buf_done(&c.got);
	seen_done(&a);
	seen_done(&b);
}

static void
free_at_once(struct io *io, enum io_event event, void *arg)
{
	(*(int *)arg)++;
	io_free(io);
}

static void
may_be_freed_in_its_callback(void **state)
{
	int calls = 0, tls;

	for (tls = 0; tls < 2; tls++) {
		calls = 0;
		io_pair(&a, &b, tls);
		io_set_cb(b.io, free_at_once, &calls);
		io_write(a.io, "abc", 3);
		run_until(calls == 1);
		run_for(5);
		assert_int_equal(calls, 1);
		b.io = NULL;
		seen_done(&a);
		seen_done(&b);
	}
}

static void
close_sends_what_is_queued(void **state)
{
	_cleanup_(freep)
	char *data = pattern(BIG);
	int tls;

	for (tls = 0; tls < 2; tls++) {
		io_pair(&a, &b, tls);
		run_for(20);
		io_write(b.io, "unread", 6); /* must not reset the rest */
		io_write(a.io, data, BIG);
		io_close(take_ptr(a.io));
		run_until(b.eof == 1);
		assert_int_equal(b.got.len, BIG);
		assert_int_equal(b.error, 0);
		seen_done(&a);
		seen_done(&b);
		run_for(20);
	}
}

static void
timeouts(void **state)
{
	io_pair(&a, &b, false);
	io_set_timeout(b.io, 60);
	io_set_deadline(a.io, 60);
	run_for(40);
	io_write(a.io, "x", 1); /* moves the timeout, not the deadline */
	run_for(40);
	assert_int_equal(b.timeout, 0);
	assert_int_equal(a.timeout, 1);
	run_until(b.timeout == 1);
	io_set_timeout(b.io, 0);
	run_for(100);
	assert_int_equal(a.timeout, 1);
	assert_int_equal(b.timeout, 1);
	seen_done(&a);
	seen_done(&b);
}

static void
errors_come_after_what_the_peer_said(void **state)
{
	int i;

	io_pair(&a, &b, false);
	io_pause(b.io);
	io_write(a.io, "go away", 7);
	run_for(5);
	io_free(take_ptr(a.io));
	io_resume(b.io);
	for (i = 0; i < 3; i++)
		io_write(b.io, "request", 7);
	run_until(b.error == 1);
	assert_int_equal(b.got.len, 7);
	assert_int_equal(io_error(b.io)->code, ERR_NETWORK);
	seen_done(&a);
	seen_done(&b);
}

static void
tls_refuses(void **state)
{
	struct tls_ctx *strict = tls_ctx_new_client(NULL, true, &err);
	int fds[2];

	/* An authority that nobody knows. */
	assert_non_null(strict);
	io_pair(&a, &b, true);
	seen_done(&a);
	seen_done(&b);
	io_pair(&a, &b, false);
	io_tls_accept(b.io, server_ctx);
	io_tls_connect(a.io, strict, "localhost");
	tls_ctx_unref(strict);
	run_until(a.error == 1 && b.error == 1);
	assert_int_equal(io_error(a.io)->code, ERR_CERTIFICATE);
	assert_int_equal(io_error(b.io)->code, ERR_TLS);
	seen_done(&a);
	seen_done(&b);
	/* The right authority, the wrong name. */
	io_pair(&a, &b, false);
	io_tls_accept(b.io, server_ctx);
	io_tls_connect(a.io, client_ctx, "elsewhere.example");
	run_until(a.error == 1);
	assert_int_equal(io_error(a.io)->code, ERR_CERTIFICATE);
	seen_done(&a);
	seen_done(&b);
	/* No TLS at all; and a peer that goes in the middle. */
	io_pair(&a, &b, false);
	io_tls_accept(b.io, server_ctx);
	io_write(a.io, "GET / HTTP/1.1\r\n\r\n", 18);
	run_until(b.error == 1);
	seen_done(&a);
	seen_done(&b);
	stream_pair(fds);
	memset(&b, 0, sizeof(b));
	b.io = io_new(loop, fds[1], see, &b);
	io_tls_accept(b.io, server_ctx);
	assert_int_equal(write(fds[0], "\x16\x03", 2), 2);
	close(fds[0]);
	run_until(b.error == 1);
	seen_done(&b);
}

/* Where client certificates are asked for, nobody comes in without. */
static void
requires_client_certificates(void **state)
{
	const char *const names[] = { "localhost", NULL };
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	struct tls_ctx *mutual;

	assert_ok(tls_self_signed(names, 7, &cert, &key, &err));
	mutual = tls_ctx_new_server(cert, key, cert, &err);
	assert_non_null(mutual);
	assert_null(tls_ctx_new_server(cert, key, "nothing", &err));
	assert_null(tls_ctx_new_server("nothing", key, NULL, &err));
	assert_int_equal(err.code, ERR_TLS);
	io_pair(&a, &b, true);
	seen_done(&a);
	seen_done(&b);
	assert_null(tls_ctx_new_server(cert, "nothing", NULL, &err));
	io_pair(&a, &b, false);
	io_tls_accept(b.io, mutual);
	io_tls_connect(a.io, client_ctx, "localhost");
	io_write(a.io, "x", 1);
	tls_ctx_unref(mutual);
	run_until(b.error == 1);
	assert_int_equal(b.bytes, 0);
	seen_done(&a);
	seen_done(&b);
}

/* Of an authority that both ends know. */
static void
knows_who_the_peer_is(void **state)
{
	_cleanup_(freep)
	char *ca = NULL;
	_cleanup_(wipe_strp)
	char *ca_key = NULL;
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	struct tls_ctx *mutual, *peer;

	assert_ok(tls_ca_new("farm", 7, &ca, &ca_key, &err));
	assert_ok(tls_ca_issue(ca, ca_key, "node2", 7, &cert, &key, &err));
	assert_non_null(mutual = tls_ctx_new_server(cert, key, ca, &err));
	assert_non_null(peer = tls_ctx_new_peer(cert, key, ca, &err));
	io_pair(&a, &b, false);
	assert_false(io_tls_peer_is(b.io, "node2"));
	io_tls_accept(b.io, mutual);
	io_tls_connect(a.io, peer, "node2");
	tls_ctx_unref(mutual);
	tls_ctx_unref(peer);
	run_until(a.secured == 1 && b.secured == 1);
	assert_true(io_tls_peer_is(b.io, "node2"));
	assert_true(io_tls_peer_is(a.io, "node2"));
	assert_false(io_tls_peer_is(b.io, "node"));
	assert_false(io_tls_peer_is(b.io, "node22"));
	assert_false(io_tls_peer_is(b.io, "farm"));
	assert_false(io_tls_peer_is(b.io, "127.0.0.1"));
	seen_done(&a);
	seen_done(&b);
	/* Who has shown none is nobody. */
	io_pair(&a, &b, true);
	run_until(b.secured == 1);
	assert_false(io_tls_peer_is(b.io, "localhost"));
	assert_true(io_tls_peer_is(a.io, "127.0.0.1"));
	seen_done(&a);
	seen_done(&b);
}

static void
a_context_may_go_before_its_connections(void **state)
{
	io_pair(&a, &b, true);
	tls_ctx_unref(take_ptr(server_ctx));
	tls_ctx_unref(take_ptr(client_ctx));
	io_write(a.io, "x", 1);
	run_until(b.got.len == 1);
	seen_done(&a);
	seen_done(&b);
}

static int accepted = -1;

static void
on_accept(int fd, void *arg)
{
	if (accepted >= 0)
		close(accepted);
	accepted = fd;
}

static void
connects(void **state)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = "/nonexistent/socket" };
	socklen_t len = sizeof(to);
	struct listener *l;
	int fd;

	assert_ok(listen_tcp("127.0.0.1:0", false, &fd, &err));
	getsockname(fd, (struct sockaddr *)&to, &len);
	l = listener_new(loop, fd, 0, on_accept, NULL);
	memset(&a, 0, sizeof(a));
	a.io = io_connect(loop, (struct sockaddr *)&to, len, see, &a, &err);
	assert_non_null(a.io);
	assert_int_equal(a.connected, 0);
	run_until(a.connected == 1 && accepted >= 0);
	assert_int_equal(strncmp(io_peer(a.io), "127.0.0.1:", 10), 0);
	seen_done(&a);
	close(accepted);
	accepted = -1;
	listener_free(l);
	/* Nobody listens any more. */
	memset(&a, 0, sizeof(a));
	a.io = io_connect(loop, (struct sockaddr *)&to, len, see, &a, &err);
	if (a.io != NULL)
		run_until(a.error == 1);
	seen_done(&a);
	assert_null(io_connect(
	    loop, (struct sockaddr *)&un, sizeof(un), see, &a, &err));
	assert_err(listen_tcp("nonsense", false, &fd, &err), CONFIG, "*:8443");
	assert_err(
	    listen_tcp("1.2.3.4:99999", false, &fd, &err), CONFIG, "address");
}

static void
stops_accepting_at_the_limit(void **state)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	socklen_t len = sizeof(to);
	struct listener *l;
	int fd, c[2], first;

	assert_ok(listen_tcp("127.0.0.1:0", false, &fd, &err));
	getsockname(fd, (struct sockaddr *)&to, &len);
	l = listener_new(loop, fd, 1, on_accept, NULL);
	c[0] = socket(AF_INET, SOCK_STREAM, 0);
	c[1] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(c[0], (struct sockaddr *)&to, len), 0);
	assert_int_equal(connect(c[1], (struct sockaddr *)&to, len), 0);
	run_until(accepted >= 0);
	first = accepted;
	run_for(20);
	assert_int_equal(accepted, first);
	accepted = -1;
	close(first);
	listener_closed_one(l);
	run_until(accepted >= 0);
	close(accepted);
	accepted = -1;
	close(c[0]);
	close(c[1]);
	listener_free(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		io_test(carries_plain),
		io_test(carries_tls),
		io_test(holds_back_plain),
		io_test(holds_back_tls),
		io_test(pauses_and_resumes),
		io_test(a_pause_holds_the_end_back),
		io_test(partly_consumed_input_stays),
		io_test(a_new_owner_hears_what_is_there),
		io_test(may_be_freed_in_its_callback),
		io_test(close_sends_what_is_queued),
		io_test(timeouts),
		io_test(errors_come_after_what_the_peer_said),
		io_test(tls_refuses),
		io_test(requires_client_certificates),
		io_test(knows_who_the_peer_is),
		io_test(a_context_may_go_before_its_connections),
		io_test(connects),
		io_test(stops_accepting_at_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
