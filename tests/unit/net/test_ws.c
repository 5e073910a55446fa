/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io_test.h"

#include "base/str.h"
#include "net/ws.h"

static struct seen client; /* raw bytes in and out */
static struct ws *ws;
static struct buf got;
static int closed, lowat;
static bool leave;
static const char *protocol;

static void
on_ws(struct ws *w, enum ws_event event, void *arg)
{
	const char *p;
	size_t n;

	switch (event) {
	case WS_DATA:
		if (leave)
			break;
		p = ws_input(w, &n);
		buf_append(&got, p, n);
		ws_consume(w, n);
		break;
	case WS_LOWAT:
		lowat++;
		break;
	case WS_CLOSED:
		closed++;
		ws_free(w);
		ws = NULL;
		break;
	}
}

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	ws = ws_accept(conn, req, protocol, on_ws, NULL, &err);
	if (ws == NULL)
		http_respond_err(conn, &err);
}

static const struct http_handlers handlers = { .on_request = on_request };

#define HELLO                                                   \
	"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n" \
	"Connection: keep-alive, Upgrade\r\n"                   \
	"Sec-WebSocket-Version: 13\r\n"                         \
	"Sec-WebSocket-Protocol: binary, other\r\n"             \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void
knock(const char *hello)
{
	int fds[2];

	stream_pair(fds);
	memset(&client, 0, sizeof(client));
	buf_init(&client.got, 10 * 1024 * 1024);
	client.keep = true;
	client.io = io_new(loop, fds[0], see, &client);
	http_conn_new(io_new(loop, fds[1], NULL, NULL), &http_server_defaults,
	    &handlers, NULL);
	io_write(client.io, hello, strlen(hello));
	run_until(client.got.len > 0);
}

static int
setup(void **state)
{
	loop_setup(state);
	buf_init(&got, 10 * 1024 * 1024);
	closed = lowat = 0;
	leave = false;
	protocol = "binary";
	return 0;
}

static int
teardown(void **state)
{
	ws_free(ws);
	ws = NULL;
	buf_done(&got);
	seen_done(&client);
	run_for(5); /* a refused connection sees its end */
	return io_teardown(state);
}

static void
open_ws(void)
{
	knock(HELLO);
	assert_non_null(ws);
	buf_consume(&client.got, client.got.len);
}

/* A masked frame (with a mask that does something). */
static void
send_frame(unsigned char first, const char *data, size_t n)
{
	static const unsigned char mask[4] = { 1, 2, 3, 4 };
	unsigned char head[14] = { first };
	_cleanup_(freep)
	char *text = xcalloc(n + 1, 1);
	size_t len, i;

	if (n < 126) {
		head[1] = (unsigned char)(0x80 | n);
		len = 2;
	} else {
		head[1] = 0x80 | 127;
		for (i = 0; i < 8; i++)
			head[2 + i] =
			    (unsigned char)((uint64_t)n >> (56 - 8 * i));
		len = 10;
	}
	memcpy(head + len, mask, 4);
	for (i = 0; i < n; i++)
		text[i] = (char)(data[i] ^ mask[i % 4]);
	io_write(client.io, head, len + 4);
	io_write(client.io, text, n);
}

static void
shakes_hands(void **state)
{
	knock(HELLO);
	buf_append(&client.got, "", 1);
	assert_string_equal(buf_head(&client.got),
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	    "Sec-WebSocket-Protocol: binary\r\n\r\n");
}

static void
refuses_other_requests(void **state)
{
	static const char *const bad[] = {
		"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Protocol: binary\r\n"
		"Sec-WebSocket-Key: short\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	};
	static const char *const statuses[] = { "426", "426", "400", "426" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		knock(bad[i]);
		assert_null(ws);
		assert_memory_equal(buf_head(&client.got) + 9, statuses[i], 3);
		seen_done(&client);
	}
	memset(&client, 0, sizeof(client));
}

static void
carries_bytes(void **state)
{
	_cleanup_(freep)
	char *data = pattern(300 * 1024);

	open_ws();
	send_frame(0x02, "ab", 2); /* fragments, with a ping between */
	send_frame(0x89, "hi", 2);
	send_frame(0x80, "cd", 2);
	send_frame(0x82, data, 300 * 1024);
	run_until(got.len == 300 * 1024 + 4);
	assert_memory_equal(buf_head(&got), "abcd", 4);
	assert_memory_equal(buf_head(&got) + 4, data, 300 * 1024);
	run_until(client.got.len == 4);
	assert_memory_equal(buf_head(&client.got), "\x8a\x02hi", 4);
	buf_consume(&client.got, 4);
	ws_write(ws, data, 70000);
	run_until(client.got.len == 70010);
	assert_memory_equal(buf_head(&client.got),
	    "\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x70", 10);
	assert_memory_equal(buf_head(&client.got) + 10, data, 70000);
	assert_true(lowat > 0);
}

static void
holds_a_fast_sender_back(void **state)
{
	_cleanup_(freep)
	char *data = pattern(2 * 1024 * 1024);
	size_t n;

	open_ws();
	leave = true;
	send_frame(0x82, data, 2 * 1024 * 1024);
	run_for(50);
	ws_input(ws, &n);
	assert_true(n >= 64 * 1024 && n < 80 * 1024);
	assert_true(io_queued(client.io) > 1024 * 1024);
	leave = false;
	buf_append(&got, ws_input(ws, &n), n);
	ws_consume(ws, n);
	run_until(got.len == 2 * 1024 * 1024);
	assert_memory_equal(buf_head(&got), data, got.len);
	/* Paused, nothing comes. */
	ws_pause(ws);
	send_frame(0x82, "x", 1);
	run_for(20);
	assert_int_equal(got.len, 2 * 1024 * 1024);
	ws_resume(ws);
	run_until(got.len == 2 * 1024 * 1024 + 1);
}

static void
closes_with_a_handshake(void **state)
{
	open_ws();
	send_frame(0x82, "last", 4);
	send_frame(0x88, "\x03\xe8", 2);
	run_until(closed == 1 && client.eof == 1);
	assert_int_equal(got.len, 4);
	assert_memory_equal(buf_head(&client.got), "\x88\x02\x03\xe8", 4);
	seen_done(&client);
	open_ws();
	ws_free(take_ptr(ws));
	run_until(client.eof == 1);
	assert_memory_equal(buf_head(&client.got), "\x88\x02\x03\xe8", 4);
}

static void
breaches_end_it(void **state)
{
	open_ws();
	send_frame(0x81, "text", 4); /* we carry bytes */
	run_until(closed == 1);
	run_until(client.eof == 1);
	assert_memory_equal(buf_head(&client.got), "\x88\x02\x03\xeb", 4);
	seen_done(&client);
	open_ws();
	io_write(client.io, "\x82\x01x", 3); /* not masked */
	run_until(closed == 2);
	seen_done(&client);
	open_ws();
	io_free(take_ptr(client.io));
	run_until(closed == 3);
	assert_int_equal(got.len, 0);
}

#define ws_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ws_test(shakes_hands),
		ws_test(refuses_other_requests),
		ws_test(carries_bytes),
		ws_test(holds_a_fast_sender_back),
		ws_test(closes_with_a_handshake),
		ws_test(breaches_end_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
