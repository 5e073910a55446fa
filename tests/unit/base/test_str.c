/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"

static void
compares_and_copies(void **state)
{
	char dst[4];

	assert_true(str_starts("qvd-hkd", "qvd-"));
	assert_false(str_starts("qv", "qvd-"));
	assert_true(str_ends("a.tar.gz", ".gz"));
	assert_false(str_ends("gz", ".gz"));
	assert_true(str_copy(dst, sizeof(dst), "abc"));
	assert_false(str_copy(dst, sizeof(dst), "abcd"));
	assert_string_equal(dst, "abc");
	assert_true(str_eq_secret("secret", "secret"));
	assert_false(str_eq_secret("secret", "secres"));
	assert_false(str_eq_secret("secret", ""));
	assert_false(str_eq_secret("", "secret"));
	assert_false(str_eq_secret("aa", "aaaa"));
	assert_true(str_eq_secret("", ""));
}

static void
numbers(void **state)
{
	static const char *const bad[] = { "", "+1", " 1", "1 ", "1x", "0x1",
		"-", "--1", "1e3", "9223372036854775808",
		"99999999999999999999" };
	int64_t v = 7;
	int i = 7;

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++)
		assert_false(str_to_i64(bad[k], INT64_MIN, INT64_MAX, &v));
	assert_int_equal(v, 7);
	assert_true(str_to_i64("-9223372036854775808", INT64_MIN, 0, &v));
	assert_true(v == INT64_MIN);
	assert_true(str_to_int("65535", 0, 65535, &i));
	assert_int_equal(i, 65535);
	assert_false(str_to_int("65536", 0, 65535, &i));
	assert_false(str_to_int("-1", 0, 65535, &i));
	assert_false(str_to_int("4294967296", INT32_MIN, INT32_MAX, &i));
}

static void
sizes_and_durations(void **state)
{
	uint64_t n = 7;
	int64_t ms = 7;
	bool b;

	assert_true(str_to_size("512", &n) && n == 512);
	assert_true(str_to_size("64K", &n) && n == 65536);
	assert_true(str_to_size("1P", &n) && n == UINT64_C(1) << 50);
	assert_false(str_to_size("16384P", &n));
	assert_false(str_to_size("1k", &n));
	assert_false(str_to_size("1KB", &n));
	assert_false(str_to_size("-1", &n));
	assert_false(str_to_size("", &n));
	assert_false(str_to_size("K", &n));
	assert_true(str_to_duration("250ms", &ms) && ms == 250);
	assert_true(str_to_duration("30", &ms) && ms == 30000);
	assert_true(str_to_duration("7d", &ms) && ms == 604800000);
	assert_false(str_to_duration("1w", &ms));
	assert_false(str_to_duration("9223372036854775807d", &ms));
	assert_true(str_to_bool("on", &b) && b);
	assert_true(str_to_bool("0", &b) && !b);
	assert_false(str_to_bool("YES", &b));
}

static void
kinds_of_text(void **state)
{
	assert_true(str_is_token("a-b_c.~", 7));
	assert_false(str_is_token("a-b_c.~", 6));
	assert_false(str_is_token("", 10));
	assert_false(str_is_token("a b", 10));
	assert_false(str_is_token("a\x7f", 10));

	assert_true(str_is_text("", 10));
	assert_true(str_is_text("añ€😀", 20));
	assert_false(str_is_text("añ€😀", 9));
	assert_true(str_is_text("añ€😀", 10));
	assert_false(str_is_text("a\nb", 10));
	assert_false(str_is_text("a\x7f", 10));
	assert_false(str_is_text("\xc2\x9b"
				 "31m",
	    10)); /* CSI as C1 */
	assert_true(str_is_text("\xc2\xa0", 10));
	assert_false(str_is_text("\xc0\xaf", 10));         /* overlong */
	assert_false(str_is_text("\xed\xa0\x80", 10));     /* surrogate */
	assert_false(str_is_text("\xf4\x90\x80\x80", 10)); /* > U+10FFFF */
	assert_false(str_is_text("\xe2\x82", 10));         /* cut */

	assert_true(str_is_name("alice.w-2", 20));
	assert_true(str_is_name("7zip", 20));
	assert_true(str_is_name("_x", 20));
	assert_false(str_is_name("-x", 20));
	assert_false(str_is_name("..", 20));
	assert_false(str_is_name("a/b", 20));
	assert_false(str_is_name("", 20));
	assert_false(str_is_name("abcd", 3));
	assert_false(str_is_name("ñ", 20));
}

