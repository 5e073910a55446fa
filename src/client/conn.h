/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A TLS connection to the farm, for blocking use with deadlines and
 * cancellation; also the non-blocking reads and writes that the relay needs.
 * Owns its socket. In the user's client: the library is called from any
 * thread of any program, so it brings no event loop of its own (poll(2)).
 */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct trust;

struct conn {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO_METHOD *method;
	int fd;
	int cancel_fd; /* readable: give up (borrowed) */
	bool fresh;    /* no request has been answered on it yet */
};

void conn_init(struct conn *conn, int cancel_fd);
/* Without a word to the peer if the connection is broken. */
void conn_close(struct conn *conn);
bool conn_is_open(const struct conn *conn);

/* Resolves, connects (each address in turn), secures, and checks the
 * certificate as `trust` says. deadline: time_now_ms(). */
int conn_open(struct conn *conn, const char *host, int port,
    struct trust *trust, int64_t deadline_ms, struct err *err);

/* All n bytes. */
int conn_write(struct conn *conn, const void *data, size_t n,
    int64_t deadline_ms, struct err *err);
/* Some bytes, at least one; 0 at the end of the stream. */
int conn_read(struct conn *conn, void *data, size_t size, size_t *ret_n,
    int64_t deadline_ms, struct err *err);

/* Non-blocking: the number of bytes, or one of these. */
#define CONN_AGAIN_READ  (-1) /* poll for reading, then try again */
#define CONN_AGAIN_WRITE (-2)
#define CONN_END         (-3) /* end of stream, or broken */
int conn_try_read(struct conn *conn, void *data, int size);
int conn_try_write(struct conn *conn, const void *data, int n);
/* The peer ended the stream in order, with TLS's word for it: it was there,
 * and meant it. */
bool conn_was_closed(const struct conn *conn);

/* The kernel's estimate of the round trip, microseconds; -1: unknown. */
int conn_rtt_us(const struct conn *conn);
/* ERR_CANCELLED if qvd_client_cancel() was called. */
int conn_check_cancel(int cancel_fd, struct err *err);

#endif
