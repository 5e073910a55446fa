/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <stdio.h>
#include <string.h>

#include "client/answer.h"

#define OK   "HTTP/1.1 200 OK\r\n"
#define STEP "HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: "
#define UPGRADE                                \
	"HTTP/1.1 101 Switching Protocols\r\n" \
	"X-QVD-Slave-Key: abc\r\n\r\n"

/* Feeds text in pieces of `step` bytes up to the first event that isn't
 * ANSWER_MORE. *ret_at: how many bytes were used. */
static int
feed(struct answer *a, const char *text, size_t len, size_t step,
    size_t *ret_at, struct err *err)
{
	size_t at = 0, n, used = 0;
	int r = ANSWER_MORE;

	while (at < len && r == ANSWER_MORE) {
		n = len - at < step ? len - at : step;
		r = answer_feed(a, text + at, n, &used, err);
		at += used;
	}
	*ret_at = at;
	return r;
}

static void
test_body(void **state)
{
	static const char text[] = OK "Content-Type: application/json\r\n"
				      "Content-Length: 4\r\n\r\n[1] rest";
	struct err err = { 0 };
	struct answer a;
	size_t step, at;

	for (step = 1; step <= sizeof(text); step++) {
		answer_init(&a);
		assert_int_equal(feed(&a, text, strlen(text), step, &at, &err),
		    ANSWER_FINAL);
		assert_int_equal(at, strlen(text) - 4);
		assert_int_equal(a.status, 200);
		assert_string_equal(a.headers.type, "application/json");
		assert_memory_equal(buf_head(&a.body), "[1] ", 4);
		assert_true(a.keep_alive);
		answer_done(&a);
	}
}

static void
test_chunked_and_close(void **state)
{
	static const char text[] =
	    OK "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	       "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\nX";
	struct err err = { 0 };
	struct answer a;
	size_t at;

	answer_init(&a);
	assert_int_equal(
	    feed(&a, text, strlen(text), 7, &at, &err), ANSWER_FINAL);
	assert_int_equal(at, strlen(text) - 1);
	assert_memory_equal(buf_head(&a.body), "abcde", 5);
	assert_false(a.keep_alive);
	answer_done(&a);
}

static void
test_until_the_end(void **state)
{
	static const char text[] = "HTTP/1.1 503 Busy\r\n\r\nno desk";
	struct err err = { 0 };
	struct answer a;
	size_t at;

	answer_init(&a);
	assert_int_equal(
	    feed(&a, text, strlen(text), 100, &at, &err), ANSWER_MORE);
	assert_int_equal(answer_eof(&a, &err), ANSWER_FINAL);
	assert_int_equal(a.status, 503);
	assert_int_equal(buf_len(&a.body), 7);
	answer_done(&a);

	answer_init(&a);
	assert_err(answer_eof(&a, &err), NETWORK, "without an answer");
	feed(&a, OK "Content-Length: 5\r\n\r\nab", strlen(OK) + 23, 5, &at,
	    &err);
	assert_err(answer_eof(&a, &err), NETWORK, "within its answer");
	answer_done(&a);
}

/* Every byte after the 101 belongs to somebody else, however the bytes came;
 * and the 101 is known at its own last byte. */
static void
test_upgrade(void **state)
{
	static const char text[] =
	    STEP "one\r\n\r\n" STEP "two\r\n\r\n" UPGRADE;
	char all[sizeof(text) + 8];
	struct err err = { 0 };
	struct answer a;
	size_t step, at, used, len = strlen(text);

	snprintf(all, sizeof(all), "%sNXPROXY", text);
	for (step = 1; step <= len + 7; step++) {
		answer_init(&a);
		assert_int_equal(
		    feed(&a, all, len + 7, step, &at, &err), ANSWER_INTERIM);
		assert_int_equal(a.status, 102);
		assert_string_equal(a.headers.info, "one");
		assert_int_equal(
		    feed(&a, all + at, len - at, step, &used, &err),
		    ANSWER_INTERIM);
		assert_string_equal(a.headers.info, "two");
		at += used;
		assert_int_equal(
		    feed(&a, all + at, len - at, step, &used, &err),
		    ANSWER_UPGRADED);
		assert_int_equal(at + used, len);
		assert_string_equal(a.headers.key, "abc");
		assert_string_equal(a.headers.info, "");
		answer_done(&a);
	}
	answer_init(&a);
	assert_int_equal(
	    answer_feed(&a, UPGRADE "NX", strlen(UPGRADE) + 2, &used, &err),
	    ANSWER_UPGRADED);
	assert_int_equal(used, strlen(UPGRADE));
	answer_done(&a);
}

static void
test_text_for_a_terminal(void **state)
{
	struct err err = { 0 };
	struct answer a;
	size_t at;
	static const char evil[] = STEP "a\x1b[31mb\r\n\r\n";
	static const char utf8[] = STEP "Arrancando m\xc3\xa1quina\r\n\r\n";
	static const char latin[] = STEP "m\xe1quina\r\n\r\n";

	answer_init(&a);
	/* llhttp may refuse control characters itself: then it is an error */
	if (feed(&a, evil, strlen(evil), 99, &at, &err) >= 0)
		assert_null(strchr(a.headers.info, 0x1b));
	answer_done(&a);
	answer_init(&a);
	assert_int_equal(
	    feed(&a, utf8, strlen(utf8), 99, &at, &err), ANSWER_INTERIM);
	assert_string_equal(a.headers.info, "Arrancando m\xc3\xa1quina");
	assert_int_equal(
	    feed(&a, latin, strlen(latin), 99, &at, &err), ANSWER_INTERIM);
	assert_string_equal(a.headers.info, "m\\xe1quina");
	answer_done(&a);
}

static void
test_limits(void **state)
{
	struct err err = { 0 };
	struct answer a;
	size_t at, i;
	int r = ANSWER_MORE;
	char line[] = "X-Filler: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n";

	answer_init(&a);
	feed(&a, OK, strlen(OK), 99, &at, &err);
	for (i = 0; i < 10000 && r == ANSWER_MORE; i++)
		r = feed(&a, line, strlen(line), 999, &at, &err);
	assert_int_equal(r, -ERR_PROTOCOL);
	assert_non_null(strstr(err.msg, "KiB of headers"));
	answer_done(&a);

	answer_init(&a);
	err = (struct err){ 0 };
	feed(&a, OK "\r\n", strlen(OK) + 2, 99, &at, &err);
	for (i = 0, r = ANSWER_MORE; i < 100000 && r == ANSWER_MORE; i++)
		r = feed(&a, line, strlen(line), 999, &at, &err);
	assert_int_equal(r, -ERR_PROTOCOL);
	assert_non_null(strstr(err.msg, "larger than 1024 KiB"));
	answer_done(&a);
}

static void
test_no_http(void **state)
{
	struct err err = { 0 };
	struct answer a;
	size_t at;

	answer_init(&a);
	assert_err(feed(&a, "SSH-2.0\r\n", 9, 99, &at, &err), PROTOCOL,
	    "check host and port");
	answer_done(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_chunked_and_close),
		cmocka_unit_test(test_until_the_end),
		cmocka_unit_test(test_upgrade),
		cmocka_unit_test(test_text_for_a_terminal),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
