/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The inside of an io, for io.c (life, events, reading), io_out.c (output),
 * io_tls.c (records) and tunnel.c (the shortest way from one io to another).
 * Not for other folders.
 *
 * One thread a process moves bytes, one io at a time, so the big buffers of
 * the busy path exist once a process (io_scratch), not once an io: an io
 * itself holds memory only for what couldn't be taken or sent at once.
 */
#ifndef NET_IO_PRIV_H
#define NET_IO_PRIV_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "net/io.h"

#define IO_CHUNK (64 * 1024) /* bytes moved at a time */
/* Ciphertext of one chunk: 4 records with at most 256 bytes of overhead each,
 * and room for a handshake flight or an alert. */
#define IO_GATHER (IO_CHUNK + 32 * 1024)

struct io_scratch {
	char plain[IO_CHUNK];   /* just read, before the owner sees it */
	char cipher[IO_CHUNK];  /* just received, before decryption */
	char gather[IO_GATHER]; /* just encrypted, before it is sent */
	size_t gather_len;
};
extern struct io_scratch io_scratch;

struct io_tls {
	SSL *ssl;
	struct tls_ctx *ctx;
	/* Ciphertext that was received but not decrypted for lack of room,
	 * and that was made but not sent. Usually empty. */
	struct buf in, out;
	const char *feed; /* io_scratch.cipher while it is being read */
	size_t feed_len;
	bool handshaking;
	bool more; /* input waits in `in` or inside OpenSSL */
	bool close_sent;
};

struct io {
	struct loop *loop;
	io_cb cb;
	void *arg;
	struct watch watch;
	struct timer timer;
	int64_t timeout_ms;
	int64_t deadline_at; /* loop time; 0: none */
	int64_t progress_at;
	struct buf in;     /* what the owner hasn't consumed */
	struct buf out;    /* what wasn't sent (or encrypted) yet */
	const char *fresh; /* the same as in, but still in the scratch */
	size_t fresh_len;
	size_t read_limit;
	struct io_tls *tls;
	struct err *error;
	char *peer;
	struct io_retry *retry;    /* a unix connect that must wait */
	struct loop_orphan orphan; /* after io_close() */
	uint64_t bytes_in, bytes_out;
	int fd;
	bool connecting : 1;
	bool connected_pending : 1;
	bool secured_pending : 1;
	bool error_pending : 1;
	bool drain_pending : 1; /* read once more before the error */
	bool data_pending : 1;  /* announce what is in the buffer */
	bool paused : 1;
	bool eof : 1;
	bool eof_pending : 1;
	bool broken : 1;
	bool shutdown_wanted : 1;
	bool shutdown_done : 1;
	bool closing : 1;
	bool freed : 1;
	bool flush_deferred : 1;
	bool wake_deferred : 1;
	bool was_high : 1; /* output passed the low watermark */
	bool blocked : 1;  /* the socket's buffer is full */
	bool is_pipe : 1;  /* not a socket */
};

static inline size_t
io_in_len(const struct io *io)
{
	return io->fresh_len > 0 ? io->fresh_len : io->in.len;
}

/* io.c */
void io_update(struct io *io);
void io_wake(struct io *io); /* events that are pending, on a later turn */
void io_emit(struct io *io, enum io_event event);
/* The first error wins; IO_ERROR comes on a later turn. */
void io_fail(struct io *io, const struct err *err);
void io_fail_errno(struct io *io, int errnum, const char *what);
/* Gives n bytes at data (in the scratch) to the owner. */
void io_deliver(struct io *io, const char *data, size_t n);
void io_deliver_eof(struct io *io);
size_t io_read_room(const struct io *io);
/* recv(); 0 with *ret_n = 0 is the end, -1 nothing now, -2 io_fail()ed. */
int io_receive(struct io *io, char *data, size_t size, size_t *ret_n);

/* io_out.c */
void io_flush(struct io *io);
/* Sends as much as goes; the number, or -1 after io_fail(). */
ssize_t io_transmit(struct io *io, const char *data, size_t n);
/* Like io_write(), but sends at once, straight from data, and queues only
 * what the socket didn't take. No event is emitted meanwhile. */
void io_write_now(struct io *io, const char *data, size_t n);

/* io_tls.c */
void io_tls_start(struct io *io);
void io_tls_read(struct io *io);
/* Encrypts n bytes and sends; what isn't sent is in tls->out. */
void io_tls_write(struct io *io, const char *data, size_t n);
void io_tls_send_close(struct io *io);
void io_tls_destroy(struct io *io);

#endif
