/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/enum.h"

#include <string.h>

const char *
enum_to_str(const struct enum_words *words, int value)
{
	return value >= 0 && value < words->count ? words->words[value] : "?";
}

bool
enum_from_str(const struct enum_words *words, const char *s, int *ret)
{
	int i;

	for (i = 0; i < words->count; i++) {
		if (strcmp(words->words[i], s) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}
