/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What an agent, a hook or the user's programs print: split into lines,
 * understood, kept and quoted. The first byte says in how large pieces it
 * comes. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "vma/agent_line.h"
#include "vma/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_line(const char *line, void *arg)
{
	enum agent_line kind = agent_line_parse(line);

	assert(strlen(line) <= LINES_MAX);
	assert(kind >= 0 && kind < AGENT_LINE_COUNT_);
	lines_keep(arg, line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[LINES_TEXT];
	struct lines l;
	size_t piece, n;

	if (size < 1)
		return 0;
	piece = (size_t)data[0] + 1;
	data++;
	size--;
	lines_init(&l, on_line, &l);
	while (size > 0) {
		n = size < piece ? size : piece;
		lines_feed(&l, (const char *)data, n);
		data += n;
		size -= n;
	}
	assert(strlen(lines_last(&l, text)) < LINES_TEXT);
	assert(strlen(lines_newest(&l, text)) < LINES_TEXT);
	return 0;
}
