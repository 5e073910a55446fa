/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A failure on its way to a client: the err, the reference by which it is
 * found in log and timeline, and the HTTP status if it isn't the err's own.
 * Made where the failure is first seen, carried from broker to worker (as
 * {"failed": {...}}) and from worker to broker. No pointers.
 */
#ifndef L7R_FAILURE_H
#define L7R_FAILURE_H

#include <jansson.h>

#include "base/err.h"

#define REF_LEN 8

struct failure {
	struct err err;
	char ref[REF_LEN + 1]; /* [A-Z2-7] */
	int status;            /* 0: that of the err */
};

/* Eight random characters of [A-Z2-7]. */
void ref_new(char ret_ref[static REF_LEN + 1]);

/* Takes the err over and makes a reference unless there is one. */
void failure_from_err(struct failure *f, const struct err *err);
void failure_set(struct failure *f, int status, enum err_code code,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
int failure_status(const struct failure *f);

/* A new reference to {"failed": {id, message, ref, status}}. */
json_t *failure_to_json(const struct failure *f);
/* True, and *ret filled, if the answer is such an object. */
bool failure_from_json(const json_t *answer, struct failure *ret);

#endif
