/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/ws.h"

#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/http_priv.h"

#define INPUT_MAX   (64 * 1024) /* unread payload; then the io is paused */
#define MESSAGE_MAX (64 * 1024 * 1024) /* of one message, streamed */
#define KEY_BYTES   16
#define GUID        "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct ws {
	struct loop *loop;
	struct io *io;
	ws_cb cb;
	void *arg;
	wslay_event_context_ptr ctx;
	struct buf in;
	bool paused;
	bool control;  /* the frame that is coming is a ping or such */
	bool bad_type; /* a text message: we carry bytes */
	bool closed_pending, closed;
	bool freed;
	bool running;
};

static void run(struct ws *ws);

/* wslay's view of the io */

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *data, size_t len, int flags,
    void *arg)
{
	struct ws *ws = arg;
	const char *in;
	size_t n;

	/* The io's read buffer is no longer than what `in` takes beyond its
	 * limit: payload that was read has its place. */
	if (ws->in.len >= INPUT_MAX || ws->paused)
		n = 0;
	else
		in = io_input(ws->io, &n);
	if (n == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (n > len)
		n = len;
	memcpy(data, in, n);
	io_consume(ws->io, n);
	return (ssize_t)n;
}

static ssize_t
on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags,
    void *arg)
{
	struct ws *ws = arg;

	io_write(ws->io, data, len);
	return (ssize_t)len;
}

static void
on_frame_start(wslay_event_context_ptr ctx,
    const struct wslay_event_on_frame_recv_start_arg *frame, void *arg)
{
	struct ws *ws = arg;

	ws->control = wslay_is_ctrl_frame(frame->opcode);
	if (frame->opcode == WSLAY_TEXT_FRAME)
		ws->bad_type = true;
}

static void
on_frame_chunk(wslay_event_context_ptr ctx,
    const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct ws *ws = arg;

	if (!ws->bad_type && !ws->control)
		buf_append(&ws->in, chunk->data, chunk->data_length);
}

static const struct wslay_event_callbacks callbacks = {
	.recv_callback = on_recv,
	.send_callback = on_send,
	.on_frame_recv_start_callback = on_frame_start,
	.on_frame_recv_chunk_callback = on_frame_chunk,
};

/* Life */

static void
destroy(void *arg)
{
	struct ws *ws = arg;

	wslay_event_context_free(ws->ctx);
	buf_done(&ws->in);
	free(ws);
}

