/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io_test.h"

#include "base/str.h"
#include "net/http_server.h"

static struct seen client; /* raw bytes in and out */
static struct http_conn *conn;
static struct http_server_conf conf;
static int requests, aborts, closes;
static bool hold; /* answer later, by the test */
static char path[256], body[4096], query_a[64];

static void
on_request(struct http_conn *c, struct http_request *req, void *arg)
{
	const char *a = http_query(&req->query, "a");

	requests++;
	str_copy(path, sizeof(path), req->path);
	str_copy(body, sizeof(body), req->body == NULL ? "" : req->body);
	str_copy(query_a, sizeof(query_a), a == NULL ? "" : a);
	if (hold)
		return;
	if (str_eq(path, "/fail")) {
		err_set(&err, ERR_CONFLICT, "it is running");
		http_respond_err(c, &err);
	} else if (str_eq(path, "/json")) {
		http_respond_json(c, 200, json_pack("{s:i}", "n", 1));
	} else {
		http_respond_text(c, 200, "hello");
	}
}

static void
on_abort(struct http_conn *c, void *arg)
{
	aborts++;
}

static void
on_close(struct http_conn *c, void *arg)
{
	closes++;
	conn = NULL;
}

static const struct http_handlers handlers = { on_request, on_abort, on_close };

static void
open_pair(void)
{
	int fds[2];

	stream_pair(fds);
	memset(&client, 0, sizeof(client));
	buf_init(&client.got, 10 * 1024 * 1024);
	client.keep = true;
	client.io = io_new(loop, fds[0], see, &client);
	conn = http_conn_new(
	    io_new(loop, fds[1], NULL, NULL), &conf, &handlers, NULL);
}

static void
close_pair(void)
{
	http_conn_free(take_ptr(conn));
	seen_done(&client);
}

static int
setup(void **state)
{
	loop_setup(state);
	requests = aborts = closes = 0;
	hold = false;
	conf = http_server_defaults;
	open_pair();
	return 0;
}

static int
teardown(void **state)
{
	close_pair();
	return io_teardown(state);
}

static void
say(const char *text)
{
	io_write(client.io, text, strlen(text));
}

/* The answer, as far as it came; then forgotten. */
static const char *
answer(void)
{
	static char text[65536];
	size_t n =
	    client.got.len < sizeof(text) ? client.got.len : sizeof(text) - 1;

	memcpy(text, buf_head(&client.got), n);
	text[n] = '\0';
	buf_consume(&client.got, client.got.len);
	return text;
}

#define assert_has(text, part)                                      \
	do {                                                        \
		if (strstr((text), (part)) == NULL)                 \
			fail_msg("'%s' isn't in '%s'", part, text); \
	} while (0)

#define HOST "Host: h\r\n"

static void
keeps_the_connection(void **state)
{
	const char *text;

	say("\r\nGET /a%20b?a=1+2 HTTP/1.1\r\n" HOST "\r\n");
	run_until(client.got.len > 0);
	text = answer();
	assert_string_equal(text,
	    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
	    "Content-Length: 5\r\n\r\nhello");
	assert_string_equal(path, "/a b");
	assert_string_equal(query_a, "1 2");
	say("POST /p HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nab");
	run_for(10);
	assert_int_equal(requests, 1);
	say("cd");
	run_until(requests == 2);
	assert_string_equal(body, "abcd");
	run_until(client.got.len > 0);
	answer();
	say("GET http://h/abs?a=3 HTTP/1.1\r\n" HOST
	    "Connection: close\r\n\r\n");
	run_until(client.eof == 1);
	assert_string_equal(path, "/abs");
	assert_has(answer(), "Connection: close\r\n");
	assert_int_equal(closes, 1);
}

static void
reads_chunks(void **state)
{
	const char *p =
	    "POST /c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
	    "3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n";

	say(p);
	run_until(requests == 1);
	assert_string_equal(body, "abcdefgh");
	run_until(client.got.len > 0);
	answer();
	for (; *p != '\0'; p++) { /* byte by byte the same */
		io_write(client.io, p, 1);
		run_for(1);
	}
	run_until(requests == 2);
	assert_string_equal(body, "abcdefgh");
	/* Nothing of it is left over for the next request. */
	run_until(client.got.len > 0);
	answer();
	say("GET /next HTTP/1.1\r\n" HOST "\r\n");
	run_until(requests == 3);
	assert_string_equal(path, "/next");
}

static void
refuses_pipelining_cleanly(void **state)
{
	const char *text;

	say("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n");
	run_until(client.eof == 1);
	text = answer();
	assert_int_equal(strncmp(text, "HTTP/1.1 200", 12), 0);
	assert_has(text, "helloHTTP/1.1 400 Bad Request");
	assert_int_equal(requests, 1);
	assert_int_equal(closes, 1);
	close_pair();
	conf.tolerate_early = true;
	open_pair();
	say("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n");
	run_until(requests == 3);
	assert_string_equal(path, "/2");
}

