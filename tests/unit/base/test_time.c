/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/time.h"

static void
formats(void **state)
{
	char text[TIME_TEXT_MAX];

	assert_string_equal(time_format(text, 0), "1970-01-01T00:00:00.000Z");
	assert_string_equal(time_format(text, INT64_C(1767323045678901)),
	    "2026-01-02T03:04:05.678Z");
	assert_string_equal(time_format(text, -1), "1969-12-31T23:59:59.999Z");
	assert_string_equal(
	    time_format(text, -1000000), "1969-12-31T23:59:59.000Z");
	/* Any value: no overrun, no garbage. */
	assert_true(strlen(time_format(text, INT64_MAX)) < sizeof(text));
	assert_true(strlen(time_format(text, INT64_MIN)) < sizeof(text));
}

static void
parses(void **state)
{
	static const struct {
		const char *text;
		int64_t us;
	} cases[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-01-02T03:04:05Z", INT64_C(1767323045000000) },
		{ "2026-01-02T03:04:05.5Z", INT64_C(1767323045500000) },
		{ "2026-01-02T03:04:05.678901234Z", INT64_C(1767323045678901) },
		{ "2026-01-02 03:04:05.678901+00", INT64_C(1767323045678901) },
		{ "2026-01-02T04:04:05+01:00", INT64_C(1767323045000000) },
		{ "2026-01-01T21:34:05-0530", INT64_C(1767323045000000) },
		{ "2024-02-29T00:00:00Z", INT64_C(1709164800000000) },
		{ "1969-12-31T23:59:59.999Z", -1000 },
	};
	int64_t us;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!time_parse(cases[i].text, &us))
			fail_msg("%s was refused", cases[i].text);
		if (us != cases[i].us)
			fail_msg("%s: %lld", cases[i].text, (long long)us);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = { "", "now", "2026-01-02",
		"2026-01-02T03:04:05", "2026-13-02T03:04:05Z",
		"2026-00-02T03:04:05Z", "2026-02-29T03:04:05Z",
		"2026-04-31T03:04:05Z", "2026-01-00T03:04:05Z",
		"2026-01-02T24:04:05Z", "2026-01-02T03:60:05Z",
		"2026-01-02T03:04:61Z", "2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05z", "2026-01-02T03:04:05Zx",
		"2026-01-02T03:04:05+1", "2026-01-02T03:04:05+24:00",
		"2026-01-02T03:04:05+01:60",
		"2026-01-02T03:04:05+01:", " 2026-01-02T03:04:05Z",
		"+026-01-02T03:04:05Z", "2026-1-2T3:4:5Z",
		"2026-01-02X03:04:05Z" };
	int64_t us = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (time_parse(bad[i], &us))
			fail_msg("%s was taken", bad[i]);
	assert_int_equal(us, 7);
}

static void
there_and_back(void **state)
{
	char text[TIME_TEXT_MAX];
	int64_t us, back;

	for (us = -INT64_C(30000000000000000); us < INT64_C(200000000000000000);
	     us += INT64_C(1234567890123000)) {
		assert_true(time_parse(time_format(text, us), &back));
		assert_int_equal(back, us);
	}
}

static void
clocks_go_forward(void **state)
{
	int64_t a = time_now_us(), b = time_now_us();

	assert_true(b >= a);
	assert_true(time_now_ms() >= a / 1000);
	assert_true(time_wall_us() > INT64_C(1700000000000000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats),
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(clocks_go_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
