/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An enum and its words from one X-macro table, so that C, SQL CHECK lists,
 * JSON and the manual can't drift apart:
 *
 *	#define COLOR_TABLE(X) X(RED, "red") X(BLUE, "blue")
 *
 *	enum color {                                     in the header
 *	#define X(name, word) COLOR_##name,
 *		COLOR_TABLE(X)
 *	#undef X
 *	};
 *	ENUM_FUNCTIONS(color);
 *
 *	#define X(name, word) [COLOR_##name] = word,     in one .c file
 *	ENUM_DEFINE(color, COLOR_TABLE(X));
 *	#undef X
 *
 * gives color_to_str(), color_from_str() and color_words for field tables.
 */
#ifndef BASE_ENUM_H
#define BASE_ENUM_H

#include <stdbool.h>
#include <stddef.h>

struct enum_words {
	const char *name;         /* of the enum, for error sentences */
	const char *const *words; /* indexed by value, never NULL */
	int count;
};

/* The word of a value, "?" if it is out of range. */
const char *enum_to_str(const struct enum_words *words, int value);
/* False if no value has that word. */
bool enum_from_str(const struct enum_words *words, const char *s, int *ret);

#define ENUM_FUNCTIONS(lower)                         \
	extern const struct enum_words lower##_words; \
	const char *lower##_to_str(enum lower value); \
	bool lower##_from_str(const char *s, enum lower *ret)

#define ENUM_DEFINE(lower, ...)                                            \
	static const char *const lower##_strings[] = { __VA_ARGS__ };      \
	const struct enum_words lower##_words = { #lower, lower##_strings, \
		sizeof(lower##_strings) / sizeof(lower##_strings[0]) };    \
	const char *lower##_to_str(enum lower value)                       \
	{                                                                  \
		return enum_to_str(&lower##_words, (int)value);            \
	}                                                                  \
	bool lower##_from_str(const char *s, enum lower *ret)              \
	{                                                                  \
		int v;                                                     \
                                                                           \
		if (!enum_from_str(&lower##_words, s, &v))                 \
			return false;                                      \
		*ret = (enum lower)v;                                      \
		return true;                                               \
	}                                                                  \
	_Static_assert(sizeof(lower##_strings) > 0, "empty enum")

#endif
