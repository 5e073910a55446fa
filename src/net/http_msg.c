/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/http_priv.h"

/* Of a body in chunks: what may come without a byte of content: sizes,
 * extensions, trailers. */
#define CHUNK_OVERHEAD_MAX (256 * 1024)

size_t
http_head_end(const char *text, size_t len, size_t *scanned)
{
	const char *nl;
	size_t i = *scanned;

	while ((nl = memchr(text + i, '\n', len - i)) != NULL) {
		i = (size_t)(nl - text) + 1;
		if (i < len && text[i] == '\n')
			return i + 1;
		if (i + 1 < len && text[i] == '\r' && text[i + 1] == '\n')
			return i + 2;
		if (i + 1 >= len) { /* the next line has only begun */
			i--;
			break;
		}
	}
	*scanned = nl == NULL ? len : i;
	return 0;
}

/* Spans come whole, for a head is parsed in one go; only folded values would
 * come in pieces, and those are refused before. */

static int
on_target(llhttp_t *parser, const char *at, size_t len)
{
	struct http_msg *m = parser->data;

	m->target = arena_strndup(m->arena, at, len);
	return m->target == NULL ? -1 : 0;
}

static int
on_name(llhttp_t *parser, const char *at, size_t len)
{
	struct http_msg *m = parser->data;

	if (m->body == HTTP_BODY_CHUNKED) { /* a trailer: not wanted */
		m->chunk_bytes += len;
		return 0;
	}
	if (m->headers.n == HTTP_PARAMS_MAX)
		return -1;
	m->name = arena_strndup(m->arena, at, len);
	if (m->name == NULL)
		return -1;
	m->headers.v[m->headers.n].name = m->name;
	m->headers.v[m->headers.n].value = "";
	m->headers.n++;
	return 0;
}

static int
on_value(llhttp_t *parser, const char *at, size_t len)
{
	struct http_msg *m = parser->data;
	const char *value;

	if (m->body == HTTP_BODY_CHUNKED) {
		m->chunk_bytes += len;
		return 0;
	}
	if (m->headers.n == 0)
		return -1;
	while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
		len--;
	value = arena_strndup(m->arena, at, len);
	if (value == NULL)
		return -1;
	m->headers.v[m->headers.n - 1].value = value;
	return 0;
}

static int
on_head_complete(llhttp_t *parser)
{
	return HPE_PAUSED;
}

static int
on_chunk_body(llhttp_t *parser, const char *at, size_t len)
{
	struct http_msg *m = parser->data;

	m->chunk_bytes = 0;
	if (!m->on_body(at, len, m->arg)) {
		m->refused = true;
		return -1;
	}
	return 0;
}

static int
on_message_complete(llhttp_t *parser)
{
	struct http_msg *m = parser->data;

	m->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t *
settings(void)
{
	static llhttp_settings_t s;

	if (s.on_url == NULL) {
		llhttp_settings_init(&s);
		s.on_url = on_target;
		s.on_header_field = on_name;
		s.on_header_value = on_value;
		s.on_headers_complete = on_head_complete;
		s.on_body = on_chunk_body;
		s.on_message_complete = on_message_complete;
	}
	return &s;
}

/*
 * Line ends are CRLF, no line is folded onto the next, and no byte is a
 * control character: what parsers disagree about doesn't get to one.
 */
static int
check_text(const char *text, size_t len, struct err *err)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n' && (i == 0 || text[i - 1] != '\r'))
			return err_set(
			    err, ERR_INVALID, "a line doesn't end with CRLF");
		if (c == '\r' && (i + 1 == len || text[i + 1] != '\n'))
			return err_set(
			    err, ERR_INVALID, "a line has a stray CR");
		if ((c < 0x20 && c != '\r' && c != '\n' && c != '\t') ||
		    c == 0x7f)
			return err_set(err, ERR_INVALID,
			    "the head has control characters");
		if ((c == ' ' || c == '\t') && i > 0 && text[i - 1] == '\n')
			return err_set(
			    err, ERR_INVALID, "a header line is folded");
	}
	return 0;
}

/* Each line after the first is a name, made of the characters that names are
 * made of, directly followed by a colon. */
static int
check_names(const char *text, size_t len, struct err *err)
{
	const char *end = text + len, *p = text, *name;

	while (
	    (p = memchr(p, '\n', (size_t)(end - p))) != NULL && end - ++p > 2) {
		for (name = p;
		     isalnum((unsigned char)*p) ||
		     (*p != '\0' && strchr("!#$%&'*+-.^_`|~", *p) != NULL);)
			p++;
		if (p == name || *p != ':')
			return err_set(
			    err, ERR_INVALID, "malformed header line");
	}
	return 0;
}

/* "Content-Length: 5" once, only digits. */
static int
parse_length(struct http_msg *m, const char *value, struct err *err)
{
	int64_t n;

	if (!str_to_i64(value, 0, INT64_MAX, &n))
		return err_set(err, ERR_INVALID, "wrong Content-Length");
	m->body_left = (uint64_t)n;
	m->body = n > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	return 0;
}

