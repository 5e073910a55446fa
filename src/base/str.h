/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Strings: comparison, parsing of numbers and sizes, escaping of text that
 * came from a peer before it is logged. No state. Every process.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool
str_eq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/* Copies with a final NUL; false if it had to cut. */
bool str_copy(char *dst, size_t size, const char *src);

/* Whole string, decimal, within [min, max]; false and *ret unchanged
 * otherwise (also for "", "+1", " 1", "1x"). */
bool str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
bool str_to_int(const char *s, int min, int max, int *ret);
/* "512", "64K", "256M", "2G", "1T" (powers of 1024) to bytes. */
bool str_to_size(const char *s, uint64_t *ret_bytes);
/* "yes/no", "true/false", "on/off", "1/0". */
bool str_to_bool(const char *s, bool *ret);
/* "250ms", "30s", "5m", "2h", "7d"; a bare number is seconds. */
bool str_to_duration(const char *s, int64_t *ret_ms);

/* True if s has only printable ASCII and no spaces, 1..max long. */
bool str_is_token(const char *s, size_t max);
/* True if s is well-formed UTF-8 without control characters. */
bool str_is_text(const char *s, size_t max);
/* [A-Za-z0-9_][A-Za-z0-9_.-]*, at most max long: names of things. */
bool str_is_name(const char *s, size_t max);

/* Writes src to dst with every byte that is not printable ASCII, and the
 * backslash, as \xHH; cuts with "..." if it doesn't fit. Returns dst. For
 * bytes of a peer in logs and error sentences. */
char *str_escape(char *dst, size_t size, const char *src, size_t len);

/* Random text of n characters from [A-Za-z0-9] (getrandom); dst has n+1. */
void str_random(char *dst, size_t n);

/* Compares secrets in time that doesn't depend on where they differ. */
bool str_eq_secret(const char *a, const char *b);

/* Lower-case hex of n bytes; dst has 2n+1. */
void str_hex(char *dst, const void *src, size_t n);
/* Back; false for an odd length, a wrong digit, or more than size. */
bool str_unhex(const char *src, void *dst, size_t size, size_t *ret_n);
/* RFC 4648 base64 with padding. Encoding returns a heap string. Decoding
 * accepts missing padding and ignores line ends; returns a heap buffer with
 * a NUL added, or NULL if it is not base64. */
char *str_base64(const void *src, size_t n);
char *str_unbase64(const char *src, size_t len, size_t *ret_n);

#endif
