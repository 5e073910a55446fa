/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/tunnel.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/mem.h"
#include "net/io_priv.h"

/* A peer that vanished without a word is found out after a minute. */
#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3
#define UNACKED_MS           60000

struct side {
	struct tunnel *tunnel;
	struct side *other;
	struct io *io;
	uint64_t bytes; /* read from here */
	bool eof;
};

struct tunnel {
	struct loop *loop;
	struct side a, b;
	tunnel_cb cb;
	void *arg;
	int64_t started_at;
	int64_t linger_ms;
	bool ended;
};

static void
destroy(void *arg)
{
	free(arg);
}

void
tunnel_get_stats(const struct tunnel *t, struct tunnel_stats *ret)
{
	ret->bytes_ab = t->a.bytes;
	ret->bytes_ba = t->b.bytes;
	ret->duration_ms = loop_now_ms(t->loop) - t->started_at;
}

static void
end(struct tunnel *t, const struct err *err)
{
	struct tunnel_stats stats;

	if (t->ended)
		return;
	t->ended = true;
	tunnel_get_stats(t, &stats);
	if (t->cb != NULL)
		t->cb(t, err, &stats, t->arg);
	/* What one side has sent still goes out to the other. */
	io_close(t->a.io);
	io_close(t->b.io);
	loop_defer(t->loop, destroy, t);
}

void
tunnel_set_linger(struct tunnel *t, int64_t ms)
{
	t->linger_ms = ms;
}

void
tunnel_free(struct tunnel *t)
{
	if (t == NULL || t->ended)
		return;
	t->ended = true;
	io_free(t->a.io);
	io_free(t->b.io);
	loop_defer(t->loop, destroy, t);
}

/* Straight from where the bytes were read to where they are sent; the next
 * ones are read when these have gone out. */
static void
on_data(struct side *from)
{
	struct io *to = from->other->io;
	const char *data;
	size_t len, n;

	while (io_queued(to) < IO_CHUNK &&
	       (data = io_input(from->io, &len)) != NULL && len > 0) {
		n = len > IO_CHUNK ? IO_CHUNK : len;
		io_write_now(to, data, n);
		from->bytes += n;
		io_consume(from->io, n);
	}
	if (io_queued(to) > 0)
		io_pause(from->io);
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	struct side *side = arg;
	struct tunnel *t = side->tunnel;

	if (t->ended)
		return;
	switch (event) {
	case IO_DATA:
		on_data(side);
		break;
	case IO_LOWAT:
		io_resume(side->other->io);
		break;
	case IO_EOF:
		side->eof = true;
		if (side->other->eof)
			end(t, NULL);
		else
			io_shutdown(side->other->io);
		if (!t->ended)
			io_set_deadline(side->other->io, t->linger_ms);
		break;
	case IO_ERROR:
		end(t, io_error(io));
		break;
	case IO_TIMEOUT:
		end(t, NULL);
		break;
	case IO_CONNECTED:
	case IO_SECURED:
		break;
	}
}

static void
keep_alive(int fd)
{
	int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S;
	int probes = KEEPALIVE_PROBES, unacked = UNACKED_MS;

	/* Fails on unix sockets, which need none of it. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(
	    fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof(unacked));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void
attach(struct side *side, struct side *other, struct tunnel *t, struct io *io)
{
	side->tunnel = t;
	side->other = other;
	side->io = io;
	keep_alive(io_fd(io));
	io_set_timeout(io, 0);
	io_set_deadline(io, 0);
	io_set_read_limit(io, IO_READ_LIMIT);
	io_set_cb(io, on_io, side);
	io_resume(io);
}

struct tunnel *
tunnel_new(
    struct loop *loop, struct io *a, struct io *b, tunnel_cb cb, void *arg)
{
	struct tunnel *t = new0(struct tunnel);

	t->loop = loop;
	t->cb = cb;
	t->arg = arg;
	t->started_at = loop_now_ms(loop);
	attach(&t->a, &t->b, t, a);
	attach(&t->b, &t->a, t, b);
	return t;
}
