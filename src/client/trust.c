/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "client/trust.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define KNOWN_MAX       (1024 * 1024)
#define FINGERPRINT_MAX 64 /* "SHA256:" and 44 characters */
#define HOST_KEY_MAX    300

static char *
default_known_hosts(void)
{
	const char *config = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");

	if (config != NULL && config[0] == '/')
		return xasprintf("%s/qvd/known_hosts", config);
	if (home != NULL && home[0] == '/')
		return xasprintf("%s/.config/qvd/known_hosts", home);
	return NULL;
}

void
trust_init(struct trust *trust, const char *ca_file, const char *known_hosts,
    bool first_use)
{
	memset(trust, 0, sizeof(*trust));
	trust->ca_file = ca_file != NULL ? xstrdup(ca_file) : NULL;
	trust->known_hosts =
	    known_hosts != NULL ? xstrdup(known_hosts) : default_known_hosts();
	trust->first_use = first_use;
}

void
trust_done(struct trust *trust)
{
	free(take_ptr(trust->ca_file));
	free(take_ptr(trust->known_hosts));
}

/* Lets the handshake go on: trust_check() decides when it is over, because
 * it must know the certificate. The verdict is kept by OpenSSL. */
static int
go_on(int ok, X509_STORE_CTX *store)
{
	return 1;
}

int
trust_prepare(struct trust *trust, SSL_CTX *ctx, struct err *err)
{
	int r;

	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, go_on);
	r = trust->ca_file == NULL
		? SSL_CTX_set_default_verify_paths(ctx)
		: SSL_CTX_load_verify_file(ctx, trust->ca_file);
	ERR_clear_error();
	if (r == 1)
		return 0;
	return err_set(err, ERR_CONFIG,
	    "no certificates of authorities (PEM) can be read from '%s'",
	    trust->ca_file == NULL ? "the system's directory" : trust->ca_file);
}

int
trust_expect(SSL *ssl, const char *host, struct err *err)
{
	unsigned char addr[16];
	int r;

	if (inet_pton(AF_INET, host, addr) == 1 ||
	    inet_pton(AF_INET6, host, addr) == 1)
		r = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	else
		r = SSL_set_tlsext_host_name(ssl, host) == 1 &&
		    SSL_set1_host(ssl, host) == 1;
	if (r == 1)
		return 0;
	ERR_clear_error();
	return err_set(
	    err, ERR_USAGE, "'%s' can't be the name of a server", host);
}

static int
fingerprint(SSL *ssl, char dst[FINGERPRINT_MAX], struct err *err)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);
	unsigned char hash[32];
	unsigned n = 0;
	char *text;
	int r;

	r = cert != NULL && X509_digest(cert, EVP_sha256(), hash, &n) == 1;
	X509_free(cert);
	if (!r) {
		ERR_clear_error();
		return err_set(err, ERR_CERTIFICATE,
		    "the server has no certificate; it must not be trusted");
	}
	text = str_base64(hash, n);
	text[strcspn(text, "=")] = '\0';
	snprintf(dst, FINGERPRINT_MAX, "SHA256:%s", text);
	free(text);
	return 0;
}

/* The remembered fingerprint and its line number; 0: none. */
static int
look_up(const char *text, const char *key, char dst[FINGERPRINT_MAX])
{
	size_t n = strlen(key), len;
	const char *p = text;
	int line;

	for (line = 1; *p != '\0'; line++) {
		len = strcspn(p, "\n");
		if (len > n + 1 && memcmp(p, key, n) == 0 && p[n] == ' ' &&
		    len - n - 1 < FINGERPRINT_MAX) {
			memcpy(dst, p + n + 1, len - n - 1);
			dst[len - n - 1] = '\0';
			dst[strcspn(dst, " \t\r")] = '\0';
			return line;
		}
		p += len;
		if (*p == '\n')
			p++;
	}
	return 0;
}

