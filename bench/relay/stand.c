/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What stands around the relay while it is measured: it starts workers of
 * qvd-l7r as the router's parent does, is the broker that they ask (everybody
 * may, and every VM runs), and is the VM: an agent that speaks
 * HTTP, and a display that sends, swallows or echoes bytes. The same displays
 * listen on two unix sockets for HAProxy, plain and behind an HTTP upgrade.
 *
 * usage: bench_stand PROGRAM WORKERS PORT PEM RAW_SOCKET HTTP_SOCKET
 *
 * Writes the certificate and its key to PEM, says "ready <pids of the
 * workers>" and runs until its standard input ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "loop/child.h"
#include "net/http_server.h"
#include "net/listen.h"
#include "net/rpc.h"
#include "net/tls.h"

#define CHUNK       (128 * 1024)
#define FILES       65536
#define LINE_MAX_   64
#define WORKERS_MAX 64

static struct loop *loop;
static char zeros[CHUNK];
static int64_t last_generation;
static int workers, workers_ready;
static int pids[WORKERS_MAX];

static _noreturn_ void
die(const struct err *err)
{
	fprintf(stderr, "bench_stand: %s\n", err->msg);
	exit(1);
}

/* A display. The client's first line says what it does:
 *	"send N\n"  N bytes down, "take N\n" N bytes up and then "done\n",
 *	"echo\n"    each byte back */
struct display {
	struct io *io;
	bool told, echo, take;
	uint64_t left;
};

static void
fill(struct display *d)
{
	size_t n;

	while (d->told && !d->take && d->left > 0 && io_queued(d->io) < CHUNK) {
		n = d->left < CHUNK ? (size_t)d->left : CHUNK;
		io_write(d->io, zeros, n);
		d->left -= n;
	}
}

static void
understand(struct display *d)
{
	char line[LINE_MAX_];
	const char *in, *nl;
	size_t len;
	int64_t n;

	in = io_input(d->io, &len);
	nl = memchr(in, '\n', len);
	if (nl == NULL || nl - in >= LINE_MAX_)
		return;
	memcpy(line, in, (size_t)(nl - in));
	line[nl - in] = '\0';
	io_consume(d->io, (size_t)(nl - in) + 1);
	d->told = true;
	d->echo = str_eq(line, "echo");
	d->take = str_starts(line, "take ");
	if (!d->echo && str_to_i64(line + 5, 1, INT64_MAX, &n))
		d->left = (uint64_t)n;
	fill(d);
}

static void
on_display(struct io *io, enum io_event event, void *arg)
{
	struct display *d = arg;
	const char *in;
	size_t len;

	if (event == IO_EOF || event == IO_ERROR) {
		io_free(io);
		free(d);
		return;
	}
	if (event == IO_LOWAT)
		fill(d);
	if (event != IO_DATA)
		return;
	if (!d->told)
		understand(d);
	in = io_input(io, &len);
	if (d->echo)
		io_write(io, in, len);
	if (d->take && len > 0 && d->left > 0) {
		d->left -= len < d->left ? len : d->left;
		if (d->left == 0)
			io_write(io, "done\n", 5);
	}
	io_consume(io, len);
}

static void
display_new(struct io *io)
{
	struct display *d = new0(struct display);

	d->io = io;
	io_set_cb(io, on_display, d);
}

/* The agent */

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	if (str_eq(req->path, "/session"))
		http_respond_json(conn, 200,
		    json_pack("{s:s, s:b, s:{}}", "state", "listening",
			"resumed", 0, "ms"));
	else
		display_new(http_upgrade(conn, arg));
}

static const struct http_handlers agent = { .on_request = on_request };

static void
agent_new(int fd, const char *headers)
{
	http_conn_new(io_new(loop, fd, NULL, NULL), &http_server_defaults,
	    &agent, (void *)(uintptr_t)headers);
}

/* The broker */

static void
op_yes(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	rpc_reply(call, NULL, -1);
}

static void
op_connect(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	static const char key[] = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
				  "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk";
	struct err err = { 0 };
	int fds[2];

	closep(&fd);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		fds) < 0) {
		err_set(&err, ERR_SYSTEM, "socketpair");
		rpc_fail(call, &err);
		return;
	}
	agent_new(fds[0], "");
	rpc_reply(call,
	    json_pack("{s:I, s:s, s:{s:s, s:i}, s:{}}", "generation",
		(json_int_t)++last_generation, "key", key, "user", "name",
		"bench", "uid", 2000, "properties"),
	    fds[1]);
}

