/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "net/http_priv.h"

static struct err err;
static struct arena *arena;

static int
setup(void **state)
{
	arena = arena_new(1024 * 1024);
	return 0;
}

static int
teardown(void **state)
{
	arena_free(arena);
	return 0;
}

static int
query(const char *text, struct http_params *ret)
{
	return http_query_parse(text, strlen(text), arena, ret, &err);
}

static void
parses_queries(void **state)
{
	struct http_params q = { 0 };
	char many[HTTP_PARAMS_MAX * 2 + 3];
	size_t i;

	assert_ok(query("", &q));
	assert_int_equal(q.n, 0);
	assert_ok(query("a=1&b=x%20y+z&&c&d=a=b&%65=%3d&a=2", &q));
	assert_int_equal(q.n, 6);
	assert_string_equal(http_query(&q, "a"), "1");
	assert_string_equal(http_query(&q, "b"), "x y z");
	assert_string_equal(http_query(&q, "c"), "");
	assert_string_equal(http_query(&q, "d"), "a=b");
	assert_string_equal(http_query(&q, "e"), "=");
	assert_null(http_query(&q, "A"));
	assert_err(query("a=%0", &q), INVALID, "malformed");
	assert_err(query("a=%zz", &q), INVALID, "malformed");
	assert_err(query("a=%00", &q), INVALID, "malformed");
	for (i = 0; i < sizeof(many) - 1; i++)
		many[i] = i % 2 == 0 ? 'a' : '&';
	many[i] = '\0';
	assert_err(query(many, &q), INVALID, "more than 100");
}

static void
finds_the_end_of_a_head(void **state)
{
	static const struct {
		const char *text;
		size_t end;
	} table[] = {
		{ "a\r\n\r\nbody", 5 },
		{ "a\n\nbody", 3 },
		{ "a\r\n\nbody", 4 },
		{ "a\n\r\nbody", 4 },
		{ "a\r\nb\r\n", 0 },
		{ "a\r\nb\r\n\r", 0 },
		{ "\n", 0 },
		{ "", 0 },
	};
	size_t i, n, scanned, end;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		scanned = 0;
		assert_int_equal(http_head_end(table[i].text,
				     strlen(table[i].text), &scanned),
		    table[i].end);
		/* Byte by byte it comes out the same. */
		scanned = end = 0;
		for (n = 0; n <= strlen(table[i].text) && end == 0; n++)
			end = http_head_end(table[i].text, n, &scanned);
		assert_int_equal(end, table[i].end);
	}
}

static void
encodes(void **state)
{
	_cleanup_(freep)
	char *s = http_encode("a b/\xc3\xa9~");

	assert_string_equal(s, "a%20b%2F%C3%A9~");
	assert_string_equal(
	    http_decode(arena, s, strlen(s), false), "a b/\xc3\xa9~");
}

static void
finds_words_in_lists(void **state)
{
	assert_true(http_has_word("keep-alive, Upgrade", "upgrade"));
	assert_true(http_has_word("upgrade", "upgrade"));
	assert_true(http_has_word(" x ,upgrade ,y", "upgrade"));
	assert_false(http_has_word("upgrades", "upgrade"));
	assert_false(http_has_word("", "upgrade"));
	assert_false(http_has_word(NULL, "upgrade"));
}

/* Status of a whole head, 0 if it is fine. */
static int
head(const char *text, struct http_msg *m)
{
	memset(m, 0, sizeof(*m));
	return http_msg_head(m, HTTP_REQUEST, arena, text, strlen(text), &err);
}

#define GET "GET / HTTP/1.1\r\n"

