/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/tls_priv.h"

/* Forward secrecy and authenticated encryption only (for TLS 1.2; all of
 * TLS 1.3's are). AES-128 first: half the rounds, no known weakness. */
#define CIPHERS                                                      \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERSUITES                                     \
	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:" \
	"TLS_CHACHA20_POLY1305_SHA256"
#define SERIAL_BYTES 16

struct tls_ctx {
	unsigned refs;
	SSL_CTX *ssl;
};

void
bio_freep(BIO **bio)
{
	BIO_free(*bio);
}

void
x509_freep(X509 **x)
{
	X509_free(*x);
}

void
pkey_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void
tls_ctx_unrefp(struct tls_ctx **ctx)
{
	tls_ctx_unref(*ctx);
}

int
tls_err(struct err *err, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	char reason[160] = "connection failed";

	if (e != 0) {
		const char *text = ERR_reason_error_string(e);

		if (text != NULL)
			str_copy(reason, sizeof(reason), text);
		else
			ERR_error_string_n(e, reason, sizeof(reason));
	}
	ERR_clear_error();
	return err_set(err, ERR_TLS, "%s: %s", what, reason);
}

/* Browsers offer "h2" as well; we speak HTTP/1.1 on every port. */
static int
select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
    const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *selected = NULL;

	if (SSL_select_next_proto(&selected, out_len, ours, sizeof(ours) - 1,
		in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = selected;
	return SSL_TLSEXT_ERR_OK;
}

static struct tls_ctx *
ctx_new(const SSL_METHOD *method, struct err *err)
{
	_cleanup_(tls_ctx_unrefp)
	struct tls_ctx *ctx = new0(struct tls_ctx);

	ctx->refs = 1;
	ERR_clear_error();
	if ((ctx->ssl = SSL_CTX_new(method)) == NULL ||
	    SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx->ssl, CIPHERS) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx->ssl, CIPHERSUITES) != 1) {
		tls_err(err, "set up TLS");
		return NULL;
	}
	SSL_CTX_set_options(ctx->ssl,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx->ssl, SSL_MODE_RELEASE_BUFFERS |
				       SSL_MODE_ENABLE_PARTIAL_WRITE |
				       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* No resumption: each worker would have tickets of its own, and a
	 * full handshake costs a tenth of a millisecond. */
	SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(ctx->ssl, 0);
	return take_ptr(ctx);
}

static int
use_chain(SSL_CTX *ssl, const char *pem, struct err *err)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(pem, -1);
	_cleanup_(x509_freep)
	X509 *cert = NULL;
	X509 *more;

	cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	if (cert == NULL || SSL_CTX_use_certificate(ssl, cert) != 1)
		return tls_err(err, "read the certificate");
	while ((more = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		if (SSL_CTX_add0_chain_cert(ssl, more) != 1) {
			X509_free(more);
			return tls_err(err, "read the certificate chain");
		}
	ERR_clear_error(); /* the end of the file is one */
	return 0;
}

static int
use_key(SSL_CTX *ssl, const char *pem, struct err *err)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(pem, -1);
	_cleanup_(pkey_freep)
	EVP_PKEY *key = NULL;

	key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	if (key == NULL || SSL_CTX_use_PrivateKey(ssl, key) != 1)
		return tls_err(err, "read the private key");
	if (SSL_CTX_check_private_key(ssl) != 1)
		return tls_err(err, "the private key doesn't fit");
	return 0;
}

