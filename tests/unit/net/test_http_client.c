/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io_test.h"

#include "base/str.h"
#include "json/json.h"
#include "net/http_client.h"

static struct seen server; /* raw bytes in and out */
static struct http_client *client;
static int interims, responses, upgrades, errors;
static int status;
static char text[70000];
static size_t text_len;
static int64_t n;
static struct err why;
static struct io *upgraded;

static void
on_interim(int s, const struct http_params *headers, void *arg)
{
	interims++;
	assert_int_equal(s, 102);
	assert_string_equal(http_header(headers, "x-qvd-vm-info"), "hello");
}

static void
on_chunk(const void *data, size_t len, void *arg)
{
	memcpy(text + text_len, data, len);
	text_len += len;
}

static void
on_response(const struct http_response *res, void *arg)
{
	responses++;
	status = res->status;
	if (res->body_len > 0) {
		memcpy(text, res->body, res->body_len + 1);
		text_len = res->body_len;
	}
	n = res->json == NULL ? 0 : json_get_int(res->json, "n", -1);
}

static void
on_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	upgrades++;
	upgraded = io;
	client = NULL;
}

static void
on_error(const struct err *e, void *arg)
{
	errors++;
	why = *e;
}

static const struct http_client_handlers handlers = { on_interim, on_chunk,
	on_response, on_upgrade, on_error };

static int
setup(void **state)
{
	int fds[2];

	loop_setup(state);
	interims = responses = upgrades = errors = 0;
	text_len = 0;
	stream_pair(fds);
	memset(&server, 0, sizeof(server));
	buf_init(&server.got, 1024 * 1024);
	server.keep = true;
	server.io = io_new(loop, fds[0], see, &server);
	client = http_client_new(io_new(loop, fds[1], NULL, NULL));
	return 0;
}

static int
teardown(void **state)
{
	http_client_free(take_ptr(client));
	seen_done(&server);
	return io_teardown(state);
}

static void
get(const char *target)
{
	struct http_client_request req = { .method = "GET", .target = target };

	http_client_send(client, &req, &handlers, NULL);
}

static void
say(const char *answer)
{
	io_write(server.io, answer, strlen(answer));
}

static void
asks_and_reads_answers(void **state)
{
	_cleanup_(json_decrefp)
	json_t *body = json_pack("{s:i}", "a", 1);
	struct http_client_request req = { .method = "POST",
		.target = "/session",
		.json = body,
		.headers = "X: y\r\n" };

	http_client_send(client, &req, &handlers, NULL);
	run_until(server.got.len > 100);
	buf_append(&server.got, "", 1);
	assert_string_equal(buf_head(&server.got),
	    "POST /session HTTP/1.1\r\nHost: localhost\r\nX: y\r\n"
	    "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
	    "{\"a\":1}");
	say("HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: hello\r\n\r\n");
	say("HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: hello\r\n\r\n");
	say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	    "Content-Length: 7\r\n\r\n{\"n\":5}");
	run_until(responses == 1);
	assert_int_equal(interims, 2);
	assert_int_equal(n, 5);
	/* The same connection once more, in chunks. */
	get("/");
	say("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
	run_until(responses == 2);
	assert_int_equal(status, 404);
	assert_string_equal(text, "abcdef");
	get("/");
	say("HTTP/1.1 204 No Content\r\n\r\n");
	run_until(responses == 3);
	get("/");
	say("HTTP/1.1 200 OK\r\n\r\nuntil the end");
	io_shutdown(server.io);
	run_until(responses == 4);
	assert_string_equal(text, "until the end");
	get("/");
	assert_int_equal(errors, 0);
	run_until(errors == 1);
	assert_int_equal(why.code, ERR_UNAVAILABLE);
}

static void
streams(void **state)
{
	struct http_client_request req = {
		.method = "GET", .target = "/events", .stream = true
	};

	http_client_send(client, &req, &handlers, NULL);
	say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n");
	run_until(text_len == 4);
	say("\r\n4\r\ntwo\n\r\n");
	run_until(text_len == 8);
	assert_int_equal(responses, 0);
	say("0\r\n\r\n");
	run_until(responses == 1);
}

static void
hands_the_stream_over(void **state)
{
	struct http_client_request req = {
		.method = "GET", .target = "/stream", .upgrade = "qvd-stream/1"
	};
	struct seen s = { .keep = true };

	http_client_send(client, &req, &handlers, NULL);
	run_until(server.got.len > 0);
	/* As the original's server answers, without Upgrade. */
	say("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: 1\r\n\r\n"
	    "early");
	run_until(upgrades == 1);
	buf_init(&s.got, 100);
	s.io = upgraded;
	io_set_cb(upgraded, see, &s);
	run_until(s.got.len == 5);
	assert_memory_equal(buf_head(&s.got), "early", 5);
	seen_done(&s);
}

static void
times_out(void **state)
{
	struct http_client_request req = {
		.method = "GET", .target = "/", .timeout_ms = 30
	};

	http_client_send(client, &req, &handlers, NULL);
	run_until(errors == 1);
	assert_int_equal(why.code, ERR_TIMEOUT);
}

static void
one_bad(const char *answer, const char *part)
{
	teardown(NULL);
	setup(NULL);
	get("/");
	say(answer);
	io_shutdown(server.io);
	run_until(errors == 1);
	if (strstr(why.msg, part) == NULL)
		fail_msg("'%s' isn't in '%s'", part, why.msg);
	assert_int_equal(responses + upgrades, 0);
}

static void
refuses_bad_answers(void **state)
{
	_cleanup_(freep)
	char *pad = xcalloc(20001, 1);
	_cleanup_(freep)
	char *head = NULL;

	memset(pad, 'x', 20000);
	head = xasprintf("HTTP/1.1 200 OK\r\nA: %s\r\n\r\n", pad);
	one_bad("nonsense\r\n\r\n", "isn't proper HTTP");
	one_bad(head, "too long");
	one_bad("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n",
	    "closed the connection");
	one_bad("HTTP/1.1 101 Switching Protocols\r\n\r\n", "nobody asked");
	one_bad("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
		"Content-Length: 2\r\n\r\n",
	    "isn't proper HTTP");
	one_bad("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		"Content-Length: 1\r\n\r\n{",
	    "not JSON");
	one_bad(
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", "chunk");
	one_bad("HTTP/1.1 200", "closed the connection");
	one_bad("", "closed the connection");
}

static void
limits_the_body(void **state)
{
	struct http_client_request req = {
		.method = "GET", .target = "/", .body_max = 5
	};

	http_client_send(client, &req, &handlers, NULL);
	say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef");
	run_until(errors == 1);
	assert_non_null(strstr(why.msg, "too long"));
}

static void
data_nobody_asked_for_is_an_error(void **state)
{
	say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	run_for(10);
	get("/");
	run_until(errors == 1);
	assert_int_equal(why.code, ERR_PROTOCOL);
}

#define client_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		client_test(asks_and_reads_answers),
		client_test(streams),
		client_test(hands_the_stream_over),
		client_test(times_out),
		client_test(refuses_bad_answers),
		client_test(limits_the_body),
		client_test(data_nobody_asked_for_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
