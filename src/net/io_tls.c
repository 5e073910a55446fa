/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TLS records between an io and OpenSSL. OpenSSL reads and writes through a
 * BIO of our own that only moves memory: ciphertext comes from one large
 * recv(), and the records of one write leave with one send().
 */
#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/mem.h"
#include "net/io_priv.h"

#define CIPHER_LIMIT (1024 * 1024) /* far above what one chunk can make */
#define READS_A_TURN 4

static int
bio_write(BIO *bio, const char *data, size_t n, size_t *ret_n)
{
	struct io *io = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (n > sizeof(io_scratch.gather) - io_scratch.gather_len) {
		/* More than a chunk makes: a very long handshake flight. */
		if (!buf_append(&io->tls->out, io_scratch.gather,
			io_scratch.gather_len) ||
		    !buf_append(&io->tls->out, data, n))
			return 0;
		io_scratch.gather_len = 0;
	} else {
		memcpy(io_scratch.gather + io_scratch.gather_len, data, n);
		io_scratch.gather_len += n;
	}
	*ret_n = n;
	return 1;
}

static int
bio_read(BIO *bio, char *data, size_t n, size_t *ret_n)
{
	struct io *io = BIO_get_data(bio);
	struct io_tls *tls = io->tls;

	BIO_clear_retry_flags(bio);
	if (tls->in.len > 0) {
		if (n > tls->in.len)
			n = tls->in.len;
		memcpy(data, buf_head(&tls->in), n);
		buf_consume(&tls->in, n);
	} else if (tls->feed_len > 0) {
		if (n > tls->feed_len)
			n = tls->feed_len;
		memcpy(data, tls->feed, n);
		tls->feed += n;
		tls->feed_len -= n;
	} else {
		BIO_set_retry_read(bio);
		*ret_n = 0;
		return 0;
	}
	*ret_n = n;
	return 1;
}

static long
bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static const BIO_METHOD *
bio_method(void)
{
	static BIO_METHOD *method;

	if (method != NULL)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "io");
	assert(method != NULL);
	BIO_meth_set_write_ex(method, bio_write);
	BIO_meth_set_read_ex(method, bio_read);
	BIO_meth_set_ctrl(method, bio_ctrl);
	return method;
}

/* Sends what OpenSSL has written since the last call. */
static void
send_gathered(struct io *io)
{
	size_t n = io_scratch.gather_len, sent = 0;
	ssize_t r = 0;

	io_scratch.gather_len = 0;
	if (n == 0 || io->broken || io->freed)
		return;
	if (io->tls->out.len == 0 && !io->blocked && !io->connecting) {
		r = io_transmit(io, io_scratch.gather, n);
		if (r < 0)
			return;
		sent = (size_t)r;
	}
	if (!buf_append(&io->tls->out, io_scratch.gather + sent, n - sent))
		io_fail_errno(io, ENOBUFS, "TLS output");
	if (!io->blocked && io->tls->out.len > 0)
		io_flush(io);
}

static void
tls_fail(struct io *io, const char *what)
{
	struct err err = { 0 };
	long verify = SSL_get_verify_result(io->tls->ssl);

	if (verify != X509_V_OK &&
	    SSL_get_verify_mode(io->tls->ssl) != SSL_VERIFY_NONE) {
		ERR_clear_error();
		err_set(&err, ERR_CERTIFICATE,
		    "the certificate of the other side is not trusted: %s",
		    X509_verify_cert_error_string(verify));
	} else {
		tls_err(&err, what);
	}
	/* Tell the peer why, as far as that goes. */
	send_gathered(io);
	io->tls->more = false;
	io_fail(io, &err);
	io->drain_pending = false;
}

/* True: done, or failed for good. */
static bool
handshake(struct io *io)
{
	struct io_tls *tls = io->tls;
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(tls->ssl);
	if (r == 1) {
		tls->handshaking = false;
		send_gathered(io);
		io_emit(io, IO_SECURED);
		if (!io->freed && !io->broken)
			io_flush(io);
		return true;
	}
	if (SSL_get_error(tls->ssl, r) == SSL_ERROR_WANT_READ) {
		send_gathered(io);
		return false;
	}
	tls_fail(io, "TLS handshake");
	return true;
}

/*
 * Decrypts what there is, up to the room the owner left. *ret_closed: the
 * peer said that it sends no more.
 */
static size_t
decrypt(struct io *io, size_t room, bool *ret_closed)
{
	SSL *ssl = io->tls->ssl;
	size_t got = 0, n;
	int r = 1, e;

	while (got < room) {
		ERR_clear_error();
		r = SSL_read_ex(ssl, io_scratch.plain + got, room - got, &n);
		if (r != 1)
			break;
		got += n;
	}
	if (r == 1)
		return got;
	e = SSL_get_error(ssl, r);
	if (e == SSL_ERROR_ZERO_RETURN)
		*ret_closed = true;
	else if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
		tls_fail(io, "TLS");
	return got;
}

/* Puts aside the ciphertext that there was no room to decrypt. */
static void
keep_feed(struct io *io, bool full)
{
	struct io_tls *tls = io->tls;

	if (tls->feed_len > 0)
		buf_append(&tls->in, tls->feed, tls->feed_len);
	tls->feed_len = 0;
	buf_release(&tls->in);
	tls->more = !io->broken &&
		    (tls->in.len > 0 || (full && SSL_has_pending(tls->ssl)));
}

