/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What tls.c (contexts, self-signed certificates) and tls_ca.c (the farm's
 * authority) share: the parts of a certificate, and cleanups of OpenSSL's
 * objects, which belong to the function that made them. Every process that
 * speaks TLS; not for other folders.
 */
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include <openssl/x509.h>
#include <stdbool.h>

void bio_freep(BIO **bio);
void x509_freep(X509 **x);
void pkey_freep(EVP_PKEY **key);
char *tls_bio_text(BIO *bio); /* heap */
/* "DNS:a,IP:1.2.3.4", heap; NULL if a name can't stand in a certificate. */
char *tls_alt_names(const char *const *names);
/* Version, serial number, times, key, subject (the first name). */
bool tls_cert_begin(
    X509 *cert, EVP_PKEY *key, const char *const *names, int days);
bool tls_cert_extend(X509 *cert, X509 *issuer, int nid, const char *value);

#endif
