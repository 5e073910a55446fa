/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/tls_ca.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "net/tls.h"
#include "net/tls_priv.h"

/* What a certificate says, but for its names. */
struct kind {
	const char *constraints, *usage, *extended;
};
static const struct kind authority = { "critical,CA:TRUE,pathlen:0",
	"critical,keyCertSign,cRLSign", NULL };
static const struct kind node = { "critical,CA:FALSE",
	"critical,digitalSignature", "serverAuth,clientAuth" };

static bool
fill(X509 *cert, EVP_PKEY *key, X509 *issuer, const char *name, int days,
    const struct kind *kind)
{
	const char *names[] = { name, NULL };

	return tls_cert_begin(cert, key, names, days) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1 &&
	       tls_cert_extend(
		   cert, issuer, NID_basic_constraints, kind->constraints) &&
	       tls_cert_extend(cert, issuer, NID_key_usage, kind->usage) &&
	       (kind->extended == NULL ||
		   tls_cert_extend(
		       cert, issuer, NID_ext_key_usage, kind->extended)) &&
	       tls_cert_extend(
		   cert, issuer, NID_subject_key_identifier, "hash");
}

static int
write_pem(
    X509 *cert, EVP_PKEY *key, char **ret_cert, char **ret_key, struct err *err)
{
	_cleanup_(bio_freep)
	BIO *cert_bio = BIO_new(BIO_s_mem());
	/* "Secure" memory is wiped when it is freed. */
	_cleanup_(bio_freep)
	BIO *key_bio = BIO_new(BIO_s_secmem());

	if (PEM_write_bio_X509(cert_bio, cert) != 1 ||
	    PEM_write_bio_PKCS8PrivateKey(
		key_bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return tls_err(err, "write a certificate");
	*ret_cert = tls_bio_text(cert_bio);
	*ret_key = tls_bio_text(key_bio);
	return 0;
}

int
tls_ca_new(const char *name, int days, char **ret_cert, char **ret_key,
    struct err *err)
{
	_cleanup_(pkey_freep)
	EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(x509_freep)
	X509 *cert = X509_new();

	if (key == NULL || cert == NULL ||
	    !fill(cert, key, cert, name, days, &authority) ||
	    X509_sign(cert, key, EVP_sha256()) <= 0)
		return tls_err(err, "make the farm's authority");
	return write_pem(cert, key, ret_cert, ret_key, err);
}

static X509 *
read_cert(const char *pem)
{
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(pem, -1);

	return PEM_read_bio_X509(bio, NULL, NULL, NULL);
}

int
tls_ca_issue(const char *ca_cert, const char *ca_key, const char *name,
    int days, char **ret_cert, char **ret_key, struct err *err)
{
	_cleanup_(x509_freep)
	X509 *issuer = read_cert(ca_cert);
	_cleanup_(bio_freep)
	BIO *bio = BIO_new_mem_buf(ca_key, -1);
	_cleanup_(pkey_freep)
	EVP_PKEY *signer = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	_cleanup_(pkey_freep)
	EVP_PKEY *key = EVP_EC_gen("P-256");
	_cleanup_(x509_freep)
	X509 *cert = X509_new();
	_cleanup_(freep)
	char *alt = NULL;
	const char *names[] = { name, NULL };

	if (issuer == NULL || signer == NULL ||
	    X509_check_private_key(issuer, signer) != 1)
		return tls_err(err, "read the farm's authority and its key");
	if ((alt = tls_alt_names(names)) == NULL)
		return err_set(err, ERR_PARAMETER,
		    "'%.64s' can't stand in a certificate", name);
	if (key == NULL || cert == NULL ||
	    !fill(cert, key, issuer, name, days, &node) ||
	    !tls_cert_extend(cert, issuer, NID_subject_alt_name, alt) ||
	    X509_sign(cert, signer, EVP_sha256()) <= 0)
		return tls_err(err, "make a node's certificate");
	return write_pem(cert, key, ret_cert, ret_key, err);
}

int
tls_days_left(const char *pem, int *ret_days, struct err *err)
{
	_cleanup_(x509_freep)
	X509 *cert = read_cert(pem);
	int days, seconds;

	if (cert == NULL || ASN1_TIME_diff(&days, &seconds, NULL,
				X509_get0_notAfter(cert)) != 1)
		return tls_err(err, "read the certificate");
	*ret_days = seconds < 0 ? days - 1 : days;
	return 0;
}
