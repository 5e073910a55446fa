/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "image/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"

void
wire_init(struct wire *w, int fd, int idle_ms, int64_t rate)
{
	memset(w, 0, offsetof(struct wire, input));
	w->fd = fd;
	w->idle_ms = idle_ms;
	w->rate = rate;
	w->since_ms = time_now_ms();
}

static int
wait_for(const struct wire *w, short events, struct err *err)
{
	struct pollfd p = { .fd = w->fd, .events = events };
	int n;

	do
		n = poll(&p, 1, w->idle_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, ERR_SYSTEM, errno, "poll");
	return n > 0 ? 0
		     : err_set(err, ERR_TIMEOUT,
			   "the other node has said nothing for %d s",
			   w->idle_ms / 1000);
}

/* Holds the average since the beginning to the limit; whoever sends is held
 * by full buffers. */
static void
pace(const struct wire *w)
{
	int64_t due, ms;
	struct timespec pause;

	if (w->rate <= 0)
		return;
	due = w->since_ms + (int64_t)((double)w->in * 1000 / (double)w->rate);
	ms = due - time_now_ms();
	if (ms <= 0)
		return;
	pause.tv_sec = ms / 1000;
	pause.tv_nsec = ms % 1000 * 1000000;
	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

/* The number of bytes that came; 0: the other end closed it. */
static ssize_t
fill(struct wire *w, struct err *err)
{
	ssize_t n;
	int r;

	do {
		if ((r = wait_for(w, POLLIN, err)) < 0)
			return r;
		n = recv(w->fd, w->input, sizeof(w->input), MSG_DONTWAIT);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n < 0 && errno == ECONNRESET)
		n = 0;
	if (n < 0)
		return err_errno(
		    err, ERR_NETWORK, errno, "read from the other node");
	w->start = 0;
	w->len = (size_t)n;
	w->in += (size_t)n;
	pace(w);
	return n;
}

int
wire_peek(
    struct wire *w, const unsigned char **ret, size_t *ret_n, struct err *err)
{
	ssize_t n = 0;

	if (w->len == 0 && (n = fill(w, err)) < 0)
		return (int)n;
	if (w->len == 0)
		return err_set(err, ERR_NETWORK,
		    "the other node ended the transfer before it was "
		    "complete");
	*ret = w->input + w->start;
	*ret_n = w->len;
	return 0;
}

void
wire_consume(struct wire *w, size_t n)
{
	w->start += n;
	w->len -= n;
}

int
wire_read(struct wire *w, void *buf, size_t n, struct err *err)
{
	const unsigned char *p = NULL;
	size_t have = 0;
	int r;

	while (n > 0) {
		if ((r = wire_peek(w, &p, &have, err)) < 0)
			return r;
		if (have > n)
			have = n;
		memcpy(buf, p, have);
		wire_consume(w, have);
		buf = (char *)buf + have;
		n -= have;
	}
	return 0;
}

int
wire_read_number(struct wire *w, size_t bytes, uint64_t *ret, struct err *err)
{
	unsigned char b[8];
	uint64_t v = 0;
	int r;

	if ((r = wire_read(w, b, bytes, err)) < 0)
		return r;
	while (bytes > 0)
		v = v << 8 | b[--bytes];
	*ret = v;
	return 0;
}

int
wire_at_end(struct wire *w, struct err *err)
{
	ssize_t n = w->len > 0 ? 1 : fill(w, err);

	return n < 0 ? (int)n : n == 0;
}

static int
send_all(struct wire *w, const unsigned char *p, size_t n, struct err *err)
{
	ssize_t sent;
	int r;

	while (n > 0) {
		sent = send(w->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) {
			if ((r = wait_for(w, POLLOUT, err)) < 0)
				return r;
			continue;
		}
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return err_errno(
			    err, ERR_NETWORK, errno, "send to the other node");
		p += sent;
		n -= (size_t)sent;
		w->out += (size_t)sent;
	}
	return 0;
}

int
wire_flush(struct wire *w, struct err *err)
{
	size_t n = w->queued;

	w->queued = 0;
	return send_all(w, w->output, n, err);
}

int
wire_write(struct wire *w, const void *buf, size_t n, struct err *err)
{
	int r;

	if (n > sizeof(w->output) - w->queued) {
		if ((r = wire_flush(w, err)) < 0)
			return r;
		if (n > sizeof(w->output))
			return send_all(w, buf, n, err);
	}
	memcpy(w->output + w->queued, buf, n);
	w->queued += n;
	return 0;
}

int
wire_write_number(struct wire *w, uint64_t v, size_t bytes, struct err *err)
{
	unsigned char b[8];
	size_t i;

	for (i = 0; i < bytes; i++)
		b[i] = (unsigned char)(v >> (8 * i));
	return wire_write(w, b, bytes, err);
}
