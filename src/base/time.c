/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/time.h"

#include <stdio.h>
#include <time.h>

static int64_t
now_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
time_now_us(void)
{
	return now_us(CLOCK_MONOTONIC);
}

int64_t
time_now_ms(void)
{
	return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
time_wall_us(void)
{
	return now_us(CLOCK_REALTIME);
}

char *
time_format(char dst[static TIME_TEXT_MAX], int64_t wall_us)
{
	time_t secs = (time_t)(wall_us / 1000000);
	int ms = (int)(wall_us / 1000 % 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&secs, &tm);
	n = strftime(dst, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(dst + n, TIME_TEXT_MAX - n, ".%03dZ", ms);
	return dst;
}

/* The zone at s: "Z", "+hh", "+hhmm" or "+hh:mm", to seconds. */
static bool
parse_zone(const char *s, int *ret_secs)
{
	int h, m = 0, n = 0;
	char sign;

	if (s[0] == 'Z' && s[1] == '\0') {
		*ret_secs = 0;
		return true;
	}
	if (sscanf(s, "%c%2d:%2d%n", &sign, &h, &m, &n) != 3 &&
	    sscanf(s, "%c%2d%2d%n", &sign, &h, &m, &n) != 3) {
		m = 0;
		if (sscanf(s, "%c%2d%n", &sign, &h, &n) != 2)
			return false;
	}
	if (s[n] != '\0' || (sign != '+' && sign != '-') || h < 0 || m < 0)
		return false;
	*ret_secs = (sign == '-' ? -1 : 1) * (h * 3600 + m * 60);
	return true;
}

bool
time_parse(const char *s, int64_t *ret_wall_us)
{
	struct tm tm = { 0 };
	int64_t us = 0, scale = 100000;
	int n = 0, zone;
	char sep;

	if (sscanf(s, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
		&tm.tm_mday, &sep, &tm.tm_hour, &tm.tm_min, &tm.tm_sec,
		&n) != 7 ||
	    n == 0 || (sep != 'T' && sep != ' '))
		return false;
	s += n;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
			us += (*s - '0') * scale;
	if (!parse_zone(s, &zone))
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*ret_wall_us = ((int64_t)timegm(&tm) - zone) * 1000000 + us;
	return true;
}
