/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of the HTTP server. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/http_conn_priv.h"

#define HEAD_MAX   (64 * 1024)
#define STREAM_MAX (1024 * 1024) /* queued of a streamed answer */

static const char *
or_empty(const char *s)
{
	return s == NULL ? "" : s;
}

static bool
has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

/* True if an answer can begin now. */
static bool
may_answer(const struct http_conn *conn)
{
	return conn->state == HTTP_CONN_ANSWERING;
}

static void
write_head(struct http_conn *conn, int status, const char *headers,
    const char *content_type, const char *framing)
{
	struct buf head;

	buf_init(&head, HEAD_MAX);
	buf_printf(&head, "HTTP/1.1 %d %s\r\n%s", status, http_reason(status),
	    or_empty(headers));
	if (content_type != NULL)
		buf_printf(&head, "Content-Type: %s\r\n", content_type);
	buf_printf(&head, "%s%s\r\n", framing,
	    conn->close_after ? "Connection: close\r\n" : "");
	io_write(conn->io, buf_head(&head), head.len);
	buf_done(&head);
}

void
http_respond(struct http_conn *conn, int status, const char *headers,
    const char *content_type, const void *body, size_t len)
{
	char framing[64] = "";

	if (!may_answer(conn))
		return;
	if (has_body(status))
		snprintf(
		    framing, sizeof(framing), "Content-Length: %zu\r\n", len);
	write_head(conn, status, headers, content_type, framing);
	if (has_body(status) && !conn->head_only)
		io_write(conn->io, body, len);
	http_conn_answered(conn);
}

void
http_respond_text(struct http_conn *conn, int status, const char *text)
{
	/* Old clients take an empty body for a broken answer. */
	if (*text == '\0')
		text = http_reason(status);
	http_respond(conn, status, NULL,
	    conn->conf.lenient ? "text/plain" : "text/plain; charset=utf-8",
	    text, strlen(text));
}

void
http_respond_json(struct http_conn *conn, int status, json_t *value)
{
	_cleanup_(freep)
	char *text = conn->conf.lenient ? json_pretty(value) : json_text(value);

	http_respond(
	    conn, status, NULL, "application/json", text, strlen(text));
	json_decref(value);
}

void
http_respond_err(struct http_conn *conn, const struct err *err)
{
	int status = err_http_status(err->code);

	if (conn->conf.lenient)
		http_respond_text(conn, status, err->msg);
	else
		http_respond_json(conn, status, json_from_err(err));
}

void
http_respond_interim(struct http_conn *conn, int status, const char *headers)
{
	struct buf head;

	if (!may_answer(conn) || conn->http10)
		return;
	buf_init(&head, HEAD_MAX);
	buf_printf(&head, "HTTP/1.1 %d %s\r\n%s\r\n", status,
	    http_reason(status), or_empty(headers));
	io_write(conn->io, buf_head(&head), head.len);
	buf_done(&head);
}

void
http_respond_begin(struct http_conn *conn, int status, const char *headers,
    const char *content_type)
{
	if (!may_answer(conn))
		return;
	conn->chunked = !conn->http10;
	if (!conn->chunked)
		conn->close_after = true; /* its end is the answer's end */
	conn->state = HTTP_CONN_STREAMING;
	write_head(conn, status, headers, content_type,
	    conn->chunked ? "Transfer-Encoding: chunked\r\n" : "");
}

bool
http_respond_chunk(struct http_conn *conn, const void *data, size_t len)
{
	char size[32];

	if (conn->state != HTTP_CONN_STREAMING)
		return false;
	if (len == 0 || conn->head_only)
		return true;
	if (conn->chunked) {
		snprintf(size, sizeof(size), "%zx\r\n", len);
		io_write(conn->io, size, strlen(size));
	}
	io_write(conn->io, data, len);
	if (conn->chunked)
		io_write(conn->io, "\r\n", 2);
	return io_queued(conn->io) <= STREAM_MAX;
}

void
http_respond_end(struct http_conn *conn)
{
	if (conn->state != HTTP_CONN_STREAMING)
		return;
	if (conn->chunked && !conn->head_only)
		io_write(conn->io, "0\r\n\r\n", 5);
	http_conn_answered(conn);
}