static const struct rpc_op broker_ops[] = {
	{ "login", op_yes },
	{ "connect", op_connect },
	{ "connected", op_yes },
	{ "disconnected", op_yes },
	{ "failed", op_yes },
	{ "closed", op_yes },
	{ "sessions", op_yes },
	{ .name = NULL },
};

/* The parent */

static void
on_gone(struct rpc *rpc, const struct err *why, void *arg)
{
	die(why);
}

static void
on_child(struct child *child, int status, bool timed_out, void *arg)
{
	struct err err = { 0 };

	if (child_status_err("worker", status, timed_out, &err) < 0)
		die(&err);
	loop_stop(loop);
}

static void
on_told(const json_t *result, int fd, const struct err *why, void *arg)
{
	int i;

	if (why != NULL)
		die(why);
	if (++workers_ready < workers)
		return;
	printf("ready");
	for (i = 0; i < workers; i++)
		printf(" %d", pids[i]);
	printf("\n");
	fflush(stdout);
}

static void
start_worker(int i, const char *program, int listen_fd, const char *cert,
    const char *key)
{
	const char *argv[] = { program, "--role", "worker", "--index", "0",
		NULL };
	struct child_spec spec = { .path = program,
		.argv = argv,
		.fds = { -1, -1, STDERR_FILENO, -1 },
		.n_fds = 4,
		.cwd = "/var/empty" };
	int parent[2], broker[2];
	struct err err = { 0 };
	struct child *child;
	struct rpc *rpc;

	if (rpc_pair(parent, &err) < 0 || rpc_pair(broker, &err) < 0)
		die(&err);
	if (access(spec.cwd, X_OK) < 0)
		spec.cwd = "/proc/self/fdinfo"; /* as empty for a chroot */
	spec.fds[3] = parent[1];
	child = child_spawn(loop, &spec, on_child, NULL, &err);
	if (child == NULL)
		die(&err);
	pids[i] = (int)child_pid(child);
	close(parent[1]);
	rpc = rpc_new(loop, parent[0], NULL, on_gone, NULL);
	rpc_new(loop, broker[0], broker_ops, on_gone, NULL);
	rpc_tell(rpc, "setup", NULL, dup(listen_fd));
	rpc_tell(
	    rpc, "tls", json_pack("{s:s, s:s}", "cert", cert, "key", key), -1);
	rpc_ask(rpc, "peer",
	    json_pack("{s:s, s:i}", "role", "broker", "index", 0), broker[1],
	    10000, on_told, NULL);
}

static void
on_raw(int fd, void *arg)
{
	display_new(io_new(loop, fd, NULL, NULL));
}

static void
on_http(int fd, void *arg)
{
	agent_new(fd, "Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n");
}

static void
on_stdin(int events, void *arg)
{
	exit(0); /* the worker sees its links close */
}

int
main(int argc, char **argv)
{
	const char *const names[] = { "localhost", "127.0.0.1", NULL };
	struct rlimit files = { FILES, FILES };
	struct watch input;
	struct err err = { 0 };
	char *cert, *key, *pem, *address;
	int fd, raw, http, i;

	if (argc != 7 || !str_to_int(argv[2], 1, WORKERS_MAX, &workers)) {
		fprintf(stderr, "usage: bench_stand PROGRAM WORKERS PORT PEM "
				"RAW_SOCKET HTTP_SOCKET\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	loop = loop_new();
	address = xasprintf("127.0.0.1:%s", argv[3]);
	if (tls_self_signed(names, 2, &cert, &key, &err) < 0)
		die(&err);
	pem = xasprintf("%s%s", cert, key);
	if (fs_write_file(argv[4], pem, strlen(pem), 0600, &err) < 0 ||
	    listen_tcp(address, false, &fd, &err) < 0 ||
	    listen_unix(argv[5], 0666, (gid_t)-1, &raw, &err) < 0 ||
	    listen_unix(argv[6], 0666, (gid_t)-1, &http, &err) < 0)
		die(&err);
	listener_new(loop, raw, 0, on_raw, NULL);
	listener_new(loop, http, 0, on_http, NULL);
	for (i = 0; i < workers; i++)
		start_worker(i, argv[1], fd, cert, key);
	watch_init(&input, loop, STDIN_FILENO, on_stdin, NULL);
	watch_set(&input, WATCH_READ);
	loop_run(loop);
	return 0;
}
