/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/mem.h"

bool
str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool
str_copy(char *dst, size_t size, const char *src)
{
	size_t n = strnlen(src, size);

	if (n < size) {
		memcpy(dst, src, n + 1);
		return true;
	}
	memcpy(dst, src, size - 1);
	dst[size - 1] = '\0';
	return false;
}

bool
str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	const char *digits = *s == '-' ? s + 1 : s;
	char *end;
	long long v;

	if (*digits < '0' || *digits > '9')
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno != 0 || *end != '\0' || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

bool
str_to_int(const char *s, int min, int max, int *ret)
{
	int64_t v;

	if (!str_to_i64(s, min, max, &v))
		return false;
	*ret = (int)v;
	return true;
}

/* The number at the start of s and where its unit begins. */
static bool
number_and_unit(const char *s, int64_t *ret, const char **ret_unit)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*ret = strtoll(s, &end, 10);
	*ret_unit = end;
	return errno == 0;
}

bool
str_to_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "KMGTP";
	const char *unit, *u;
	int64_t v;
	int shift = 0;

	if (!number_and_unit(s, &v, &unit))
		return false;
	if (*unit != '\0') {
		if (unit[1] != '\0' || (u = strchr(units, *unit)) == NULL)
			return false;
		shift = 10 * (int)(u - units + 1);
	}
	if (v > (INT64_MAX >> shift))
		return false;
	*ret_bytes = (uint64_t)v << shift;
	return true;
}

bool
str_to_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "1", "yes", "true", "on" };
	static const char *const no[] = { "0", "no", "false", "off" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(yes); i++) {
		if (str_eq(s, yes[i]) || str_eq(s, no[i])) {
			*ret = str_eq(s, yes[i]);
			return true;
		}
	}
	return false;
}

bool
str_to_duration(const char *s, int64_t *ret_ms)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = {
		{ "", 1000 },
		{ "ms", 1 },
		{ "s", 1000 },
		{ "m", 60000 },
		{ "h", 3600000 },
		{ "d", 86400000 },
	};
	const char *unit;
	int64_t v;
	size_t i;

	if (!number_and_unit(s, &v, &unit))
		return false;
	for (i = 0; i < ARRAY_SIZE(units); i++) {
		if (!str_eq(unit, units[i].unit))
			continue;
		if (v > INT64_MAX / units[i].ms)
			return false;
		*ret_ms = v * units[i].ms;
		return true;
	}
	return false;
}

bool
str_is_token(const char *s, size_t max)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (i >= max || s[i] <= ' ' || s[i] > '~')
			return false;
	return i > 0;
}

/* Length of the UTF-8 sequence at s (RFC 3629: no surrogates, no overlong
 * forms), 0 if it is malformed. */
static size_t
utf8_len(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return (s[1] & 0xc0) == 0x80 ? 2 : 0;
	if (s[0] >= 0xe0 && s[0] <= 0xef) {
		if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xe0 && s[1] < 0xa0) ||
		    (s[0] == 0xed && s[1] > 0x9f))
			return 0;
		return 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 ||
		    (s[3] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xf0 && s[1] < 0x90) ||
		    (s[0] == 0xf4 && s[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

bool
str_is_text(const char *s, size_t max)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n;

	if (strnlen(s, max + 1) > max)
		return false;
	for (; *p != '\0'; p += n)
		if (*p < 0x20 || *p == 0x7f || (n = utf8_len(p)) == 0 ||
		    (*p == 0xc2 && p[1] < 0xa0)) /* U+0080..U+009F */
			return false;
	return true;
}

static bool
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z');
}

bool
str_is_name(const char *s, size_t max)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++) {
		if (i >= max)
			return false;
		if (!is_alnum(s[i]) && s[i] != '_' &&
		    (i == 0 || (s[i] != '-' && s[i] != '.')))
			return false;
	}
	return i > 0;
}

char *
str_escape(char *dst, size_t size, const char *src, size_t len)
{
	size_t i, n = 0, cut = 0; /* cut: last place where "..." fits */

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)src[i];
		bool plain = c >= ' ' && c <= '~' && c != '\\';

		if (n + 4 <= size)
			cut = n;
		if (n + (plain ? 1 : 4) + 1 > size) {
			n = cut;
			if (size >= 4)
				n += (size_t)snprintf(dst + n, 4, "...");
			break;
		}
		if (plain)
			dst[n++] = (char)c;
		else
			n += (size_t)snprintf(dst + n, 5, "\\x%02x", c);
	}
	dst[n] = '\0';
	return dst;
}

void
str_random(char *dst, size_t n)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "abcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char c;
	size_t i = 0;

	while (i < n) {
		if (getrandom(&c, 1, 0) != 1)
			abort();
		/* Reject the tail, so that every character is as likely. */
		if (c < 256 / 62 * 62)
			dst[i++] = set[c % 62];
	}
	dst[n] = '\0';
}

bool
str_eq_secret(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), i;
	volatile unsigned char diff = n != m;

	for (i = 0; i < n; i++)
		diff |= (unsigned char)(a[i] ^ b[m == 0 ? 0 : i % m]);
	return diff == 0;
}

void
str_hex(char *dst, const void *src, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = src;
	size_t i;

	for (i = 0; i < n; i++) {
		dst[2 * i] = digits[p[i] >> 4];
		dst[2 * i + 1] = digits[p[i] & 15];
	}
	dst[2 * n] = '\0';
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
str_unhex(const char *src, void *dst, size_t size, size_t *ret_n)
{
	unsigned char *p = dst;
	size_t n = strlen(src), i;

	if (n % 2 != 0 || n / 2 > size)
		return false;
	for (i = 0; i < n / 2; i++) {
		int hi = hex_digit(src[2 * i]), lo = hex_digit(src[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		p[i] = (unsigned char)(hi << 4 | lo);
	}
	*ret_n = n / 2;
	return true;
}

static const char b64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
str_base64(const void *src, size_t n)
{
	const unsigned char *p = src;
	char *out = xcalloc(n / 3 * 4 + 5, 1), *o = out;
	size_t i;

	for (i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < n)
			v |= p[i + 2];
		*o++ = b64[v >> 18];
		*o++ = b64[v >> 12 & 63];
		*o++ = i + 1 < n ? b64[v >> 6 & 63] : '=';
		*o++ = i + 2 < n ? b64[v & 63] : '=';
	}
	return out;
}

char *
str_unbase64(const char *src, size_t len, size_t *ret_n)
{
	_cleanup_(freep)
	char *out = xcalloc(len / 4 * 3 + 4, 1);
	uint32_t v = 0;
	size_t i, n = 0;
	int bits = 0, pad = 0;

	for (i = 0; i < len; i++) {
		const char *d;

		if (src[i] == '\r' || src[i] == '\n')
			continue;
		if (src[i] == '=') {
			pad++;
			continue;
		}
		if (pad > 0 || src[i] == '\0' ||
		    (d = strchr(b64, src[i])) == NULL)
			return NULL;
		v = v << 6 | (uint32_t)(d - b64);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (char)(v >> bits & 255);
		}
	}
	if (bits == 6 || pad > 2)
		return NULL;
	out[n] = '\0';
	*ret_n = n;
	return take_ptr(out);
}
