/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The installed interface alone: codes, options of older and newer callers,
 * refusals that need no server. */
#include "test.h"

#include <string.h>

#include "qvd/client.h"

static void
test_codes(void **state)
{
	/* The public numbers are the exit codes of base/err.h. */
	static const struct {
		int code;
		const char *id;
	} rows[] = {
		{ QVD_USAGE, "usage" },
		{ QVD_INTERNAL, "internal" },
		{ QVD_INVALID, "invalid-request" },
		{ QVD_AUTH, "authentication-failed" },
		{ QVD_BLOCKED, "blocked" },
		{ QVD_FORBIDDEN, "not-allowed" },
		{ QVD_NOT_FOUND, "not-found" },
		{ QVD_CONFLICT, "conflict" },
		{ QVD_TOO_LARGE, "too-large" },
		{ QVD_PARAMETER, "bad-parameter" },
		{ QVD_UPGRADE, "upgrade-required" },
		{ QVD_UNAVAILABLE, "unavailable" },
		{ QVD_TIMEOUT, "timeout" },
		{ QVD_NO_SPACE, "no-space" },
		{ QVD_NO_MEMORY, "no-memory" },
		{ QVD_SYSTEM, "system" },
		{ QVD_NETWORK, "network" },
		{ QVD_TLS, "tls" },
		{ QVD_PROTOCOL, "protocol" },
		{ QVD_DATABASE, "database" },
		{ QVD_IMAGE, "image-unusable" },
		{ QVD_VM_START, "vm-start-failed" },
		{ QVD_VM_LOST, "vm-lost" },
		{ QVD_SESSION, "session-failed" },
		{ QVD_TAKEN_OVER, "session-taken-over" },
		{ QVD_CANCELLED, "cancelled" },
		{ QVD_CERTIFICATE, "certificate-not-trusted" },
		{ QVD_CONFIG, "configuration" },
		{ QVD_ENDED, "session-ended" },
	};
	size_t i;

	assert_int_equal(ARRAY_SIZE(rows), ERR_COUNT_ - 1);
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(qvd_code_id(rows[i].code), rows[i].id);
	assert_string_equal(qvd_code_id(12345), "internal");
}

static int
open_client(struct qvd_client_options *o, struct qvd_error *error)
{
	struct qvd_client *c = NULL;
	int r = qvd_client_new(o, &c, error);

	if (r < 0)
		assert_null(c);
	qvd_client_free(c);
	return r;
}

static void
test_options(void **state)
{
	struct qvd_client_options good = QVD_CLIENT_OPTIONS_INIT, o;
	struct qvd_error e = QVD_ERROR_INIT;

	good.host = "farm.example";
	good.user = "alice";
	good.password = "secret";
	assert_int_equal(open_client(&good, &e), 0);
	o = good;
	o.host = "farm.example/evil";
	assert_int_equal(open_client(&o, &e), -QVD_USAGE);
	assert_string_equal(e.id, "usage");
	assert_non_null(strstr(e.message, "farm.example/evil"));
	o.host = NULL;
	assert_int_equal(open_client(&o, &e), -QVD_USAGE);
	o = good;
	o.port = 70000;
	assert_int_equal(open_client(&o, NULL), -QVD_USAGE);
	o = good;
	o.user = "a:b"; /* would move the border to the password */
	assert_int_equal(open_client(&o, &e), -QVD_USAGE);
	o = good;
	o.password = NULL;
	assert_int_equal(open_client(&o, &e), -QVD_USAGE);
	o.user = NULL;
	o.token = "t0ken";
	assert_int_equal(open_client(&o, &e), 0);
	o.token = "two\nlines";
	assert_int_equal(open_client(&o, &e), -QVD_USAGE);
}

/* A caller that was built with a shorter or a longer struct. */
static void
test_sizes(void **state)
{
	struct {
		struct qvd_client_options o;
		char more[64];
	} future = {
		.o = { .size = sizeof(future), .host = "farm", .token = "t" }
	};
	struct {
		struct qvd_error e;
		char guard[8];
	} past = { .e = { .size = offsetof(struct qvd_error, message) + 10 } };

	assert_int_equal(open_client(&future.o, NULL), 0);
	memset(past.e.message, 'x', sizeof(past.e.message));
	future.o.host = "";
	assert_int_equal(open_client(&future.o, &past.e), -QVD_USAGE);
	assert_int_equal(strlen(past.e.message), 9);
	assert_int_equal(past.e.message[10], 'x');
	past.e.size = 4; /* too small for anything: untouched */
	past.e.code = 1;
	assert_int_equal(open_client(&future.o, &past.e), -QVD_USAGE);
	assert_int_equal(past.e.code, 1);
}

static void
test_refusals_without_a_server(void **state)
{
	struct qvd_client_options o = QVD_CLIENT_OPTIONS_INIT;
	struct qvd_session_options s = QVD_SESSION_OPTIONS_INIT;
	struct qvd_error e = QVD_ERROR_INIT;
	const char *const odd[] = { "custom.x", NULL };
	const char *const wrong[] = { "id", "7", NULL };
	struct qvd_list *list = NULL;
	struct qvd_client *c = NULL;

	o.host = "127.0.0.1";
	o.port = 1; /* nobody listens */
	o.token = "t";
	assert_int_equal(qvd_client_new(&o, &c, &e), 0);
	assert_int_equal(qvd_client_run(c, &s, &e), -QVD_USAGE);
	s.vm_id = 7;
	s.geometry = "12x";
	assert_int_equal(qvd_client_run(c, &s, &e), -QVD_USAGE);
	s.geometry = NULL;
	s.params = odd;
	assert_int_equal(qvd_client_run(c, &s, &e), -QVD_USAGE);
	s.params = wrong;
	assert_int_equal(qvd_client_run(c, &s, &e), -QVD_USAGE);
	assert_int_equal(qvd_client_list(c, 99, &list, &e), -QVD_USAGE);
	assert_int_equal(qvd_client_login(c, &e), -QVD_NETWORK);
	assert_string_equal(e.id, "network");
	assert_string_equal(e.reference, "");
	/* A cancellation is heard once. */
	qvd_client_cancel(c);
	qvd_client_cancel(c);
	assert_int_equal(qvd_client_login(c, &e), -QVD_CANCELLED);
	assert_int_equal(qvd_client_login(c, &e), -QVD_NETWORK);
	qvd_client_free(c);
	qvd_client_free(NULL);
	qvd_list_free(NULL);
	qvd_secret_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_refusals_without_a_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
