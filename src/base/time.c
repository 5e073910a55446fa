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
	int64_t ms = wall_us / 1000 % 1000;
	time_t secs = (time_t)(wall_us / 1000000);
	struct tm tm;
	size_t n;

	if (wall_us < 0 && wall_us % 1000000 != 0) { /* round down */
		secs--;
		ms = (wall_us % 1000000 + 1000000) / 1000;
	}
	gmtime_r(&secs, &tm);
	n = strftime(dst, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(dst + n, TIME_TEXT_MAX - n, ".%03dZ", (int)ms);
	return dst;
}

/* Exactly n digits at *s, within [min, max]; moves *s past them. */
static bool
digits(const char **s, int n, int min, int max, int *ret)
{
	int i, v = 0;

	for (i = 0; i < n; i++) {
		if ((*s)[i] < '0' || (*s)[i] > '9')
			return false;
		v = v * 10 + ((*s)[i] - '0');
	}
	*s += n;
	*ret = v;
	return v >= min && v <= max;
}

static bool
skip(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* The zone at s: "Z", "+hh", "+hhmm" or "+hh:mm", to seconds. */
static bool
parse_zone(const char *s, int *ret_secs)
{
	int h, m = 0;
	bool minus = *s == '-';

	*ret_secs = 0;
	if (skip(&s, 'Z'))
		return *s == '\0';
	if (!skip(&s, minus ? '-' : '+') || !digits(&s, 2, 0, 23, &h))
		return false;
	if (*s != '\0') {
		skip(&s, ':');
		if (!digits(&s, 2, 0, 59, &m))
			return false;
	}
	*ret_secs = (minus ? -1 : 1) * (h * 3600 + m * 60);
	return *s == '\0';
}

static int
days_of_month(int year, int month)
{
	static const char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

bool
time_parse(const char *s, int64_t *ret_wall_us)
{
	struct tm tm = { 0 };
	int64_t us = 0, scale = 100000;
	int year, month, zone;

	if (!digits(&s, 4, 0, 9999, &year) || !skip(&s, '-') ||
	    !digits(&s, 2, 1, 12, &month) || !skip(&s, '-') ||
	    !digits(&s, 2, 1, days_of_month(year, month), &tm.tm_mday) ||
	    !(skip(&s, 'T') || skip(&s, ' ')) ||
	    !digits(&s, 2, 0, 23, &tm.tm_hour) || !skip(&s, ':') ||
	    !digits(&s, 2, 0, 59, &tm.tm_min) || !skip(&s, ':') ||
	    !digits(&s, 2, 0, 60, &tm.tm_sec))
		return false;
	if (skip(&s, '.')) {
		if (*s < '0' || *s > '9')
			return false;
		for (; *s >= '0' && *s <= '9'; s++, scale /= 10)
			us += (*s - '0') * scale;
	}
	if (!parse_zone(s, &zone))
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	*ret_wall_us = ((int64_t)timegm(&tm) - zone) * 1000000 + us;
	return true;
}