static void
refuses_what_readers_disagree_about(void **state)
{
	static const struct {
		const char *text;
		int status;
	} table[] = {
		{ GET "\r\n", 0 },
		{ GET "Content-Length: 5\r\n\r\n", 0 },
		{ GET "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400 },
		{ GET "Content-Length: 5, 5\r\n\r\n", 400 },
		{ GET "Content-Length: +5\r\n\r\n", 400 },
		{ GET "Content-Length: 0x5\r\n\r\n", 400 },
		{ GET "Content-Length: -1\r\n\r\n", 400 },
		{ GET "Content-Length: 99999999999999999999\r\n\r\n", 400 },
		{ GET "Transfer-Encoding: chunked\r\n\r\n", 0 },
		{ GET "Transfer-Encoding: gzip, chunked\r\n\r\n", 400 },
		{ GET "Transfer-Encoding: xchunked\r\n\r\n", 400 },
		{ GET "Transfer-Encoding: identity\r\n\r\n", 400 },
		{ GET "Transfer-Encoding: chunked\r\n"
		      "Transfer-Encoding: chunked\r\n\r\n",
		    400 },
		{ GET "Content-Length: 5\r\n"
		      "Transfer-Encoding: chunked\r\n\r\n",
		    400 },
		{ GET "Host: a\r\nHost: b\r\n\r\n", 400 },
		{ GET "A: b\n\r\n", 400 },
		{ GET "A: b\r c\r\n\r\n", 400 },
		{ GET "A: b\r\n c\r\n\r\n", 400 },
		{ GET "A : b\r\n\r\n", 400 },
		{ GET ": b\r\n\r\n", 400 },
		{ GET "A\r\n\r\n", 400 },
		{ GET "A: \x01\r\n\r\n", 400 },
		{ "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
		{ "GET / HTTP/1.2\r\n\r\n", 505 },
		{ "GET / HTTP/3.0\r\n\r\n", 505 },
		{ "get / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / http/1.1\r\n\r\n", 400 },
		{ "GET /\r\n\r\n", 505 },
	};
	struct http_msg m;
	size_t i;
	int status;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		status = head(table[i].text, &m);
		if (status != table[i].status)
			fail_msg("%s: %d", table[i].text, status);
	}
}

static void
understands_old_clients(void **state)
{
	static const char old[] =
	    "\n\r\nGET /qvd/connect_to_vm?id=1&a=x y z&q=\"1\" HTTP/1.1\n"
	    "Authorization : Basic eDp5\n"
	    "Long: one\n\ttwo\r\n   three\n"
	    "Connection: Upgrade\nUpgrade: QVD/1.0\n\n";
	static const struct {
		const char *text;
		int status;
	} bad[] = {
		{ "GET / HTTP/1.0\n\n", 505 },
		{ "GET /\n\n", 505 },
		{ "GET / HTTP/1.11\n\n", 505 },
		{ "GET  HTTP/1.1\n\n", 505 },
		{ "GET\n\n", 400 },
		{ "G-T / HTTP/1.1\n\n", 400 },
		{ " GET / HTTP/1.1\n\n", 400 },
		{ "GET / HTTP/1.1\nno colon\n\n", 400 },
		{ "GET / HTTP/1.1\n: x\n\n", 400 },
	};
	struct http_msg m = { 0 };
	struct buf out;
	size_t i;

	buf_init(&out, 65536);
	assert_int_equal(
	    http_lenient_head(old, sizeof(old) - 1, &out, &err), 0);
	assert_int_equal(http_msg_head(&m, HTTP_REQUEST, arena, buf_head(&out),
			     out.len, &err),
	    0);
	assert_string_equal(
	    m.target, "/qvd/connect_to_vm?id=1&a=x%20y%20z&q=%221%22");
	assert_string_equal(
	    http_header(&m.headers, "Authorization"), "Basic eDp5");
	assert_string_equal(http_header(&m.headers, "long"), "one two three");
	assert_string_equal(http_header(&m.headers, "Upgrade"), "QVD/1.0");
	buf_done(&out);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		buf_init(&out, 65536);
		assert_int_equal(http_lenient_head(bad[i].text,
				     strlen(bad[i].text), &out, &err),
		    bad[i].status);
		buf_done(&out);
	}
}

#define http_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		http_test(parses_queries),
		http_test(finds_the_end_of_a_head),
		http_test(encodes),
		http_test(finds_words_in_lists),
		http_test(refuses_what_readers_disagree_about),
		http_test(understands_old_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