static void
escapes_for_the_log(void **state)
{
	char dst[16], all[256], big[1100];

	assert_string_equal(str_escape(dst, sizeof(dst), "a\nb", 3), "a\\x0ab");
	assert_string_equal(str_escape(dst, sizeof(dst), "\\", 1), "\\x5c");
	assert_string_equal(str_escape(dst, sizeof(dst), "\0", 1), "\\x00");
	assert_string_equal(str_escape(dst, sizeof(dst), "", 0), "");
	/* What just fits isn't cut. */
	assert_string_equal(str_escape(dst, sizeof(dst), "123456789012345", 15),
	    "123456789012345");
	assert_string_equal(
	    str_escape(dst, sizeof(dst), "1234567890123456", 16),
	    "123456789012...");
	assert_string_equal(
	    str_escape(dst, sizeof(dst), "12345678901\n4567", 16),
	    "12345678901...");
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	str_escape(big, sizeof(big), all, sizeof(all));
	assert_true(str_is_text(big, sizeof(big)));
	for (size_t size = 1; size < 20; size++) {
		memset(big, 'Z', sizeof(big));
		str_escape(big, size, all, sizeof(all));
		assert_true(strlen(big) < size);
		assert_int_equal(big[size], 'Z');
	}
}

static void
random_text(void **state)
{
	char a[65], b[65];

	str_random(a, 64);
	str_random(b, 64);
	assert_int_equal(strlen(a), 64);
	assert_string_not_equal(a, b);
	assert_int_equal(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "abcdefghijklmnopqrstuvwxyz0123456789"),
	    64);
}

static void
hex(void **state)
{
	unsigned char back[4];
	char text[9];
	size_t n;

	str_hex(text, "\x00\xff\x1a\x80", 4);
	assert_string_equal(text, "00ff1a80");
	assert_true(str_unhex("00Ff1a80", back, sizeof(back), &n));
	assert_int_equal(n, 4);
	assert_memory_equal(back, "\x00\xff\x1a\x80", 4);
	assert_false(str_unhex("0", back, sizeof(back), &n));
	assert_false(str_unhex("0g", back, sizeof(back), &n));
	assert_false(str_unhex("0011223344", back, sizeof(back), &n));
	assert_true(str_unhex("", back, sizeof(back), &n));
	assert_int_equal(n, 0);
}

static void
base64(void **state)
{
	/* RFC 4648 section 10 */
	static const char *const pairs[][2] = { { "", "" }, { "f", "Zg==" },
		{ "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
	static const char *const bad[] = { "Z", "Zg===", "Zg==Zg==", "Zm9v!",
		"Zm9-", " Zm9v", "Zm9vY" };
	char *text, *back;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		text = str_base64(pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(text, pairs[i][1]);
		back = str_unbase64(text, strlen(text), &n);
		assert_non_null(back);
		assert_string_equal(back, pairs[i][0]);
		assert_int_equal(n, strlen(pairs[i][0]));
		free(back);
		free(text);
	}
	back = str_unbase64("Zm9v\r\nYg", 8, &n);
	assert_string_equal(back, "foob");
	free(back);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_null(str_unbase64(bad[i], strlen(bad[i]), &n));
	assert_null(str_unbase64("Zm\0v", 4, &n));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_and_copies),
		cmocka_unit_test(numbers),
		cmocka_unit_test(sizes_and_durations),
		cmocka_unit_test(kinds_of_text),
		cmocka_unit_test(escapes_for_the_log),
		cmocka_unit_test(random_text),
		cmocka_unit_test(hex),
		cmocka_unit_test(base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
