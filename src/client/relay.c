/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "client/relay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/time.h"

#define HALF_BYTES (64 * 1024)
/* Bytes may flow without a pause: look at the rest now and then. */
#define TURNS_MAX 64
/* For the viewer to put the last picture on the screen and to end, once one
 * side has ended the stream. */
#define FAREWELL_MS 5000

struct half {
	size_t start, len;
	char data[HALF_BYTES];
};

struct relay {
	struct conn *conn;
	struct viewer *viewer;
	struct half down;  /* farm to viewer */
	struct half up;    /* viewer to farm */
	short conn_events; /* what the TLS socket must be ready for */
	short nx_events;
	bool farm_ended;   /* no more bytes from there */
	bool viewer_ended; /* nor from there */
	bool shut;         /* the viewer was told that the farm has ended */
	bool started;
	int64_t farewell_ms; /* deadline after one of them; 0: none */
};

static void
used(struct half *half, size_t n)
{
	half->start += n;
	half->len -= n;
	if (half->len == 0)
		half->start = 0;
}

/* TLS wants the socket readable or writable, whichever way we go. */
static bool
tls_result(struct relay *r, int n)
{
	if (n == CONN_AGAIN_READ)
		r->conn_events |= POLLIN;
	else if (n == CONN_AGAIN_WRITE)
		r->conn_events |= POLLOUT;
	else if (n == CONN_END && !r->farm_ended) {
		r->farm_ended = true;
		return true;
	}
	return n > 0;
}

static bool
move_down(struct relay *r)
{
	struct half *half = &r->down;
	bool progress = false;
	ssize_t n;

	if (half->len == 0 && !r->farm_ended) {
		n = conn_try_read(r->conn, half->data, HALF_BYTES);
		if (n > 0)
			half->len = (size_t)n;
		progress |= tls_result(r, (int)n);
	}
	if (half->len > 0) {
		n = send(r->viewer->nx_fd, half->data + half->start, half->len,
		    MSG_NOSIGNAL);
		if (n > 0)
			used(half, (size_t)n);
		else if (errno == EAGAIN)
			r->nx_events |= POLLOUT;
		else if (errno != EINTR)
			r->viewer_ended = true;
		progress |= n > 0;
	}
	if (r->farm_ended && half->len == 0 && !r->shut) {
		shutdown(r->viewer->nx_fd, SHUT_WR);
		r->shut = true;
	}
	return progress;
}

static bool
move_up(struct relay *r)
{
	struct half *half = &r->up;
	bool progress = false;
	ssize_t n;

	if (half->len == 0 && !r->viewer_ended) {
		n = recv(r->viewer->nx_fd, half->data, HALF_BYTES, 0);
		if (n > 0)
			half->len = (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			r->nx_events |= POLLIN;
		else if (n == 0 || errno != EINTR)
			r->viewer_ended = true;
		progress |= n >= 0;
	}
	if (half->len > 0 && r->farm_ended)
		used(half, half->len); /* nobody reads it any more */
	if (half->len > 0) {
		n = conn_try_write(
		    r->conn, half->data + half->start, (int)half->len);
		if (n > 0)
			used(half, (size_t)n);
		progress |= tls_result(r, (int)n);
	}
	return progress;
}

/* Moves bytes until both directions wait for something. */
static bool
move(struct relay *r)
{
	bool progress = true;
	int turns;

	for (turns = 0; progress && turns < TURNS_MAX; turns++) {
		r->conn_events = 0;
		r->nx_events = 0;
		progress = move_down(r);
		progress |= move_up(r);
	}
	return progress;
}

enum { POLL_CONN, POLL_NX, POLL_LOG, POLL_EXIT, POLL_CANCEL, POLL_COUNT };

/* What there is to wait for. An ended farm is not asked again, or its end
 * would wake us for ever. */
static int
wait_events(struct relay *r, struct pollfd p[POLL_COUNT], bool busy)
{
	int64_t left = 60000;
	int i;

	p[POLL_CONN].fd = r->farm_ended ? -1 : r->conn->fd;
	p[POLL_CONN].events = r->conn_events;
	p[POLL_NX].fd = r->viewer_ended ? -1 : r->viewer->nx_fd;
	p[POLL_NX].events = r->nx_events;
	p[POLL_LOG].fd = r->viewer->log_fd;
	p[POLL_LOG].events = POLLIN;
	p[POLL_EXIT].fd = r->viewer->pidfd;
	p[POLL_EXIT].events = POLLIN;
	p[POLL_CANCEL].fd = r->conn->cancel_fd;
	p[POLL_CANCEL].events = POLLIN;
	for (i = 0; i < POLL_COUNT; i++)
		p[i].revents = 0;
	/* Neither readiness is wanted while the other side is full: then the
	 * hang-up, which poll always reports, must not spin. */
	if (r->conn_events == 0)
		p[POLL_CONN].fd = -1;
	if (r->nx_events == 0)
		p[POLL_NX].fd = -1;
	if (r->farewell_ms != 0)
		left = r->farewell_ms - time_now_ms();
	if (busy || left < 0)
		left = 0;
	if (poll(p, POLL_COUNT, (int)left) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* How it ended: the viewer knows whether the session said good-bye before
 * the stream ended. */
static int
judge(struct relay *r, enum relay_end *ret, struct err *err)
{
	int res = viewer_reap(r->viewer, err);

	if (r->viewer->link_lost || (res < 0 && r->farm_ended)) {
		*ret = RELAY_LOST;
		return 0;
	}
	if (res == 0 && !r->viewer->started && !r->farm_ended)
		res = err_set(err, ERR_SESSION,
		    "the desktop and the viewer could not agree on how to "
		    "talk: %s",
		    r->viewer->last[0] != '\0' ? r->viewer->last
					       : "no reason was given");
	*ret = RELAY_ENDED;
	return res;
}

static void
note_started(struct relay *r, void (*on_started)(void *arg), void *arg)
{
	if (r->started || !r->viewer->started)
		return;
	r->started = true;
	on_started(arg);
}

static int
loop(struct relay *r, void (*on_started)(void *arg), void *arg,
    enum relay_end *ret, struct err *err)
{
	struct pollfd p[POLL_COUNT];
	bool busy;
	int e;

	for (;;) {
		busy = move(r);
		if ((r->farm_ended || r->viewer_ended) && r->farewell_ms == 0)
			r->farewell_ms = time_now_ms() + FAREWELL_MS;
		if ((e = wait_events(r, p, busy)) < 0)
			return err_errno(err, ERR_SYSTEM, -e, "poll");
		if (p[POLL_CANCEL].revents != 0)
			return err_set(err, ERR_CANCELLED, "interrupted");
		if (p[POLL_LOG].revents != 0)
			viewer_read_log(r->viewer);
		note_started(r, on_started, arg);
		if (p[POLL_EXIT].revents != 0) {
			move(r); /* its last bytes */
			return judge(r, ret, err);
		}
		if (r->farewell_ms != 0 && time_now_ms() >= r->farewell_ms) {
			*ret = r->farm_ended ? RELAY_LOST : RELAY_ENDED;
			return 0;
		}
	}
}

int
relay_run(struct conn *conn, struct viewer *viewer, const struct buf *early,
    void (*on_started)(void *arg), void *arg, enum relay_end *ret,
    struct err *err)
{
	struct relay *r = new0(struct relay);
	int res;

	r->conn = conn;
	r->viewer = viewer;
	r->down.len = buf_len(early);
	if (r->down.len > 0)
		memcpy(r->down.data, buf_head(early), r->down.len);
	res = loop(r, on_started, arg, ret, err);
	free(r);
	return res;
}
