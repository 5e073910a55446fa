/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What every unit test needs: cmocka with the headers it wants before it,
 * and assertions on struct err and on strings. Included first by each test;
 * owns nothing; runs in the test programs only.
 */
#ifndef TEST_H
#define TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"

/* The call succeeded; prints its sentence if not. `err` must be in scope. */
#define assert_ok(call)                                     \
	do {                                                \
		err.msg[0] = '\0';                          \
		if ((call) < 0)                             \
			fail_msg("%s: %s", #call, err.msg); \
	} while (0)

/* The call failed with ERR_##code_ and a sentence that contains `part`. */
#define assert_err(call, code_, part)                                  \
	do {                                                           \
		err = (struct err){ 0 };                               \
		assert_int_equal((call), -ERR_##code_);                \
		assert_int_equal(err.code, ERR_##code_);               \
		if (strstr(err.msg, (part)) == NULL)                   \
			fail_msg("'%s' isn't in '%s'", part, err.msg); \
	} while (0)

#endif
