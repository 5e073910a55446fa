/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TLS contexts (OpenSSL 3): TLS 1.2 or later, modern ciphers, no
 * renegotiation, no compression, buffers released when idle. A context is
 * immutable and reference-counted: a reload makes a new one, and old
 * connections keep theirs.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct tls_ctx;

/* Server context from PEM text (certificate chain and key). ca_pem NULL: no
 * client certificates asked for; else they are required and verified. */
struct tls_ctx *tls_ctx_new_server(const char *cert_pem, const char *key_pem,
    const char *ca_pem, struct err *err);
/* Client context. ca_file NULL: the system's store. verify false: nothing is
 * checked (only for callers that check the fingerprint themselves). */
struct tls_ctx *tls_ctx_new_client(
    const char *ca_file, bool verify, struct err *err);
/* Client context with a certificate of its own; only ca_pem's are trusted. */
struct tls_ctx *tls_ctx_new_peer(const char *cert_pem, const char *key_pem,
    const char *ca_pem, struct err *err);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx *ctx);
void *tls_ctx_ssl(struct tls_ctx *ctx); /* SSL_CTX * */

/* Fills *err from OpenSSL's queue, and empties it. */
int tls_err(struct err *err, const char *what);

/* A new self-signed ECDSA P-256 certificate and key as PEM (heap); names:
 * NULL-ended list of DNS names and IP addresses. The key must be wiped. */
int tls_self_signed(const char *const *names, int days, char **ret_cert,
    char **ret_key, struct err *err);

#endif
