/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "vma/agent_line.h"
#include "vma/lines.h"

static void
knows_what_the_agent_says(void **state)
{
	static const struct {
		const char *line;
		enum agent_line kind;
	} t[] = {
		{ "Session: Starting session at 'Mon Nov 23 15:49:09 2026'.",
		    AGENT_LINE_STARTING },
		{ "Info: Waiting for connection from this host on socket "
		  "'unix:/run/qvd-session/2000/nx.sock'.",
		    AGENT_LINE_LISTENING },
		{ "Session: Session started at 'Mon Nov 23 15:49:12 2026'.",
		    AGENT_LINE_STARTED },
		{ "Session: Session resumed at 'x'.", AGENT_LINE_RESUMED },
		{ "Session: Suspending session at 'x'.",
		    AGENT_LINE_SUSPENDING },
		{ "Session: Session suspended at 'x'.", AGENT_LINE_SUSPENDED },
		{ "Session: Display failure detected at 'x'.",
		    AGENT_LINE_DISPLAY_LOST },
		{ "Session: Session terminated at 'x'.",
		    AGENT_LINE_TERMINATED },
		{ "Error: Connection with remote peer broken.",
		    AGENT_LINE_TROUBLE },
		{ "Info: Agent running with pid '31'.", AGENT_LINE_OTHER },
		{ " Session: Session resumed at 'x'.", AGENT_LINE_OTHER },
		{ "", AGENT_LINE_OTHER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(agent_line_parse(t[i].line), t[i].kind);
	assert_true(agent_line_is_trouble(AGENT_LINE_TROUBLE));
	assert_true(agent_line_is_trouble(AGENT_LINE_TROUBLE_ERR));
	assert_false(agent_line_is_trouble(AGENT_LINE_OTHER));
	assert_false(agent_line_is_trouble(AGENT_LINE_ABORTED));
}

static char heard[8][LINES_MAX + 1];
static int n_heard;

static void
hear(const char *line, void *arg)
{
	snprintf(heard[n_heard++], sizeof(heard[0]), "%s", line);
}

static void
feed(struct lines *l, const char *text)
{
	lines_feed(l, text, strlen(text));
}

static void
splits_lines_wherever_they_are_cut(void **state)
{
	struct lines l;

	n_heard = 0;
	lines_init(&l, hear, NULL);
	feed(&l, "one\ntw");
	assert_int_equal(n_heard, 1);
	feed(&l, "o\r\n\n\nthree");
	assert_int_equal(n_heard, 2);
	lines_feed(&l, "\0x\n", 3);
	assert_string_equal(heard[0], "one");
	assert_string_equal(heard[1], "two");
	assert_string_equal(heard[2], "three?x");
}

static void
an_endless_line_costs_nothing(void **state)
{
	struct lines l;

	n_heard = 0;
	lines_init(&l, hear, NULL);
	for (int i = 0; i < 100000; i++)
		feed(&l, "0123456789");
	feed(&l, "\nnext\n");
	assert_int_equal(n_heard, 2);
	assert_int_equal(strlen(heard[0]), LINES_MAX);
	assert_string_equal(heard[1], "next");
}

static void
keeps_the_newest_lines_escaped(void **state)
{
	char text[LINES_TEXT];
	struct lines l;

	lines_init(&l, NULL, NULL);
	assert_string_equal(lines_last(&l, text), "");
	assert_string_equal(lines_newest(&l, text), "");
	feed(&l, "a\nb\nc\nd\ne \033[2J\n");
	assert_string_equal(lines_last(&l, text), "b / c / d / e \\x1b[2J");
	assert_string_equal(lines_newest(&l, text), "e \\x1b[2J");
	for (int i = 0; i < 200; i++)
		feed(&l, "0123456789");
	feed(&l, "\nthe end\n");
	assert_true(strlen(lines_last(&l, text)) < LINES_TEXT);
	assert_non_null(strstr(text, "the end"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_what_the_agent_says),
		cmocka_unit_test(splits_lines_wherever_they_are_cut),
		cmocka_unit_test(an_endless_line_costs_nothing),
		cmocka_unit_test(keeps_the_newest_lines_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
