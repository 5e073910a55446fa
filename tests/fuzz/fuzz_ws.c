/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frames of a WebSocket after a good handshake, to a server that echoes. */
#include "fuzz_stream.h"

#include <string.h>

#include "net/ws.h"

#define HELLO                                                  \
	"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"  \
	"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static struct ws *ws;

static void
on_ws(struct ws *w, enum ws_event event, void *arg)
{
	const char *p;
	size_t n;

	if (event == WS_DATA) {
		p = ws_input(w, &n);
		ws_write(w, p, n);
		ws_consume(w, n);
	} else if (event == WS_CLOSED) {
		ws_free(w);
		ws = NULL;
	}
}

static void
on_request(struct http_conn *conn, struct http_request *req, void *arg)
{
	struct err err;

	ws = ws_accept(conn, req, NULL, on_ws, NULL, &err);
	if (ws == NULL)
		abort();
}

static const struct http_handlers handlers = { .on_request = on_request };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int ours = -1, fd;

	fd = peer_that_sent(
	    SOCK_STREAM, (const uint8_t *)HELLO, sizeof(HELLO) - 1, &ours);
	if (fd < 0)
		return 0;
	http_conn_new(io_new(loop, fd, NULL, NULL), &http_server_defaults,
	    &handlers, NULL);
	turn();
	if (size > 0 && size <= FUZZ_INPUT_MAX)
		(void)!send(ours, data, size, MSG_NOSIGNAL);
	turn();
	ws_free(take_ptr(ws));
	close(ours);
	turn();
	return 0;
}
