/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The relay between a real TLS peer and a process in the viewer's place. */
#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "client/relay.h"
#include "client/trust.h"
#include "net/tls.h"

#define MANY (3 * 1024 * 1024)

/* What the peer and the viewer do; each in a process of its own. */
typedef void (*peer_fn)(SSL *ssl);
typedef void (*viewer_fn)(int nx, int log);

struct bench {
	struct conn conn;
	struct viewer viewer;
	struct buf early;
	int cancel_fd;
	int started;
	pid_t peer;
};

static void
on_started(void *arg)
{
	struct bench *b = arg;

	b->started++;
}

static int
listen_tcp(int *ret_port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	getsockname(fd, (struct sockaddr *)&addr, &len);
	*ret_port = ntohs(addr.sin_port);
	return fd;
}

static pid_t
fork_peer(int listener, peer_fn fn, const char *cert, const char *key)
{
	struct err err = { 0 };
	pid_t pid = fork();
	struct tls_ctx *ctx;
	SSL *ssl;

	if (pid != 0)
		return pid;
	alarm(40);
	ctx = tls_ctx_new_server(cert, key, NULL, &err);
	ssl = SSL_new(tls_ctx_ssl(ctx));
	SSL_set_fd(ssl, accept(listener, NULL, NULL));
	if (SSL_accept(ssl) != 1)
		_exit(1);
	fn(ssl);
	_exit(0);
}

static void
fork_viewer(struct viewer *v, viewer_fn fn)
{
	int nx[2], log[2];

	viewer_init(v);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, nx), 0);
	assert_int_equal(pipe(log), 0);
	v->pid = fork();
	if (v->pid == 0) {
		setpgid(0, 0);
		alarm(40);
		close(nx[0]);
		close(log[0]);
		fn(nx[1], log[1]);
		_exit(0);
	}
	setpgid(v->pid, v->pid);
	close(nx[1]);
	close(log[1]);
	v->nx_fd = nx[0];
	v->log_fd = log[0];
	fcntl(v->nx_fd, F_SETFL, O_NONBLOCK);
	fcntl(v->log_fd, F_SETFL, O_NONBLOCK);
	v->pidfd = pidfd_open(v->pid, 0);
}

static void
bench_init(struct bench *b, peer_fn peer, viewer_fn viewer)
{
	static const char *const names[] = { "127.0.0.1", NULL };
	char path[] = "/tmp/qvd-test-known.XXXXXX", lock[64];
	char *cert, *key;
	struct err err = { 0 };
	struct trust trust;
	int port, listener = listen_tcp(&port), fd;

	memset(b, 0, sizeof(*b));
	assert_ok(tls_self_signed(names, 1, &cert, &key, &err));
	b->peer = fork_peer(listener, peer, cert, key);
	fork_viewer(&b->viewer, viewer);
	close(listener);
	b->cancel_fd = eventfd(0, EFD_NONBLOCK);
	conn_init(&b->conn, b->cancel_fd);
	buf_init(&b->early, 65536);
	fd = mkstemp(path);
	close(fd);
	trust_init(&trust, NULL, path, true);
	assert_ok(conn_open(
	    &b->conn, "127.0.0.1", port, &trust, time_now_ms() + 10000, &err));
	trust_done(&trust);
	unlink(path);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	unlink(lock);
	free(cert);
	wipe_str(key);
}

static void
bench_done(struct bench *b)
{
	int status;

	viewer_done(&b->viewer);
	conn_close(&b->conn);
	buf_done(&b->early);
	close(b->cancel_fd);
	kill(b->peer, SIGKILL);
	waitpid(b->peer, &status, 0);
}

static int
bench_run(struct bench *b, enum relay_end *ret, struct err *err)
{
	return relay_run(
	    &b->conn, &b->viewer, &b->early, on_started, b, ret, err);
}

static void
say(int log, const char *line)
{
	if (write(log, line, strlen(line)) < 0)
		_exit(2);
}

/* Both ways at once, more than all buffers hold, with readers that start
 * late: nothing is lost, nobody waits for ever. */

static unsigned char
pattern(size_t i)
{
	return (unsigned char)(i * 7 + (i >> 10));
}

static void
peer_many(SSL *ssl)
{
	static unsigned char data[MANY];
	size_t i, got = 0, sent = 0;
	int n;

	for (i = 0; i < MANY; i++)
		data[i] = pattern(i);
	while (sent < MANY) { /* all of it before the first read */
		n = SSL_write(ssl, data + sent,
		    MANY - sent > 60000 ? 60000 : (int)(MANY - sent));
		if (n <= 0)
			_exit(3);
		sent += (size_t)n;
	}
	while (got < MANY) {
		n = SSL_read(ssl, data, sizeof(data));
		if (n <= 0)
			_exit(4);
		for (i = 0; i < (size_t)n; i++)
			if (data[i] != pattern(got + i))
				_exit(5);
		got += (size_t)n;
	}
	SSL_write(ssl, "!", 1); /* all arrived */
	SSL_read(ssl, data, 1);
}

