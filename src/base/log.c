/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/log.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

static const struct {
	const char *word;
	int priority; /* syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARN] = { "warn", 4 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static char program[48] = "qvd";
static enum log_level max_level = LOG_LEVEL_INFO;
static bool journal;

void
log_init(const char *name)
{
	const char *want = getenv("QVD_LOG");
	size_t i;

	str_copy(program, sizeof(program), name);
	journal = getenv("JOURNAL_STREAM") != NULL;
	for (i = 0; want != NULL && i < ARRAY_SIZE(levels); i++)
		if (str_eq(want, levels[i].word))
			max_level = (enum log_level)i;
}

void
log_set_level(enum log_level level)
{
	max_level = level;
}

bool
log_enabled(enum log_level level)
{
	return level <= max_level;
}

static void
write_line(enum log_level level, const char *text)
{
	char line[PIPE_BUF], when[TIME_TEXT_MAX];
	ssize_t w _unused_;
	int n;

	if (journal)
		n = snprintf(line, sizeof(line), "<%d>%s: %s\n",
		    levels[level].priority, program, text);
	else
		n = snprintf(line, sizeof(line), "%s %-5s %s[%d] %s\n",
		    time_format(when, time_wall_us()), levels[level].word,
		    program, (int)getpid(), text);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line);
		line[n - 1] = '\n';
	}
	/* A log that can't be written must not stop the daemon. */
	w = write(STDERR_FILENO, line, (size_t)n);
}

void
log_write(enum log_level level, const char *fmt, ...)
{
	char text[PIPE_BUF - 128];
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	write_line(level, text);
}

void
log_err(enum log_level level, const struct err *err, const char *fmt, ...)
{
	char text[PIPE_BUF - 128], context[1024];
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s: %s (%s)", context, err->msg,
	    err_id(err->code));
	write_line(level, text);
}