static int
read_known(const struct trust *trust, char **ret, struct err *err)
{
	struct stat st;

	if (trust->known_hosts == NULL || stat(trust->known_hosts, &st) < 0) {
		*ret = xstrdup("");
		return 0;
	}
	if ((st.st_mode & 022) != 0 ||
	    (st.st_uid != geteuid() && st.st_uid != 0))
		return err_set(err, ERR_CONFIG,
		    "others can write to '%s'; check what is in it, then "
		    "'chmod 600' it",
		    trust->known_hosts);
	return fs_read_file(trust->known_hosts, KNOWN_MAX, ret, NULL, err);
}

/* Two clients may learn at once: the file is changed under a lock. */
static int
lock_known(const struct trust *trust, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrdup(trust->known_hosts), *path = NULL;
	_cleanup_(closep)
	int fd = -1;
	char *slash = strrchr(dir, '/');
	int r;

	if (slash != NULL && slash != dir) {
		*slash = '\0';
		if ((r = fs_mkdirs(dir, 0700, err)) < 0)
			return r;
	}
	path = xasprintf("%s.lock", trust->known_hosts);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "lock '%s'", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int
remember(
    struct trust *trust, const char *key, const char *print, struct err *err)
{
	_cleanup_(closep)
	int lock = -1;
	_cleanup_(freep)
	char *old = NULL, *text = NULL;
	size_t n;
	int r;

	if (trust->known_hosts == NULL)
		return err_set(err, ERR_CONFIG,
		    "no place to remember the certificate: set HOME");
	if ((r = lock_known(trust, &lock, err)) < 0 ||
	    (r = read_known(trust, &old, err)) < 0)
		return err_wrap(err, r, "remember the certificate");
	n = strlen(old);
	text = xasprintf("%s%s%s %s\n", old,
	    n > 0 && old[n - 1] != '\n' ? "\n" : "", key, print);
	r = fs_write_file(trust->known_hosts, text, strlen(text), 0600, err);
	if (r < 0)
		return err_wrap(err, r, "remember the certificate");
	snprintf(trust->notice, sizeof(trust->notice),
	    "The certificate of %s (%s) is remembered from now on in %s", key,
	    print, trust->known_hosts);
	return 0;
}

static int
refuse_changed(const struct trust *trust, const char *key, int line,
    const char *print, struct err *err)
{
	return err_set(err, ERR_CERTIFICATE,
	    "the certificate of %s is not the one remembered in line %d of "
	    "'%s': somebody may be listening in. Its fingerprint is now %s; "
	    "ask your administrator, and only if that is right remove the "
	    "line",
	    key, line, trust->known_hosts, print);
}

static int
refuse_unknown(const char *key, const char *host, const char *print,
    long verdict, struct err *err)
{
	if (verdict == X509_V_ERR_HOSTNAME_MISMATCH ||
	    verdict == X509_V_ERR_IP_ADDRESS_MISMATCH)
		return err_set(err, ERR_CERTIFICATE,
		    "the certificate of %s is not for '%s' (%s); use the name "
		    "that is in it, or, if its fingerprint %s is your "
		    "administrator's, --trust-first-use",
		    key, host, X509_verify_cert_error_string(verdict), print);
	return err_set(err, ERR_CERTIFICATE,
	    "nobody vouches for the certificate of %s (%s); give your farm's "
	    "authority with --ca FILE, or, if its fingerprint %s is your "
	    "administrator's, --trust-first-use",
	    key, X509_verify_cert_error_string(verdict), print);
}

int
trust_check(
    struct trust *trust, SSL *ssl, const char *host, int port, struct err *err)
{
	long verdict = SSL_get_verify_result(ssl);
	char key[HOST_KEY_MAX], print[FINGERPRINT_MAX], old[FINGERPRINT_MAX];
	_cleanup_(freep)
	char *known = NULL;
	int line, r;

	if (verdict == X509_V_OK)
		return 0;
	if ((r = fingerprint(ssl, print, err)) < 0 ||
	    (r = read_known(trust, &known, err)) < 0)
		return r;
	snprintf(key, sizeof(key), strchr(host, ':') ? "[%s]:%d" : "%s:%d",
	    host, port);
	line = look_up(known, key, old);
	if (line > 0)
		return str_eq(old, print)
			   ? 0
			   : refuse_changed(trust, key, line, print, err);
	if (trust->first_use)
		return remember(trust, key, print, err);
	return refuse_unknown(key, host, print, verdict, err);
}
