/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The output half of an io: queue, watermark, half-close, close. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/io_priv.h"

#define CLOSE_MS  10000 /* for the queue and the peer's end together */
#define LINGER_MS 2000  /* for the peer to see our end */

ssize_t
io_transmit(struct io *io, const char *data, size_t n)
{
	size_t done = 0;
	ssize_t r;

	io->blocked = false;
	while (done < n) {
		r = io->is_pipe
			? write(io->fd, data + done, n - done)
			: send(io->fd, data + done, n - done, MSG_NOSIGNAL);
		if (r < 0 && errno == ENOTSOCK && !io->is_pipe) {
			io->is_pipe = true;
			continue;
		}
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN) {
			io->blocked = true;
			break;
		}
		if (r < 0) {
			io_fail_errno(io, errno, "send");
			return -1;
		}
		if ((size_t)r < n - done)
			io->blocked = true; /* it took what it has room for */
		done += (size_t)r;
		if (io->blocked)
			break;
	}
	if (done > 0)
		io->progress_at = loop_now_ms(io->loop);
	return (ssize_t)done;
}

/* Sends and encrypts until the queue is empty or the socket full. */
static void
flush_queue(struct io *io)
{
	size_t n;
	ssize_t r;

	while (io->out.len > 0 && !io->blocked && !io->broken) {
		n = io->out.len > IO_CHUNK ? IO_CHUNK : io->out.len;
		if (io->tls != NULL) {
			io_tls_write(io, buf_head(&io->out), n);
			if (io->broken)
				return;
			buf_consume(&io->out, n);
			continue;
		}
		n = io->out.len;
		r = io_transmit(io, buf_head(&io->out), n);
		if (r < 0)
			return;
		io->bytes_out += (size_t)r;
		buf_consume(&io->out, (size_t)r);
	}
	buf_release(&io->out);
}

static void
flush_ciphertext(struct io *io)
{
	struct buf *out = &io->tls->out;
	ssize_t r;

	if (out->len == 0)
		return;
	r = io_transmit(io, buf_head(out), out->len);
	if (r > 0)
		buf_consume(out, (size_t)r);
	buf_release(out);
}

/* Everything is sent: do what was waiting for that. */
static void
flushed(struct io *io)
{
	if (io->shutdown_wanted && !io->shutdown_done) {
		if (io->tls != NULL && !io->tls->close_sent) {
			io_tls_send_close(io);
			if (io->broken || io->tls->out.len > 0)
				return;
		}
		io->shutdown_done = true;
		if (!io->is_pipe)
			shutdown(io->fd, SHUT_WR);
	}
	if (io->closing && io->shutdown_done) {
		if (io->eof || io->is_pipe)
			io_free(io);
		else
			io_set_deadline(io, LINGER_MS);
	}
}

void
io_flush(struct io *io)
{
	bool handshaking = io->tls != NULL && io->tls->handshaking;

	if (io->connecting || io->freed || io->broken)
		return;
	io->blocked = false;
	if (io->tls != NULL)
		flush_ciphertext(io);
	if (!handshaking && !io->blocked && !io->broken)
		flush_queue(io);
	if (io->broken)
		return;
	if (io->was_high && io_queued(io) <= IO_LOWAT_BYTES) {
		/* Once when it gets low, once more when it is empty. */
		io->was_high = io_queued(io) > 0;
		io_emit(io, IO_LOWAT);
	}
	if (!io->freed && !io->broken && io_queued(io) == 0 && !handshaking)
		flushed(io);
	io_update(io);
}

static void
flush_now(void *arg)
{
	struct io *io = arg;

	io->flush_deferred = false;
	if (!io->freed && !io->blocked)
		io_flush(io);
}

static void
defer_flush(struct io *io)
{
	if (io->flush_deferred || io->blocked || io->freed)
		return;
	io->flush_deferred = true;
	loop_defer(io->loop, flush_now, io);
}

void
io_write(struct io *io, const void *data, size_t n)
{
	if (io->freed || io->broken || io->shutdown_wanted || n == 0)
		return;
	buf_append(&io->out, data, n);
	io->was_high = true;
	defer_flush(io);
}

void
io_write_now(struct io *io, const char *data, size_t n)
{
	bool ready = !io->connecting && !io->blocked && io->out.len == 0 &&
		     (io->tls == NULL ||
			 (!io->tls->handshaking && io->tls->out.len == 0));
	ssize_t r;

	if (!ready || io->broken || io->shutdown_wanted) {
		io_write(io, data, n);
		return;
	}
	if (io->tls != NULL) {
		io_tls_write(io, data, n);
	} else {
		r = io_transmit(io, data, n);
		if (r < 0)
			return;
		io->bytes_out += (size_t)r;
		buf_append(&io->out, data + r, n - (size_t)r);
	}
	if (io_queued(io) > 0) {
		io->was_high = true;
		io_update(io);
	}
}

size_t
io_queued(const struct io *io)
{
	return io->out.len + (io->tls == NULL ? 0 : io->tls->out.len);
}

void
io_shutdown(struct io *io)
{
	if (io->shutdown_wanted)
		return;
	io->shutdown_wanted = true;
	defer_flush(io);
}

static void
end_orphan(struct loop_orphan *o)
{
	io_free(container_of(o, struct io, orphan));
}

void
io_close(struct io *io)
{
	if (io == NULL || io->freed)
		return;
	if (io->broken || io->connecting ||
	    (io->tls != NULL && io->tls->handshaking)) {
		io_free(io);
		return;
	}
	io->cb = NULL;
	if (!io->closing) {
		io->orphan.end = end_orphan;
		loop_orphan_add(io->loop, &io->orphan);
	}
	io->closing = true;
	io->paused = false;
	io->fresh_len = 0;
	buf_done(&io->in);
	io->timeout_ms = 0;
	io->read_limit = IO_READ_LIMIT;
	io_set_deadline(io, CLOSE_MS);
	io_shutdown(io);
	defer_flush(io);
	io_update(io);
}