/* What the body will be, by headers that must not contradict each other. */
static int
check_framing(struct http_msg *m, struct err *err)
{
	const char *length = NULL, *coding = NULL;
	int lengths = 0, codings = 0, hosts = 0;
	size_t i;

	for (i = 0; i < m->headers.n; i++) {
		const struct http_param *h = &m->headers.v[i];

		if (strcasecmp(h->name, "Content-Length") == 0) {
			length = h->value;
			lengths++;
		} else if (strcasecmp(h->name, "Transfer-Encoding") == 0) {
			coding = h->value;
			codings++;
		} else if (strcasecmp(h->name, "Host") == 0) {
			hosts++;
		} else if (strcasecmp(h->name, "Connection") == 0) {
			m->close |= http_has_word(h->value, "close");
			m->upgrade |= http_has_word(h->value, "upgrade");
		}
	}
	if (lengths > 1 || codings > 1 || hosts > 1 || lengths + codings > 1)
		return err_set(err, ERR_INVALID,
		    "Content-Length, Transfer-Encoding or Host is given "
		    "twice, or the first two together");
	if (coding != NULL) {
		if (strcasecmp(coding, "chunked") != 0 || m->minor0)
			return err_set(err, ERR_INVALID,
			    "only 'chunked' is known as Transfer-Encoding");
		m->body = HTTP_BODY_CHUNKED;
		return 0;
	}
	return length == NULL ? 0 : parse_length(m, length, err);
}

static int
head_status(struct http_msg *m, enum llhttp_errno e, struct err *err)
{
	if (e == HPE_INVALID_VERSION) {
		err_set(err, ERR_INVALID, "only HTTP/1.1 is spoken here");
		return 505;
	}
	if (m->headers.n == HTTP_PARAMS_MAX) {
		err_set(err, ERR_TOO_LARGE, "more than %d headers",
		    HTTP_PARAMS_MAX);
		return 431;
	}
	err_set(err, ERR_INVALID, "malformed HTTP head: %s",
	    llhttp_get_error_reason(&m->parser));
	return 400;
}

int
http_msg_head(struct http_msg *m, llhttp_type_t type, struct arena *arena,
    const char *text, size_t len, struct err *err)
{
	bool (*on_body)(const void *, size_t, void *) = m->on_body;
	void *arg = m->arg;
	enum llhttp_errno e;

	*m =
	    (struct http_msg){ .arena = arena, .on_body = on_body, .arg = arg };
	if (check_text(text, len, err) < 0 || check_names(text, len, err) < 0)
		return 400;
	m->headers.v =
	    arena_alloc(arena, HTTP_PARAMS_MAX * sizeof(*m->headers.v));
	if (m->headers.v == NULL) {
		err_set(err, ERR_TOO_LARGE, "the head is too long");
		return 431;
	}
	llhttp_init(&m->parser, type, settings());
	m->parser.data = m;
	e = llhttp_execute(&m->parser, text, len);
	if (e != HPE_PAUSED)
		return head_status(
		    m, e == HPE_OK ? HPE_INVALID_EOF_STATE : e, err);
	if (m->parser.http_major != 1 || m->parser.http_minor > 1)
		return head_status(m, HPE_INVALID_VERSION, err);
	m->minor0 = m->parser.http_minor == 0;
	m->close = m->minor0;
	m->status = m->parser.status_code;
	if (type == HTTP_RESPONSE && (m->status < 100 || m->status > 599)) {
		err_set(err, ERR_INVALID, "status %d", m->status);
		return 400;
	}
	if (type == HTTP_REQUEST)
		m->method = llhttp_method_name(m->parser.method);
	return check_framing(m, err) < 0 ? 400 : 0;
}

static int
body_length(struct http_msg *m, const char *data, size_t len, size_t *ret_used,
    struct err *err)
{
	if (len > m->body_left)
		len = (size_t)m->body_left;
	if (!m->on_body(data, len, m->arg)) {
		err_set(err, ERR_TOO_LARGE, "the body is too long");
		return 413;
	}
	m->body_left -= len;
	m->complete = m->body_left == 0;
	*ret_used = len;
	return 0;
}

static int
body_chunked(struct http_msg *m, const char *data, size_t len, size_t *ret_used,
    struct err *err)
{
	enum llhttp_errno e;

	llhttp_resume(&m->parser);
	e = llhttp_execute(&m->parser, data, len);
	if (e == HPE_PAUSED && m->complete) {
		*ret_used = (size_t)(llhttp_get_error_pos(&m->parser) - data);
		return 0;
	}
	if (m->refused || m->chunk_bytes > CHUNK_OVERHEAD_MAX) {
		err_set(err, ERR_TOO_LARGE, "the body is too long");
		return 413;
	}
	if (e != HPE_OK) {
		err_set(err, ERR_INVALID, "malformed chunk: %s",
		    llhttp_get_error_reason(&m->parser));
		return 400;
	}
	*ret_used = len;
	return 0;
}

int
http_msg_body(struct http_msg *m, const char *data, size_t len,
    size_t *ret_used, struct err *err)
{
	*ret_used = 0;
	switch (m->body) {
	case HTTP_BODY_LENGTH:
		return body_length(m, data, len, ret_used, err);
	case HTTP_BODY_CHUNKED:
		m->chunk_bytes += len;
		return body_chunked(m, data, len, ret_used, err);
	case HTTP_BODY_TO_END:
		m->body_left = len;
		return body_length(m, data, len, ret_used, err);
	case HTTP_BODY_NONE:
		break;
	}
	m->complete = true;
	return 0;
}
