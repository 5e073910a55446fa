/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Signatures of commits: ed25519 over a fixed text with the checksum, so that
 * the key can't be made to sign anything else. (libostree's own signatures
 * need libsodium, which Debian's isn't built with.)
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/mem.h"
#include "image/pull.h"

#define TEXT "qvd-image-commit-1 %s"

static void
bio_freep(BIO **bio)
{
	BIO_free(*bio);
}

static void
pkey_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void
md_freep(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

static int
ssl_err(struct err *err, enum err_code code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e == 0 ? NULL : ERR_reason_error_string(e);

	ERR_clear_error();
	return err_set(
	    err, code, "%s: %s", what, why == NULL ? "it failed" : why);
}

static char *
bio_text(BIO *bio)
{
	char *data;
	long n = BIO_get_mem_data(bio, &data);

	return xstrndup(data, (size_t)n);
}

int
image_sign_keys(char **ret_private, char **ret_public, struct err *err)
{
	_cleanup_(pkey_freep)
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	_cleanup_(bio_freep)
	BIO *public = BIO_new(BIO_s_mem());
	_cleanup_(bio_freep)
	BIO *private = BIO_new(BIO_s_secmem());

	if (key == NULL || PEM_write_bio_PUBKEY(public, key) != 1 ||
	    PEM_write_bio_PKCS8PrivateKey(
		private, key, NULL, NULL, 0, NULL, NULL) != 1)
		return ssl_err(err, ERR_SYSTEM, "make a signing key");
	*ret_private = bio_text(private);
	*ret_public = bio_text(public);
	return 0;
}

int
image_sign(const char *private_pem, const char *checksum,
    unsigned char ret[static IMAGE_SIGNATURE_LEN], struct err *err)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(private_pem, -1);
	_cleanup_(pkey_freep)
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	_cleanup_(md_freep)
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	_cleanup_(freep)
	char *text = xasprintf(TEXT, checksum);
	size_t n = IMAGE_SIGNATURE_LEN;

	if (key == NULL || !EVP_PKEY_is_a(key, "ED25519"))
		return ssl_err(err, ERR_CONFIG,
		    "the farm's signing key is no ed25519 key");
	if (EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
	    EVP_DigestSign(ctx, ret, &n, (unsigned char *)text, strlen(text)) !=
		1 ||
	    n != IMAGE_SIGNATURE_LEN)
		return ssl_err(err, ERR_SYSTEM, "sign the image");
	return 0;
}

static bool
has_signed(EVP_PKEY *key, const char *text, const void *signature, size_t len)
{
	_cleanup_(md_freep)
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok;

	ok = EVP_PKEY_is_a(key, "ED25519") &&
	     EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
	     EVP_DigestVerify(ctx, signature, len, (const unsigned char *)text,
		 strlen(text)) == 1;
	ERR_clear_error();
	return ok;
}

int
image_signature_check(const char *public_pem, const char *checksum,
    const void *signature, size_t len, struct err *err)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(public_pem, -1);
	_cleanup_(freep)
	char *text = xasprintf(TEXT, checksum);
	EVP_PKEY *key;
	int keys = 0;
	bool ok = false;

	while (
	    !ok && (key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL)) != NULL) {
		ok = len == IMAGE_SIGNATURE_LEN &&
		     has_signed(key, text, signature, len);
		EVP_PKEY_free(key);
		keys++;
	}
	ERR_clear_error();
	if (ok)
		return 0;
	if (keys == 0)
		return err_set(err, ERR_CONFIG,
		    "the farm's file of signing keys has none");
	return err_set(err, ERR_IMAGE,
	    len == 0 ? "image %.12s is not signed, and this farm's images must "
		       "be; sign it on the node that made it"
		     : "image %.12s is not signed by this farm: whoever made "
		       "it doesn't have the farm's signing key",
	    checksum);
}
