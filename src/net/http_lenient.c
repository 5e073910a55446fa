/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The dialect of old QVD clients (libqvdclient, the Qt and the Perl client):
 * lines that end with a bare LF, spaces in the URL, space before the colon of
 * a header, folded headers. Such a head is rewritten into plain HTTP/1.1, and
 * what comes out is held against the same strict rules as everyone's.
 */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "net/http_priv.h"

struct line {
	const char *text;
	size_t len; /* without the line end */
};

static bool
next_line(const char **pos, const char *end, struct line *ret)
{
	const char *nl = memchr(*pos, '\n', (size_t)(end - *pos));

	if (nl == NULL)
		return false;
	ret->text = *pos;
	ret->len = (size_t)(nl - *pos);
	if (ret->len > 0 && nl[-1] == '\r')
		ret->len--;
	*pos = nl + 1;
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

static void
put_url(struct buf *out, const char *url, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)url[i];

		if (c <= 0x20 || c >= 0x7f || strchr("\"<>\\^`{|}", c) != NULL)
			buf_printf(out, "%%%02X", c);
		else
			buf_append(out, &url[i], 1);
	}
}

/* "METHOD url with spaces HTTP/1.1" */
static int
request_line(const struct line *l, struct buf *out, struct err *err)
{
	const char *p = l->text, *end = l->text + l->len, *url, *v;

	while (p < end && (isalnum((unsigned char)*p) || *p == '_'))
		p++;
	if (p == l->text || p == end || *p != ' ') {
		err_set(err, ERR_INVALID, "malformed request line");
		return 400;
	}
	url = p;
	while (url < end && *url == ' ')
		url++;
	/* The version is the last word, if it looks like one. */
	while (end > url && end[-1] == ' ')
		end--;
	for (v = end; v > url && v[-1] != ' ';)
		v--;
	if (url == end) {
		err_set(err, ERR_INVALID, "the request line has no URL");
		return 400;
	}
	if (end - v != 8 || memcmp(v, "HTTP/1.1", 8) != 0 || v == url) {
		err_set(err, ERR_INVALID, "only HTTP/1.1 is spoken here");
		return 505;
	}
	while (v > url && v[-1] == ' ')
		v--;
	buf_append(out, l->text, (size_t)(p - l->text));
	buf_append(out, " ", 1);
	put_url(out, url, (size_t)(v - url));
	buf_printf(out, " HTTP/1.1\r\n");
	return 0;
}

/* "Name : value", with the lines that continue it. */
static int
header_line(struct line *l, const char **pos, const char *end, struct buf *out,
    struct err *err)
{
	const char *colon = memchr(l->text, ':', l->len);
	size_t name;

	if (colon == NULL || colon == l->text) {
		err_set(err, ERR_INVALID, "malformed header line");
		return 400;
	}
	name = (size_t)(colon - l->text);
	while (name > 0 && is_space(l->text[name - 1]))
		name--;
	buf_append(out, l->text, name);
	buf_append(out, ":", 1);
	for (l->len -= (size_t)(colon + 1 - l->text), l->text = colon + 1;;) {
		while (l->len > 0 && is_space(l->text[0])) {
			l->text++;
			l->len--;
		}
		buf_append(out, " ", 1);
		buf_append(out, l->text, l->len);
		if (*pos == end || !is_space(**pos) || !next_line(pos, end, l))
			break;
	}
	buf_append(out, "\r\n", 2);
	return 0;
}

int
http_lenient_head(
    const char *text, size_t len, struct buf *ret, struct err *err)
{
	const char *pos = text, *end = text + len;
	struct line l;
	int r;

	while (next_line(&pos, end, &l) && l.len == 0)
		;
	if ((r = request_line(&l, ret, err)) != 0)
		return r;
	while (next_line(&pos, end, &l) && l.len > 0)
		if ((r = header_line(&l, &pos, end, ret, err)) != 0)
			return r;
	buf_append(ret, "\r\n", 2);
	return 0;
}
