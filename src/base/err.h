/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One rule for every failure: a function that can fail takes a struct err *
 * last, returns 0 or a negative error code, and fills the err with a
 * sentence that tells the reader what to do. Callers add context on the way
 * up with err_wrap(). The table below gives each code its HTTP status, its
 * exit code and a stable id, so that CLI, API, L7R and logs say one word.
 *
 * A struct err is owned by whoever declares it (usually on the stack); it
 * holds no pointers, so that it can be copied and sent. Every process.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* X(name, HTTP status, exit code, stable id). Exit codes 0..2 and those of
 * the shell (126 and up) are not used. New rows go to the end. */
#define ERR_TABLE(X)                                       \
	X(INTERNAL, 500, 10, "internal")                   \
	X(INVALID, 400, 11, "invalid-request")             \
	X(AUTH, 401, 12, "authentication-failed")          \
	X(BLOCKED, 403, 13, "blocked")                     \
	X(FORBIDDEN, 403, 14, "not-allowed")               \
	X(NOT_FOUND, 404, 15, "not-found")                 \
	X(CONFLICT, 409, 16, "conflict")                   \
	X(TOO_LARGE, 413, 17, "too-large")                 \
	X(PARAMETER, 422, 18, "bad-parameter")             \
	X(UPGRADE, 426, 19, "upgrade-required")            \
	X(UNAVAILABLE, 503, 20, "unavailable")             \
	X(TIMEOUT, 504, 21, "timeout")                     \
	X(NO_SPACE, 507, 22, "no-space")                   \
	X(NO_MEMORY, 503, 23, "no-memory")                 \
	X(SYSTEM, 500, 24, "system")                       \
	X(NETWORK, 502, 25, "network")                     \
	X(TLS, 502, 26, "tls")                             \
	X(PROTOCOL, 502, 27, "protocol")                   \
	X(DATABASE, 503, 28, "database")                   \
	X(IMAGE, 503, 29, "image-unusable")                \
	X(VM_START, 503, 30, "vm-start-failed")            \
	X(VM_LOST, 503, 31, "vm-lost")                     \
	X(SESSION, 503, 32, "session-failed")              \
	X(TAKEN_OVER, 409, 33, "session-taken-over")       \
	X(CANCELLED, 503, 34, "cancelled")                 \
	X(CERTIFICATE, 502, 35, "certificate-not-trusted") \
	X(CONFIG, 500, 36, "configuration")                \
	X(ENDED, 410, 37, "session-ended")                 \
	X(USAGE, 400, 2, "usage")

enum err_code {
	ERR_NONE = 0,
#define X(name, http, exit, id) ERR_##name,
	ERR_TABLE(X)
#undef X
	    ERR_COUNT_
};

#define ERR_MSG_MAX 768

struct err {
	enum err_code code;
	char msg[ERR_MSG_MAX]; /* UTF-8, one sentence, no final newline */
};

/* Sets code and sentence; returns -code, so that `return err_set(...)` is
 * one expression. err may be NULL (the caller wants only the code). */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same from an errno value: appends ": <strerror>" and maps ENOSPC and
 * EDQUOT to ERR_NO_SPACE, ENOMEM to ERR_NO_MEMORY, others to `code`. */
int err_errno(struct err *err, enum err_code code, int errnum, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

/* Puts "<context>: " in front of the sentence; returns r unchanged. */
int err_wrap(struct err *err, int r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Facts of a code; unknown codes give those of ERR_INTERNAL. */
int err_http_status(enum err_code code);
int err_exit_code(enum err_code code);
const char *err_id(enum err_code code);
/* The code with that stable id, ERR_INTERNAL if there is none. */
enum err_code err_from_id(const char *id);

static inline bool
err_is_set(const struct err *err)
{
	return err->code != ERR_NONE;
}

#endif
