/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/agent_line.h"

#include "base/str.h"

#define X(name, word) [AGENT_LINE_##name] = word,
ENUM_DEFINE(agent_line, AGENT_LINE_TABLE(X));
#undef X

enum agent_line
agent_line_parse(const char *line)
{
	int i;

	for (i = 0; i < AGENT_LINE_OTHER; i++) {
		if (str_starts(line, agent_line_strings[i]))
			return (enum agent_line)i;
	}
	return AGENT_LINE_OTHER;
}

bool
agent_line_is_trouble(enum agent_line kind)
{
	return kind >= AGENT_LINE_TROUBLE && kind < AGENT_LINE_OTHER;
}
