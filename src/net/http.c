/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/http.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "net/http_priv.h"

const char *
http_header(const struct http_params *headers, const char *name)
{
	size_t i;

	for (i = 0; i < headers->n; i++)
		if (strcasecmp(headers->v[i].name, name) == 0)
			return headers->v[i].value;
	return NULL;
}

const char *
http_query(const struct http_params *query, const char *name)
{
	size_t i;

	for (i = 0; i < query->n; i++)
		if (str_eq(query->v[i].name, name))
			return query->v[i].value;
	return NULL;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

char *
http_decode(struct arena *arena, const char *text, size_t len, bool plus)
{
	char *out = arena_alloc(arena, len + 1), *p = out;
	size_t i;
	int hi, lo;

	if (out == NULL)
		return NULL;
	for (i = 0; i < len; i++) {
		if (text[i] == '%') {
			if (len - i < 3 || (hi = hex_digit(text[i + 1])) < 0 ||
			    (lo = hex_digit(text[i + 2])) < 0)
				return NULL;
			*p = (char)(hi * 16 + lo);
			i += 2;
		} else {
			*p = plus && text[i] == '+' ? ' ' : text[i];
		}
		if (*p++ == '\0')
			return NULL;
	}
	return out;
}

static int
count_params(const char *text, size_t len)
{
	int n = 1;
	size_t i;

	for (i = 0; i < len; i++)
		n += text[i] == '&';
	return n;
}

int
http_query_parse(const char *text, size_t len, struct arena *arena,
    struct http_params *ret, struct err *err)
{
	const char *end = text + len, *amp, *eq;
	struct http_params params = { 0 };
	struct http_param *p;
	int n = len == 0 ? 0 : count_params(text, len);

	if (n > HTTP_PARAMS_MAX)
		return err_set(err, ERR_INVALID,
		    "more than %d parameters in the URL", HTTP_PARAMS_MAX);
	params.v = arena_alloc(arena, (size_t)n * sizeof(*params.v));
	if (params.v == NULL)
		return err_set(err, ERR_TOO_LARGE, "the URL is too long");
	for (; len > 0 && text <= end; text = amp + 1) {
		amp = memchr(text, '&', (size_t)(end - text));
		if (amp == NULL)
			amp = end;
		if (amp == text)
			continue;
		eq = memchr(text, '=', (size_t)(amp - text));
		p = &params.v[params.n++];
		p->name = http_decode(arena, text,
		    (size_t)((eq == NULL ? amp : eq) - text), true);
		p->value = eq == NULL ? ""
				      : http_decode(arena, eq + 1,
					    (size_t)(amp - eq - 1), true);
		if (p->name == NULL || p->value == NULL)
			return err_set(err, ERR_INVALID,
			    "a parameter in the URL is malformed");
	}
	*ret = params;
	return 0;
}

const char *
http_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} table[] = {
		{ 100, "Continue" },
		{ 101, "Switching Protocols" },
		{ 102, "Processing" },
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 303, "See Other" },
		{ 304, "Not Modified" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 402, "Payment Required" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 410, "Gone" },
		{ 411, "Length Required" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 422, "Unprocessable Entity" },
		{ 426, "Upgrade Required" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].reason;
	return "Unknown";
}

char *
http_encode(const char *s)
{
	char *out = xcalloc(strlen(s) * 3 + 1, 1), *p = out;

	for (; *s != '\0'; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s) != NULL) {
			*p++ = *s;
			continue;
		}
		*p++ = '%';
		*p++ = "0123456789ABCDEF"[(unsigned char)*s >> 4];
		*p++ = "0123456789ABCDEF"[(unsigned char)*s & 15];
	}
	return out;
}

bool
http_has_word(const char *value, const char *word)
{
	size_t len = strlen(word), n;

	while (value != NULL && *value != '\0') {
		value += strspn(value, " \t,");
		n = strcspn(value, ",");
		while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
			n--;
		if (n == len && strncasecmp(value, word, len) == 0)
			return true;
		value += strcspn(value, ",");
	}
	return false;
}
