/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One stream object for everything that carries bytes: TCP, unix socket or
 * socketpair, plain or TLS. After OpenSMTPD's ioev: one callback, seven
 * events, two watermarks. The io owns its descriptor and its buffers. Input
 * is read into a buffer with a limit; while it is full nothing is read from
 * the peer (back-pressure). An idle io holds no buffer memory.
 *
 * io_free() may be called anywhere, also inside the callback: the object
 * goes away at the end of the loop turn and the callback is not called again.
 */
#ifndef NET_IO_H
#define NET_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/err.h"
#include "loop/loop.h"
#include "net/tls.h"

struct io;

enum io_event {
	IO_CONNECTED, /* io_connect() succeeded */
	IO_SECURED,   /* TLS handshake done */
	IO_DATA,      /* input is there: io_input() */
	IO_LOWAT,     /* output queue fell to the low watermark or below */
	IO_EOF,       /* the peer sends no more (output may go on) */
	IO_TIMEOUT,   /* io_set_timeout() ran out; nothing else happened */
	IO_ERROR,     /* io_error() says why; only io_free() is left */
};
typedef void (*io_cb)(struct io *io, enum io_event event, void *arg);

#define IO_READ_LIMIT  (64 * 1024) /* default input buffer limit */
#define IO_LOWAT_BYTES (16 * 1024)

/* Takes an already connected, non-blocking stream socket. Reading starts. */
struct io *io_new(struct loop *loop, int fd, io_cb cb, void *arg);
/* Connects; IO_CONNECTED or IO_ERROR follows. */
struct io *io_connect(struct loop *loop, const struct sockaddr *addr,
    socklen_t len, io_cb cb, void *arg, struct err *err);
void io_free(struct io *io);
/* Hands the stream to a new owner; input that is already there will be
 * announced by IO_DATA (and EOF by IO_EOF) to the new callback on a later
 * turn. */
void io_set_cb(struct io *io, io_cb cb, void *arg);

/* TLS on the stream. ctx is referenced. */
void io_tls_accept(struct io *io, struct tls_ctx *ctx);
void io_tls_connect(struct io *io, struct tls_ctx *ctx, const char *host);
bool io_is_tls(const struct io *io);
/* The TLS object (SSL *), NULL if plain. */
void *io_tls(struct io *io);

/* Input: the bytes there are, contiguous; consume what was used. Unconsumed
 * bytes stay; IO_DATA comes again only when more arrived. */
const char *io_input(struct io *io, size_t *ret_len);
void io_consume(struct io *io, size_t n);
void io_set_read_limit(struct io *io, size_t bytes);
/* Stops and restarts reading (IO_DATA, IO_EOF). */
void io_pause(struct io *io);
void io_resume(struct io *io);

/* Output: copies and queues; never fails (errors come as IO_ERROR). The
 * caller limits itself by io_queued() and IO_LOWAT. */
void io_write(struct io *io, const void *data, size_t n);
size_t io_queued(const struct io *io);
/* Sends what is queued, then ends our direction (FIN / close_notify). */
void io_shutdown(struct io *io);
/* Sends what is queued, then frees itself (at most 10 s later). */
void io_close(struct io *io);

/* IO_TIMEOUT after so many ms without input or output progress (0: never);
 * one timer a connection, restarted lazily. */
void io_set_timeout(struct io *io, int64_t ms);
/* A deadline that progress does not move (0: none): for slow-loris. */
void io_set_deadline(struct io *io, int64_t ms);

const struct err *io_error(const struct io *io);
int io_fd(const struct io *io);
struct loop *io_loop(const struct io *io);
/* Bytes since the start, for accounting. */
uint64_t io_bytes_in(const struct io *io);
uint64_t io_bytes_out(const struct io *io);
/* "203.0.113.7:1234", "[2001:db8::1]:1234" or "unix" of the peer. */
const char *io_peer(const struct io *io);
/* Has the peer shown a certificate, which was verified, of that name? */
bool io_tls_peer_is(const struct io *io, const char *name);

#endif
