/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log: one line a fact, to standard error, from programs only (never
 * from libraries: they return a struct err). Under a journal the line starts
 * with its priority; else with time, level and program, so that several
 * daemons can share one stream: each line is one write(2) of at most
 * PIPE_BUF bytes. Bytes of a peer are escaped by the caller (str_escape).
 * One global, set once at start. Every process.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* name: "l7r/worker0"; copied. Level from QVD_LOG=error|warn|info|debug,
 * info without it. */
void log_init(const char *name);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* "context: sentence (error id)". */
void log_err(enum log_level level, const struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