static void
interim_answers_and_upgrade(void **state)
{
	struct seen up = { .keep = true };

	buf_init(&up.got, 1000);
	hold = true;
	say("GET /up HTTP/1.1\r\n" HOST "\r\nearly");
	run_until(requests == 1);
	http_respond_interim(conn, 102, "X-QVD-VM-Info: hello\r\n");
	run_until(client.got.len > 0);
	assert_string_equal(answer(),
	    "HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: hello\r\n\r\n");
	up.io = http_upgrade(take_ptr(conn), "X-QVD-Slave-Key: k\r\n");
	io_set_cb(up.io, see, &up);
	run_until(up.got.len == 5);
	assert_memory_equal(buf_head(&up.got), "early", 5);
	io_write(up.io, "raw", 3);
	run_until(client.got.len == 59);
	assert_string_equal(answer(),
	    "HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: k\r\n\r\n"
	    "raw");
	assert_int_equal(closes + aborts, 0);
	seen_done(&up);
}

static void
expect_continue(void **state)
{
	const char *head = "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n"
			   "Expect: 100-continue\r\n\r\n";

	say(head);
	run_until(client.got.len > 0);
	assert_string_equal(answer(), "HTTP/1.1 100 Continue\r\n\r\n");
	say("abc");
	run_until(requests == 1);
	run_for(5);
	answer();
	say(head);
	say("abc"); /* didn't wait: isn't told to go on */
	run_until(requests == 2 && client.got.len > 0);
	assert_int_equal(strncmp(answer(), "HTTP/1.1 200", 12), 0);
	say("POST / HTTP/1.1\r\n" HOST "Expect: miracles\r\n\r\n");
	run_until(client.eof == 1);
	assert_has(answer(), "417");
}

static void
one_refusal(const char *request, int status)
{
	char expected[32];

	close_pair();
	open_pair();
	say(request);
	run_until(client.eof == 1);
	snprintf(expected, sizeof(expected), "HTTP/1.1 %d ", status);
	assert_has(answer(), expected);
	assert_null(conn);
}