/* client_too: those who connect are told, too, whose certificates count. */
static int
trust_only(SSL_CTX *ssl, const char *pem, bool client_too, struct err *err)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509_STORE *store = SSL_CTX_get_cert_store(ssl);
	X509 *ca;
	int n = 0, r;

	while ((ca = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		r = X509_STORE_add_cert(store, ca) == 1 &&
		    (!client_too || SSL_CTX_add_client_CA(ssl, ca) == 1);
		X509_free(ca);
		if (!r)
			return tls_err(err, "read the authorities");
		n++;
	}
	ERR_clear_error();
	if (n == 0)
		return err_set(err, ERR_CONFIG,
		    "no certificate in the list of authorities");
	SSL_CTX_set_verify(
	    ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

struct tls_ctx *
tls_ctx_new_server(const char *cert_pem, const char *key_pem,
    const char *ca_pem, struct err *err)
{
	/* Tickets must not carry a client over into another context. */
	static const unsigned char id[] = "qvd";
	_cleanup_(tls_ctx_unrefp)
	struct tls_ctx *ctx = ctx_new(TLS_server_method(), err);

	if (ctx == NULL || use_chain(ctx->ssl, cert_pem, err) < 0 ||
	    use_key(ctx->ssl, key_pem, err) < 0 ||
	    (ca_pem != NULL && trust_only(ctx->ssl, ca_pem, true, err) < 0))
		return NULL;
	SSL_CTX_set_session_id_context(ctx->ssl, id, sizeof(id) - 1);
	SSL_CTX_set_alpn_select_cb(ctx->ssl, select_alpn, NULL);
	return take_ptr(ctx);
}

struct tls_ctx *
tls_ctx_new_peer(const char *cert_pem, const char *key_pem, const char *ca_pem,
    struct err *err)
{
	_cleanup_(tls_ctx_unrefp)
	struct tls_ctx *ctx = ctx_new(TLS_client_method(), err);

	if (ctx == NULL || use_chain(ctx->ssl, cert_pem, err) < 0 ||
	    use_key(ctx->ssl, key_pem, err) < 0 ||
	    trust_only(ctx->ssl, ca_pem, false, err) < 0)
		return NULL;
	return take_ptr(ctx);
}

struct tls_ctx *
tls_ctx_new_client(const char *ca_file, bool verify, struct err *err)
{
	_cleanup_(tls_ctx_unrefp)
	struct tls_ctx *ctx = ctx_new(TLS_client_method(), err);
	int r;

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_verify(
	    ctx->ssl, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (verify) {
		r = ca_file == NULL
			? SSL_CTX_set_default_verify_paths(ctx->ssl)
			: SSL_CTX_load_verify_file(ctx->ssl, ca_file);
		if (r != 1) {
			tls_err(err, ca_file == NULL
					 ? "read the system's authorities"
					 : ca_file);
			return NULL;
		}
	}
	return take_ptr(ctx);
}

struct tls_ctx *
tls_ctx_ref(struct tls_ctx *ctx)
{
	ctx->refs++;
	return ctx;
}

void
tls_ctx_unref(struct tls_ctx *ctx)
{
	if (ctx == NULL || --ctx->refs > 0)
		return;
	SSL_CTX_free(ctx->ssl);
	free(ctx);
}

void *
tls_ctx_ssl(struct tls_ctx *ctx)
{
	return ctx->ssl;
}

/* Self-signed certificates */

bool
tls_cert_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int r;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (ext == NULL)
		return false;
	r = X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return r == 1;
}

char *
tls_alt_names(const char *const *names)
{
	char *all = xstrdup(""), *more;
	unsigned char addr[16];
	bool is_ip;
	size_t i;

	for (i = 0; names[i] != NULL; i++) {
		is_ip = inet_pton(AF_INET, names[i], addr) == 1 ||
			inet_pton(AF_INET6, names[i], addr) == 1;
		if (!str_is_token(names[i], 253) ||
		    strpbrk(names[i], ",;") != NULL) {
			free(all);
			return NULL;
		}
		more = xasprintf("%s%s%s:%s", all, i == 0 ? "" : ",",
		    is_ip ? "IP" : "DNS", names[i]);
		free(all);
		all = more;
	}
	return all;
}

bool
tls_cert_begin(X509 *cert, EVP_PKEY *key, const char *const *names, int days)
{
	unsigned char serial[SERIAL_BYTES];
	X509_NAME *name = X509_get_subject_name(cert);
	char common[65];
	BIGNUM *bn;
	int r;

	if (names[0] == NULL || RAND_bytes(serial, SERIAL_BYTES) != 1)
		return false;
	serial[0] &= 0x7f; /* positive */
	bn = BN_bin2bn(serial, SERIAL_BYTES, NULL);
	r = BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;
	BN_free(bn);
	str_copy(common, sizeof(common), names[0]);
	return r && X509_set_version(cert, X509_VERSION_3) == 1 &&
	       X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
	       X509_time_adj_ex(X509_getm_notAfter(cert), days, 0, NULL) !=
		   NULL &&
	       X509_set_pubkey(cert, key) == 1 &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
		   (const unsigned char *)common, -1, -1, 0) == 1;
}

static bool
fill_cert(X509 *cert, EVP_PKEY *key, const char *const *names, int days)
{
	_cleanup_(freep)
	char *alt = tls_alt_names(names);

	return alt != NULL && tls_cert_begin(cert, key, names, days) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
	       tls_cert_extend(
		   cert, cert, NID_basic_constraints, "critical,CA:TRUE") &&
	       tls_cert_extend(cert, cert, NID_key_usage,
		   "critical,digitalSignature,keyCertSign") &&
	       tls_cert_extend(
		   cert, cert, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       tls_cert_extend(
		   cert, cert, NID_subject_key_identifier, "hash") &&
	       tls_cert_extend(cert, cert, NID_subject_alt_name, alt) &&
	       X509_sign(cert, key, EVP_sha256()) > 0;
}

char *
tls_bio_text(BIO *bio)
{
	char *data;
	long n = BIO_get_mem_data(bio, &data);

	return xstrndup(data, (size_t)n);
}

int
tls_self_signed(const char *const *names, int days, char **ret_cert,
    char **ret_key, struct err *err)
{
	_cleanup_(pkey_freep)
	EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(x509_freep)
	X509 *cert = X509_new();
	_cleanup_(bio_freep)
	BIO *cert_bio = BIO_new(BIO_s_mem());
	/* "Secure" memory is wiped when it is freed. */
	_cleanup_(bio_freep)
	BIO *key_bio = BIO_new(BIO_s_secmem());

	if (key == NULL || cert == NULL || cert_bio == NULL ||
	    key_bio == NULL || !fill_cert(cert, key, names, days) ||
	    PEM_write_bio_X509(cert_bio, cert) != 1 ||
	    PEM_write_bio_PKCS8PrivateKey(
		key_bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return tls_err(err, "make a self-signed certificate");
	*ret_cert = tls_bio_text(cert_bio);
	*ret_key = tls_bio_text(key_bio);
	return 0;
}