/* One recv() at most, and what becomes of it. False: nothing more to do. */
static bool
read_once(struct io *io)
{
	struct io_tls *tls = io->tls;
	size_t room, got, n = 0;
	bool end = false, closed = false, full;

	if (!tls->more) {
		int r = io_receive(
		    io, io_scratch.cipher, sizeof(io_scratch.cipher), &n);

		if (r < 0)
			return false;
		end = n == 0;
		tls->feed = io_scratch.cipher;
		tls->feed_len = n;
	}
	if (tls->handshaking && !end && !handshake(io)) {
		keep_feed(io, false);
		return false;
	}
	if (tls->handshaking && end) {
		struct err err = { 0 };

		err_set(&err, ERR_NETWORK,
		    "the connection was closed during the TLS handshake");
		io_fail(io, &err);
		return false;
	}
	if (io->freed)
		return false;
	room = io_read_room(io);
	if (room > sizeof(io_scratch.plain))
		room = sizeof(io_scratch.plain);
	got = io->broken ? 0 : decrypt(io, room, &closed);
	full = got == room;
	keep_feed(io, full);
	send_gathered(io);
	if (got > 0)
		io_deliver(io, io_scratch.plain, got);
	if (io->freed)
		return false;
	if (closed || (end && !tls->more)) {
		tls->more = false;
		io_deliver_eof(io);
		return false;
	}
	return tls->more || n == sizeof(io_scratch.cipher);
}

void
io_tls_read(struct io *io)
{
	int i;

	for (i = 0; i < READS_A_TURN; i++)
		if (!read_once(io) || io->freed || io->broken ||
		    io_read_room(io) == 0)
			break;
	if (!io->freed && io->tls->more && io_read_room(io) > 0)
		io_wake(io);
}

void
io_tls_write(struct io *io, const char *data, size_t n)
{
	size_t done = 0, k;

	assert(n <= IO_CHUNK);
	while (done < n) {
		ERR_clear_error();
		if (SSL_write_ex(io->tls->ssl, data + done, n - done, &k) !=
		    1) {
			tls_fail(io, "TLS");
			return;
		}
		done += k;
	}
	io->bytes_out += n;
	send_gathered(io);
}

void
io_tls_send_close(struct io *io)
{
	io->tls->close_sent = true;
	ERR_clear_error();
	SSL_shutdown(io->tls->ssl);
	ERR_clear_error();
	send_gathered(io);
}

/* Setting up */

void
io_tls_start(struct io *io)
{
	if (SSL_is_server(io->tls->ssl)) {
		if (io->tls->more)
			io_wake(io);
	} else {
		handshake(io);
	}
	io_update(io);
}

static void
attach(struct io *io, struct tls_ctx *ctx, bool server)
{
	struct io_tls *tls = new0(struct io_tls);
	BIO *bio = BIO_new(bio_method());

	assert(io->tls == NULL && bio != NULL);
	tls->ssl = SSL_new(tls_ctx_ssl(ctx));
	assert(tls->ssl != NULL);
	tls->ctx = tls_ctx_ref(ctx);
	tls->handshaking = true;
	buf_init(&tls->in, CIPHER_LIMIT);
	buf_init(&tls->out, CIPHER_LIMIT);
	/* What has been read already belongs to the handshake. */
	if (io->fresh_len > 0)
		buf_append(&tls->in, io->fresh, io->fresh_len);
	else if (io->in.len > 0)
		buf_append(&tls->in, buf_head(&io->in), io->in.len);
	io->fresh_len = 0;
	buf_done(&io->in);
	io->data_pending = false;
	tls->more = tls->in.len > 0;
	BIO_set_data(bio, io);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	if (server)
		SSL_set_accept_state(tls->ssl);
	else
		SSL_set_connect_state(tls->ssl);
	io->tls = tls;
}

void
io_tls_accept(struct io *io, struct tls_ctx *ctx)
{
	attach(io, ctx, true);
	io_tls_start(io);
}

void
io_tls_connect(struct io *io, struct tls_ctx *ctx, const char *host)
{
	unsigned char addr[16];
	bool is_ip;
	SSL *ssl;

	attach(io, ctx, false);
	ssl = io->tls->ssl;
	is_ip = inet_pton(AF_INET, host, addr) == 1 ||
		inet_pton(AF_INET6, host, addr) == 1;
	if (is_ip)
		X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	else {
		/* SSL_set_tlsext_host_name(), which casts const away. */
		SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME,
		    TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)host);
		SSL_set1_host(ssl, host);
	}
	if (!io->connecting)
		io_tls_start(io);
}

void
io_tls_destroy(struct io *io)
{
	if (io->tls == NULL)
		return;
	SSL_free(io->tls->ssl);
	tls_ctx_unref(io->tls->ctx);
	buf_done(&io->tls->in);
	buf_done(&io->tls->out);
	free(io->tls);
	io->tls = NULL;
}

bool
io_tls_peer_is(const struct io *io, const char *name)
{
	X509 *cert;

	if (io->tls == NULL || io->tls->handshaking ||
	    SSL_get_verify_result(io->tls->ssl) != X509_V_OK ||
	    (cert = SSL_get0_peer_certificate(io->tls->ssl)) == NULL)
		return false;
	return X509_check_host(cert, name, strlen(name), 0, NULL) == 1 ||
	       X509_check_ip_asc(cert, name, 0) == 1;
}
