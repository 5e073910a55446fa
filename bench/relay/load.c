/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clients of the relay benchmark, all with TLS 1.3 and AES-128-GCM.
 *
 * usage: bench_load PORT raw|http down|up BYTES CONNECTIONS
 *        bench_load PORT raw|http open NUMBER CONCURRENT
 *        bench_load PORT raw|http hold NUMBER CONCURRENT
 *
 * raw: the display speaks right after the handshake; http: after a request
 * with an upgrade, as QVD's clients make it. down and up: that many bytes on
 * each connection. open: connects, has a line echoed, closes, NUMBER times.
 * hold: the same without closing, says "ready" and waits for the end of its
 * standard input. Prints the seconds that it took.
 */
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "net/http_client.h"
#include "net/io.h"
#include "net/tls.h"

#define FILES     65536
#define CHUNK     (64 * 1024)
#define TARGET    "/qvd/connect_to_vm?id=1&qvd.client.link=lan"
#define AUTHORIZE "Authorization: Basic YmVuY2g6YmVuY2g=\r\n"

enum what { DOWN, UP, OPEN, HOLD };

static struct loop *loop;
static struct tls_ctx *ctx;
static struct sockaddr_in to;
static bool http;
static enum what what;
static int64_t number, started, finished, at_once;
static int64_t since_ms;

struct link {
	struct io *io;
	struct http_client *client;
	uint64_t left;
	bool done;
};

static void start_one(void);

static _noreturn_ void
die(const char *text)
{
	fprintf(stderr, "bench_load: %s\n", text);
	exit(1);
}

static void
on_stdin(int events, void *arg)
{
	exit(0);
}

static void
all_done(void)
{
	static struct watch input;

	printf("%s %.3f\n", what == HOLD ? "ready" : "took",
	    (double)(time_now_ms() - since_ms) / 1000);
	fflush(stdout);
	if (what != HOLD) {
		loop_stop(loop);
		return;
	}
	watch_init(&input, loop, STDIN_FILENO, on_stdin, NULL);
	watch_set(&input, WATCH_READ);
}

static void
link_done(struct link *l)
{
	if (l->done)
		return;
	l->done = true;
	finished++;
	if (what != HOLD) {
		io_close(l->io);
		free(l);
	}
	if (finished == number)
		all_done();
	else if (started < number)
		start_one();
}

static void
push(struct link *l)
{
	static char zeros[CHUNK];
	size_t n;

	while (l->left > 0 && io_queued(l->io) < CHUNK) {
		n = l->left < CHUNK ? (size_t)l->left : CHUNK;
		io_write(l->io, zeros, n);
		l->left -= n;
	}
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	struct link *l = arg;
	size_t n;

	switch (event) {
	case IO_DATA:
		io_input(io, &n);
		io_consume(io, n);
		if (what == DOWN)
			l->left -= n < l->left ? n : l->left;
		if (what != DOWN || l->left == 0)
			link_done(l);
		break;
	case IO_LOWAT:
		if (what == UP)
			push(l);
		break;
	case IO_EOF:
	case IO_ERROR:
		die(event == IO_EOF ? "the relay closed a session"
				    : io_error(io)->msg);
	case IO_CONNECTED:
	case IO_SECURED:
	case IO_TIMEOUT:
		break;
	}
}

static void
speak(struct link *l)
{
	char line[64];

	io_set_cb(l->io, on_io, l);
	if (what == DOWN || what == UP)
		snprintf(line, sizeof(line), "%s %llu\n",
		    what == DOWN ? "send" : "take",
		    (unsigned long long)l->left);
	else
		snprintf(line, sizeof(line), "echo\nx");
	io_write(l->io, line, strlen(line));
	if (what == UP)
		push(l);
}

static void
on_response(const struct http_response *res, void *arg)
{
	die(res->body);
}

static void
on_error(const struct err *err, void *arg)
{
	die(err->msg);
}

static void
on_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	struct link *l = arg;

	l->io = io;
	l->client = NULL;
	speak(l);
}

static const struct http_client_handlers handlers = {
	.on_response = on_response,
	.on_upgrade = on_upgrade,
	.on_error = on_error,
};

static void
ask_upgrade(struct link *l)
{
	struct http_client_request req = { .method = "GET",
		.target = TARGET,
		.upgrade = "QVD/1.0",
		.headers = AUTHORIZE };

	l->client = http_client_new(l->io);
	http_client_send(l->client, &req, &handlers, l);
}

static void
on_handshake(struct io *io, enum io_event event, void *arg)
{
	struct link *l = arg;

	if (event == IO_ERROR)
		die(io_error(io)->msg);
	if (event != IO_SECURED)
		return;
	if (http)
		ask_upgrade(l);
	else
		speak(l);
}

static void
start_one(void)
{
	struct link *l = new0(struct link);
	struct err err = { 0 };

	started++;
	l->left = (uint64_t)at_once;
	l->io = io_connect(
	    loop, (struct sockaddr *)&to, sizeof(to), on_handshake, l, &err);
	if (l->io == NULL)
		die(err.msg);
	io_tls_connect(l->io, ctx, "localhost");
}

static bool
parse(int argc, char **argv)
{
	static const char *const words[] = { "down", "up", "open", "hold" };
	int64_t a, b;
	int port, i;

	if (argc != 6 || !str_to_int(argv[1], 1, 65535, &port) ||
	    !str_to_i64(argv[4], 1, INT64_MAX, &a) ||
	    !str_to_i64(argv[5], 1, 100000, &b))
		return false;
	to = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	http = str_eq(argv[2], "http");
	for (i = 0; i < 4 && !str_eq(argv[3], words[i]); i++)
		;
	what = (enum what)i;
	/* down, up: BYTES on each of CONNECTIONS; else NUMBER, CONCURRENT. */
	number = what == DOWN || what == UP ? b : a;
	at_once = what == DOWN || what == UP ? a : b;
	return i < 4;
}

int
main(int argc, char **argv)
{
	struct rlimit files = { FILES, FILES };
	struct err err = { 0 };
	int64_t i, first;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: bench_load PORT raw|http "
				"down|up|open|hold N M\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	loop = loop_new();
	ctx = tls_ctx_new_client(NULL, false, &err);
	if (ctx == NULL ||
	    SSL_CTX_set_min_proto_version(tls_ctx_ssl(ctx), TLS1_3_VERSION) !=
		1 ||
	    SSL_CTX_set_ciphersuites(
		tls_ctx_ssl(ctx), "TLS_AES_128_GCM_SHA256") != 1)
		die("TLS");
	since_ms = time_now_ms();
	first =
	    what == DOWN || what == UP || at_once > number ? number : at_once;
	for (i = 0; i < first; i++)
		start_one();
	loop_run(loop);
	return 0;
}
