/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whether a server's certificate is to be trusted: because an authority
 * vouches for it and it names the host; or because the user chose to
 * remember it (known_hosts, one "host:port SHA256:fingerprint" a line, mode
 * 0600). A remembered certificate that changed is refused, like ssh does,
 * unless an authority vouches for the new one. In the user's client.
 */
#ifndef CLIENT_TRUST_H
#define CLIENT_TRUST_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"

struct trust {
	char *ca_file;     /* NULL: the system's authorities */
	char *known_hosts; /* path */
	bool first_use;    /* remember what is not known yet */
	char notice[512];  /* "" or what trust_check() did, for the user */
};

/* ca_file, known_hosts: NULL for the defaults. */
void trust_init(struct trust *trust, const char *ca_file,
    const char *known_hosts, bool first_use);
void trust_done(struct trust *trust);

/* Loads the authorities. */
int trust_prepare(struct trust *trust, SSL_CTX *ctx, struct err *err);
/* The name or address that the certificate must carry. */
int trust_expect(SSL *ssl, const char *host, struct err *err);
/* After the handshake, before the first byte is sent. */
int trust_check(
    struct trust *trust, SSL *ssl, const char *host, int port, struct err *err);

#endif
