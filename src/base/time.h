/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Clocks and their text forms. Durations and deadlines use time_now_ms()
 * (monotonic); what people read uses time_wall_us(). Every process. */
#ifndef BASE_TIME_H
#define BASE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t time_now_ms(void);  /* CLOCK_MONOTONIC, milliseconds */
int64_t time_now_us(void);  /* CLOCK_MONOTONIC, microseconds */
int64_t time_wall_us(void); /* CLOCK_REALTIME, microseconds since 1970 */

#define TIME_TEXT_MAX 32

/* RFC 3339 in UTC with milliseconds: 2026-01-02T03:04:05.678Z. */
char *time_format(char dst[static TIME_TEXT_MAX], int64_t wall_us);
/* RFC 3339 with Z or +hh:mm, fraction optional; also PostgreSQL's form with
 * a space and "+00". */
bool time_parse(const char *s, int64_t *ret_wall_us);

#endif
