/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "net/tls.h"
#include "net/tls_ca.h"

static struct err err;
static char *ca, *ca_key, *cert, *key, *other, *other_key;

static int
make(void **state)
{
	return tls_ca_new("farm", 3650, &ca, &ca_key, &err) < 0 ||
		       tls_ca_new("other", 10, &other, &other_key, &err) < 0 ||
		       tls_ca_issue(
			   ca, ca_key, "node1", 397, &cert, &key, &err) < 0
		   ? -1
		   : 0;
}

static int
unmake(void **state)
{
	free(ca);
	free(cert);
	free(other);
	wipe_strp(&ca_key);
	wipe_strp(&key);
	wipe_strp(&other_key);
	return 0;
}

static void
certificates_serve_both_directions(void **state)
{
	struct tls_ctx *server, *peer;

	assert_non_null(server = tls_ctx_new_server(cert, key, ca, &err));
	assert_non_null(peer = tls_ctx_new_peer(cert, key, ca, &err));
	tls_ctx_unref(server);
	tls_ctx_unref(peer);
	assert_null(tls_ctx_new_peer(cert, ca_key, ca, &err));
	assert_int_equal(err.code, ERR_TLS);
	assert_null(tls_ctx_new_peer(cert, key, "", &err));
	assert_int_equal(err.code, ERR_CONFIG);
}

static void
ages_are_told(void **state)
{
	int days = 0;

	assert_ok(tls_days_left(ca, &days, &err));
	assert_in_range(days, 3649, 3650);
	assert_ok(tls_days_left(cert, &days, &err));
	assert_in_range(days, 396, 397);
	assert_err(tls_days_left("no PEM", &days, &err), TLS, "certificate");
}

static void
wrong_input_is_refused(void **state)
{
	char *c = NULL, *k = NULL;

	assert_err(tls_ca_issue(ca, other_key, "n", 1, &c, &k, &err), TLS,
	    "authority and its key");
	assert_err(tls_ca_issue("", "", "n", 1, &c, &k, &err), TLS,
	    "authority and its key");
	assert_err(tls_ca_issue(ca, ca_key, "a,DNS:b", 1, &c, &k, &err),
	    PARAMETER, "can't stand");
	assert_null(c);
	assert_null(k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(certificates_serve_both_directions),
		cmocka_unit_test(ages_are_told),
		cmocka_unit_test(wrong_input_is_refused),
	};

	return cmocka_run_group_tests(tests, make, unmake);
}