static void
viewer_many(int nx, int log)
{
	static unsigned char data[MANY], in[65536];
	size_t i, got = 0, sent = 0, want = MANY + 6 + 1;
	struct pollfd p = { .fd = nx };
	ssize_t n;

	say(log, "Session: Session started at 'now'.\n");
	for (i = 0; i < MANY; i++)
		data[i] = pattern(i);
	poll(NULL, 0, 300);
	fcntl(nx, F_SETFL, O_NONBLOCK);
	while (got < want || sent < MANY) {
		p.events = (short)(POLLIN | (sent < MANY ? POLLOUT : 0));
		poll(&p, 1, -1);
		n = read(nx, in, sizeof(in));
		for (i = 0; n > 0 && i < (size_t)n; i++, got++) {
			if (got < 6 && in[i] != "EARLY\n"[got])
				_exit(6);
			if (got >= 6 && got < MANY + 6 &&
			    in[i] != pattern(got - 6))
				_exit(7);
		}
		if (n == 0)
			_exit(8);
		n = sent < MANY ? write(nx, data + sent, MANY - sent) : 0;
		if (n > 0)
			sent += (size_t)n;
	}
	_exit(0);
}

static void
test_many_bytes_both_ways(void **state)
{
	enum relay_end end = RELAY_LOST;
	struct err err = { 0 };
	struct bench b;

	bench_init(&b, peer_many, viewer_many);
	buf_append(&b.early, "EARLY\n", 6);
	assert_ok(bench_run(&b, &end, &err));
	assert_int_equal(end, RELAY_ENDED);
	assert_int_equal(b.started, 1);
	bench_done(&b);
}

/* The farm goes without the viewer having heard good-bye. */

static void
peer_vanish(SSL *ssl)
{
	SSL_write(ssl, "x", 1);
}

static void
viewer_until_eof(int nx, int log)
{
	char data[100];

	while (read(nx, data, sizeof(data)) > 0)
		;
	say(log, "Error: Connection with remote peer broken.\n");
}

static void
test_lost(void **state)
{
	enum relay_end end = RELAY_ENDED;
	struct err err = { 0 };
	struct bench b;

	bench_init(&b, peer_vanish, viewer_until_eof);
	assert_ok(bench_run(&b, &end, &err));
	assert_int_equal(end, RELAY_LOST);
	assert_int_equal(b.started, 0);
	bench_done(&b);
}

/* The viewer crashes; says why it can't; hangs while the user gives up. */

static void
peer_wait(SSL *ssl)
{
	char c;

	while (SSL_read(ssl, &c, 1) > 0)
		;
}

static void
viewer_crash(int nx, int log)
{
	raise(SIGABRT);
}

static void
viewer_no_display(int nx, int log)
{
	say(log, "Error: the X server ':9' has gone\n");
	_exit(VIEWER_EXIT_DISPLAY);
}

static void
viewer_disagrees(int nx, int log)
{
	say(log, "Error: Wrong version.\n");
}

static void
viewer_hang(int nx, int log)
{
	pause();
}

static void
test_viewer_fails(void **state)
{
	enum relay_end end;
	struct err err = { 0 };
	struct bench b;

	bench_init(&b, peer_wait, viewer_crash);
	assert_err(bench_run(&b, &end, &err), SESSION, "signal 6");
	bench_done(&b);
	bench_init(&b, peer_wait, viewer_disagrees);
	assert_err(bench_run(&b, &end, &err), SESSION, "Wrong version");
	bench_done(&b);
	bench_init(&b, peer_wait, viewer_no_display);
	assert_err(bench_run(&b, &end, &err), SESSION, "':9' has gone");
	bench_done(&b);
}

static void
test_cancel(void **state)
{
	enum relay_end end;
	struct err err = { 0 };
	struct bench b;

	bench_init(&b, peer_wait, viewer_hang);
	eventfd_write(b.cancel_fd, 1);
	assert_err(bench_run(&b, &end, &err), CANCELLED, "interrupted");
	bench_done(&b);
}

/* A line of the viewer longer than the buffer, and bytes that are no text. */

static void
viewer_babbles(int nx, int log)
{
	char data[5000];

	memset(data, 'x', sizeof(data));
	if (write(log, data, sizeof(data)) < 0)
		_exit(1);
	say(log, "\x1b[2J\xff\n");
	say(log, "Session: Session started at 'now'.\n");
}

static int lines;

static void
on_line(const char *line, void *arg)
{
	lines++;
	assert_null(strchr(line, 0x1b));
}

static void
test_log(void **state)
{
	enum relay_end end;
	struct err err = { 0 };
	struct bench b;

	bench_init(&b, peer_wait, viewer_babbles);
	b.viewer.on_line = on_line;
	assert_ok(bench_run(&b, &end, &err));
	assert_in_range(lines, 5, 7);
	bench_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many_bytes_both_ways),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_viewer_fails),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_log),
	};

	signal(SIGPIPE, SIG_DFL); /* the library must not raise it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
