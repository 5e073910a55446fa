/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int http;
	int exit;
	const char *id;
} facts[] = { [ERR_NONE] = { 200, 0, "ok" },
#define X(name, http, exit, id) [ERR_##name] = { http, exit, id },
	ERR_TABLE(X)
#undef X
};

static enum err_code
known(enum err_code code)
{
	return (unsigned)code < ERR_COUNT_ ? code : ERR_INTERNAL;
}

int
err_http_status(enum err_code code)
{
	return facts[known(code)].http;
}

int
err_exit_code(enum err_code code)
{
	return facts[known(code)].exit;
}

const char *
err_id(enum err_code code)
{
	return facts[known(code)].id;
}

enum err_code
err_from_id(const char *id)
{
	int i;

	for (i = ERR_NONE + 1; i < ERR_COUNT_; i++)
		if (strcmp(facts[i].id, id) == 0)
			return i;
	return ERR_INTERNAL;
}

/* A sentence that was cut ends at a whole UTF-8 character: it goes into JSON
 * and into the database, which refuse half of one. */
static void
trim(struct err *err)
{
	size_t n = strlen(err->msg), i = n;
	unsigned char lead;

	if (n + 1 < sizeof(err->msg))
		return;
	while (
	    i > 0 && n - i < 4 && ((unsigned char)err->msg[i] & 0xc0) != 0xc0)
		i--;
	lead = (unsigned char)err->msg[i];
	if (lead >= 0xc0 && n - i < (lead >= 0xf0      ? 4U
					: lead >= 0xe0 ? 3U
						       : 2U))
		err->msg[i] = '\0';
}

int
err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return -(int)code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	trim(err);
	return -(int)code;
}

int
err_errno(struct err *err, enum err_code code, int errnum, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	if (errnum == ENOSPC || errnum == EDQUOT)
		code = ERR_NO_SPACE;
	else if (errnum == ENOMEM)
		code = ERR_NO_MEMORY;
	if (err == NULL)
		return -(int)code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	snprintf(
	    err->msg + len, sizeof(err->msg) - len, ": %s", strerror(errnum));
	trim(err);
	return -(int)code;
}

int
err_wrap(struct err *err, int r, const char *fmt, ...)
{
	char inner[ERR_MSG_MAX];
	va_list ap;
	size_t len;

	if (err == NULL)
		return r;
	memcpy(inner, err->msg, sizeof(inner));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	/* A chain too long loses its innermost end, never its terminator. */
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %.*s",
	    (int)(sizeof(inner) - 1), inner);
	trim(err);
	return r;
}