void
ws_free(struct ws *ws)
{
	if (ws == NULL || ws->freed)
		return;
	ws->freed = true;
	/* Says goodbye, if the peer can still hear it. */
	if (!ws->closed) {
		wslay_event_queue_close(
		    ws->ctx, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
		wslay_event_send(ws->ctx);
	}
	io_close(take_ptr(ws->io));
	loop_defer(ws->loop, destroy, ws);
}

static void
emit(struct ws *ws, enum ws_event event)
{
	if (!ws->freed)
		ws->cb(ws, event, ws->arg);
}

/* Reported after what came before it has been read. */
static void
closed(struct ws *ws)
{
	ws->closed_pending = true;
	if (ws->closed || ws->in.len > 0 || ws->freed)
		return;
	ws->closed = true;
	emit(ws, WS_CLOSED);
}

static void
refuse(struct ws *ws, uint16_t code)
{
	wslay_event_queue_close(ws->ctx, code, NULL, 0);
	wslay_event_send(ws->ctx);
	buf_done(&ws->in);
	closed(ws);
}

static void
run(struct ws *ws)
{
	size_t before = ws->in.len;
	int r;

	if (ws->running || ws->freed || ws->closed_pending)
		return;
	ws->running = true;
	r = wslay_event_recv(ws->ctx);
	wslay_event_send(ws->ctx); /* pongs, the answer to a close */
	ws->running = false;
	if (ws->bad_type) {
		refuse(ws, WSLAY_CODE_UNSUPPORTED_DATA);
		return;
	}
	if (ws->in.len > before)
		emit(ws, WS_DATA);
	if (ws->freed)
		return;
	if (r != 0 || wslay_event_get_close_received(ws->ctx) ||
	    !wslay_event_get_read_enabled(ws->ctx))
		closed(ws);
}

static void
on_io(struct io *io, enum io_event event, void *arg)
{
	struct ws *ws = arg;

	switch (event) {
	case IO_DATA:
		run(ws);
		break;
	case IO_LOWAT:
		emit(ws, WS_LOWAT);
		break;
	case IO_EOF:
	case IO_ERROR:
		run(ws);
		if (!ws->freed)
			closed(ws);
		break;
	case IO_CONNECTED:
	case IO_SECURED:
	case IO_TIMEOUT:
		break;
	}
}

/* Opening handshake */

static int
accept_key(const char *key, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *raw = NULL;
	_cleanup_(freep)
	char *text = NULL;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned digest_len = 0;
	size_t n = 0;

	raw = str_unbase64(key, strlen(key), &n);
	if (raw == NULL || n != KEY_BYTES)
		return err_set(
		    err, ERR_INVALID, "Sec-WebSocket-Key is malformed");
	text = xasprintf("%s%s", key, GUID);
	/* SHA-1 is what RFC 6455 asks for; it proves nothing but that the
	 * server read the key. */
	if (EVP_Digest(
		text, strlen(text), digest, &digest_len, EVP_sha1(), NULL) != 1)
		return err_set(err, ERR_INTERNAL, "SHA-1 is not available");
	*ret = str_base64(digest, digest_len);
	return 0;
}

static int
check_request(
    const struct http_request *req, const char *protocol, struct err *err)
{
	const char *upgrade = http_header(&req->headers, "Upgrade");
	const char *version =
	    http_header(&req->headers, "Sec-WebSocket-Version");

	if (!str_eq(req->method, "GET") || upgrade == NULL ||
	    !http_has_word(upgrade, "websocket") ||
	    !http_has_word(http_header(&req->headers, "Connection"), "upgrade"))
		return err_set(
		    err, ERR_UPGRADE, "this address is for WebSockets only");
	if (version == NULL || !str_eq(version, "13"))
		return err_set(err, ERR_UPGRADE,
		    "only version 13 of the WebSocket protocol is spoken");
	if (http_header(&req->headers, "Sec-WebSocket-Key") == NULL)
		return err_set(
		    err, ERR_INVALID, "Sec-WebSocket-Key is missing");
	if (protocol != NULL &&
	    !http_has_word(
		http_header(&req->headers, "Sec-WebSocket-Protocol"), protocol))
		return err_set(err, ERR_UPGRADE,
		    "the WebSocket subprotocol must be '%s'", protocol);
	return 0;
}

struct ws *
ws_accept(struct http_conn *conn, const struct http_request *req,
    const char *protocol, ws_cb cb, void *arg, struct err *err)
{
	_cleanup_(freep)
	char *accept = NULL;
	_cleanup_(freep)
	char *headers = NULL;
	struct ws *ws;
	int r;

	if (check_request(req, protocol, err) < 0 ||
	    accept_key(http_header(&req->headers, "Sec-WebSocket-Key"), &accept,
		err) < 0)
		return NULL;
	ws = new0(struct ws);
	buf_init(&ws->in, INPUT_MAX * 2);
	r = wslay_event_context_server_init(&ws->ctx, &callbacks, ws);
	if (r != 0) {
		free(ws);
		err_set(err, ERR_NO_MEMORY, "WebSocket: out of memory");
		return NULL;
	}
	wslay_event_config_set_no_buffering(ws->ctx, 1);
	wslay_event_config_set_max_recv_msg_length(ws->ctx, MESSAGE_MAX);
	headers = xasprintf("Upgrade: websocket\r\nConnection: Upgrade\r\n"
			    "Sec-WebSocket-Accept: %s\r\n%s%s%s",
	    accept, protocol == NULL ? "" : "Sec-WebSocket-Protocol: ",
	    protocol == NULL ? "" : protocol, protocol == NULL ? "" : "\r\n");
	ws->loop = io_loop(http_conn_io(conn));
	ws->io = http_upgrade(conn, headers);
	ws->cb = cb;
	ws->arg = arg;
	io_set_cb(ws->io, on_io, ws);
	return ws;
}

/* Bytes */

const char *
ws_input(struct ws *ws, size_t *ret_len)
{
	*ret_len = ws->in.len;
	return buf_head(&ws->in);
}

static void
run_later(void *arg)
{
	struct ws *ws = arg;

	if (ws->freed)
		return;
	if (ws->closed_pending)
		closed(ws);
	else
		run(ws);
}

void
ws_consume(struct ws *ws, size_t n)
{
	bool was_full = ws->in.len >= INPUT_MAX;

	buf_consume(&ws->in, n);
	buf_release(&ws->in);
	if (ws->closed_pending || (was_full && ws->in.len < INPUT_MAX))
		loop_defer(ws->loop, run_later, ws);
}

void
ws_write(struct ws *ws, const void *data, size_t n)
{
	struct wslay_event_msg msg = {
		.opcode = WSLAY_BINARY_FRAME, .msg = data, .msg_length = n
	};

	if (ws->freed || ws->closed_pending || n == 0)
		return;
	if (wslay_event_queue_msg(ws->ctx, &msg) == 0)
		wslay_event_send(ws->ctx);
}

size_t
ws_queued(const struct ws *ws)
{
	return ws->io == NULL ? 0 : io_queued(ws->io);
}

void
ws_pause(struct ws *ws)
{
	ws->paused = true;
	io_pause(ws->io);
}

void
ws_resume(struct ws *ws)
{
	ws->paused = false;
	io_resume(ws->io);
	loop_defer(ws->loop, run_later, ws);
}