static void
refuses_with_a_status(void **state)
{
	_cleanup_(freep)
	char *pad = xcalloc(20001, 1);
	_cleanup_(freep)
	char *head = NULL;
	_cleanup_(freep)
	char *many = NULL;
	struct buf b;
	int i;

	memset(pad, 'x', 20000);
	head = xasprintf("GET / HTTP/1.1\r\nA: %s\r\n", pad);
	one_refusal(head, 431);
	one_refusal("GET / HTTP/1.1\r\n\r\n", 400); /* no Host */
	one_refusal("GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400);
	one_refusal("GET /%01 HTTP/1.1\r\n" HOST "\r\n", 400);
	one_refusal("GET /#a HTTP/1.1\r\n" HOST "\r\n", 400);
	one_refusal("OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400);
	one_refusal("CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", 400);
	one_refusal("nonsense\r\n\r\n", 400);
	one_refusal("GET / HTTP/2.0\r\n" HOST "\r\n", 505);
	conf.body_max = 10;
	one_refusal(
	    "POST / HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\n", 413);
	one_refusal("POST / HTTP/1.1\r\n" HOST
		    "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
	    413);
	one_refusal("POST / HTTP/1.1\r\n" HOST
		    "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
	    400);
	buf_init(&b, 10000);
	buf_printf(&b, "GET / HTTP/1.1\r\n");
	for (i = 0; i < HTTP_PARAMS_MAX + 1; i++)
		buf_printf(&b, "A%d: b\r\n", i);
	buf_printf(&b, "\r\n");
	many = buf_take_str(&b);
	buf_done(&b);
	one_refusal(many, 431);
	assert_int_equal(requests, 0);
}

static void
timeouts(void **state)
{
	const char *slow = "GET / HTTP/1.1\r\nA: ";
	int i;

	close_pair();
	conf.header_timeout_ms = 100;
	conf.body_timeout_ms = 100;
	conf.idle_timeout_ms = 100;
	open_pair();
	/* One byte now and then gains no time. */
	for (; *slow != '\0' && client.eof == 0; slow++) {
		io_write(client.io, slow, 1);
		run_for(10);
	}
	run_until(client.eof == 1);
	assert_has(answer(), "HTTP/1.1 408 Request Timeout");
	close_pair();
	open_pair();
	say("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na");
	run_until(client.eof == 1);
	assert_has(answer(), "408");
	close_pair();
	open_pair();
	for (i = 0; i < 30 && client.eof == 0; i++) { /* nor blank lines */
		say("\r\n");
		run_for(10);
	}
	run_until(client.eof == 1);
	assert_has(answer(), "408");
	close_pair();
	open_pair();
	run_until(client.eof == 1); /* idle: ends without a word */
	assert_int_equal(client.got.len, 0);
	assert_int_equal(closes, 4);
	/* A request that is being worked on has all the time it needs. */
	close_pair();
	open_pair();
	hold = true;
	say("GET / HTTP/1.1\r\n" HOST "\r\n");
	run_for(250);
	assert_int_equal(client.eof, 0);
	http_respond_text(conn, 200, "late");
	run_until(client.got.len > 0);
}

static void
speaks_tls_from_the_first_byte(void **state)
{
	struct seen raw;
	int tls;

	conf.header_timeout_ms = 100;
	for (tls = 1; tls >= 0; tls--) {
		close_pair();
		io_pair(&client, &raw, tls);
		if (!tls)
			io_tls_accept(raw.io, server_ctx);
		conn = http_conn_new(raw.io, &conf, &handlers, NULL);
		if (tls) {
			say("GET /tls HTTP/1.1\r\n" HOST "\r\n");
			run_until(client.got.len > 0);
			assert_has(answer(), "hello");
			run_for(150); /* the handshake's deadline is off */
			assert_int_equal(client.eof, 0);
		} else { /* a handshake that never begins */
			run_until(client.eof == 1);
			assert_int_equal(client.got.len, 0);
		}
	}
}

static void
a_client_that_goes_aborts_its_request(void **state)
{
	hold = true;
	say("GET / HTTP/1.1\r\n" HOST "\r\n");
	run_until(requests == 1);
	io_free(take_ptr(client.io));
	run_until(aborts == 1 && closes == 1);
}

static void
streams(void **state)
{
	char *big = pattern(300 * 1024);
	bool room = true;
	int i;

	hold = true;
	say("GET / HTTP/1.1\r\n" HOST "\r\n");
	run_until(requests == 1);
	http_respond_begin(conn, 200, NULL, "application/x-ndjson");
	assert_true(http_respond_chunk(conn, "one\n", 4));
	assert_true(http_respond_chunk(conn, "", 0));
	assert_true(http_respond_chunk(conn, "twotwotwotwotwotwo\n", 19));
	http_respond_end(conn);
	run_until(client.got.len > 120);
	assert_string_equal(answer(),
	    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n"
	    "4\r\none\n\r\n13\r\ntwotwotwotwotwotwo\n\r\n0\r\n\r\n");
	/* One that isn't read is not queued without end. */
	io_pause(client.io);
	say("GET / HTTP/1.1\r\n" HOST "\r\n");
	run_until(requests == 2);
	http_respond_begin(conn, 200, NULL, "text/plain");
	for (i = 0; i < 10 && room; i++)
		room = http_respond_chunk(conn, big, 300 * 1024);
	assert_false(room);
	assert_true(i < 6);
	http_conn_free(take_ptr(conn));
	free(big);
}

static void
answers_errors_as_json_or_text(void **state)
{
	const char *text;

	say("GET /fail HTTP/1.1\r\n" HOST "\r\n");
	run_until(client.got.len > 0);
	text = answer();
	assert_has(text, "HTTP/1.1 409 Conflict\r\n");
	assert_has(text, "{\"error\":{\"id\":\"conflict\","
			 "\"message\":\"it is running\"}}");
	close_pair();
	conf.lenient = true;
	open_pair();
	say("GET /fail HTTP/1.1\n\n");
	run_until(client.got.len > 0);
	assert_string_equal(answer(),
	    "HTTP/1.1 409 Conflict\r\nContent-Type: text/plain\r\n"
	    "Content-Length: 13\r\n\r\nit is running");
	say("GET /json HTTP/1.1\n\n");
	run_until(client.got.len > 0);
	assert_has(answer(), "\"n\": 1");
	say("GET /x HTTP/1.0\n\n");
	run_until(client.eof == 1);
	text = answer();
	assert_has(text, "HTTP/1.1 505 HTTP Version Not Supported\r\n");
	assert_has(text, "text/plain");
}

static void
head_and_http10(void **state)
{
	const char *text;

	say("HEAD / HTTP/1.1\r\n" HOST "\r\n");
	run_until(client.got.len > 0);
	text = answer();
	assert_has(text, "Content-Length: 5\r\n\r\n");
	assert_null(strstr(text, "hello"));
	say("GET / HTTP/1.0\r\n\r\n");
	run_until(client.eof == 1);
	assert_has(answer(), "hello");
}

#define server_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		server_test(keeps_the_connection),
		server_test(reads_chunks),
		server_test(refuses_pipelining_cleanly),
		server_test(interim_answers_and_upgrade),
		server_test(expect_continue),
		server_test(refuses_with_a_status),
		server_test(timeouts),
		server_test(speaks_tls_from_the_first_byte),
		server_test(a_client_that_goes_aborts_its_request),
		server_test(streams),
		server_test(answers_errors_as_json_or_text),
		server_test(head_and_http10),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
