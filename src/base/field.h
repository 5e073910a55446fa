/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A table that describes the members of a struct: one table serves JSON
 * (json/json.h), database rows (db/row.h) and the manual, so that no handler
 * contains parsing. Tables are const and end with FIELD_END.
 *
 *	static const struct field user_fields[] = {
 *		FIELD(struct user, id, I64, .flags = FIELD_REQUIRED),
 *		FIELD(struct user, login, STR, .max = 64),
 *		FIELD_ENUM_OF(struct user, state, user_state_words),
 *		FIELD_END
 *	};
 */
#ifndef BASE_FIELD_H
#define BASE_FIELD_H

#include <stddef.h>
#include <stdint.h>

#include "base/enum.h"
#include "base/err.h"

enum field_type {
	FIELD_TYPE_BOOL, /* bool */
	FIELD_TYPE_I32,  /* int32_t, within [min, max] if max > min */
	FIELD_TYPE_I64,  /* int64_t, the same */
	FIELD_TYPE_F64,  /* double */
	FIELD_TYPE_STR,  /* const char * in the arena; max = bytes, 0: 4096 */
	FIELD_TYPE_ENUM, /* enum (int), words */
	FIELD_TYPE_TIME, /* int64_t, microseconds since 1970 UTC; 0 = NULL.
			  * JSON: RFC 3339 text; SQL: timestamptz */
	FIELD_TYPE_JSON, /* const char *: JSON text, any value, in the arena */
	FIELD_TYPE_COUNT_
};

#define FIELD_REQUIRED 1u /* JSON: must be present and not null */
#define FIELD_NAME     2u /* text must be a name (str_is_name) */
#define FIELD_SECRET   4u /* never encoded back, wiped with the arena */
#define FIELD_READONLY 8u /* encoded, but refused in a request */

struct field {
	const char *name; /* NULL ends the table */
	enum field_type type;
	size_t offset;
	unsigned flags;
	int64_t min, max;
	const struct enum_words *words;
	const char *doc; /* a sentence for the manual */
	/* Text that has a grammar of its own; NULL: it has none. */
	int (*check)(const char *text, struct err *err);
};

#define FIELD(type_, member, kind, ...)                        \
	{                                                      \
		.name = #member, .type = FIELD_TYPE_##kind,    \
		.offset = offsetof(type_, member), __VA_ARGS__ \
	}
#define FIELD_AS(type_, member, name_, kind, ...)              \
	{                                                      \
		.name = (name_), .type = FIELD_TYPE_##kind,    \
		.offset = offsetof(type_, member), __VA_ARGS__ \
	}
#define FIELD_ENUM_OF(type_, member, words_, ...)                      \
	{                                                              \
		.name = #member, .type = FIELD_TYPE_ENUM,              \
		.offset = offsetof(type_, member), .words = &(words_), \
		__VA_ARGS__                                            \
	}
#define FIELD_END            \
	{                    \
		.name = NULL \
	}

#endif
