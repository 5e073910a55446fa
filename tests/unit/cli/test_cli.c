/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"
#include "cli/cli.h"

#define WORDS_MAX 16

/* The words of the last command: values point into them. */
static char *kept[WORDS_MAX];

static int
drop_words(void **state)
{
	int i;

	for (i = 0; i < WORDS_MAX; i++)
		free(take_ptr(kept[i]));
	return 0;
}

static int
parse(const char *noun, const char *verb, struct values *values,
    struct err *err, int argc, const char *const *words)
{
	const struct noun *n = noun_find(noun);
	int i;

	drop_words(NULL);
	for (i = 0; i < argc; i++)
		kept[i] = xstrdup(words[i]);
	return values_parse(argc, kept, n, command_find(n, verb), values, err);
}

#define PARSE(noun_, verb_, values_, ...)                                    \
	({                                                                   \
		const char *w_[] = { __VA_ARGS__ };                          \
		parse(noun_, verb_, values_, &err, (int)ARRAY_SIZE(w_), w_); \
	})

static void
each_command_is_sound(void **state)
{
	const struct noun *const *n;
	const struct command *c;
	const struct arg *a, *b;
	int many;

	for (n = nouns; *n != NULL; n++) {
		assert_non_null((*n)->summary);
		assert_ptr_equal(noun_find((*n)->name), *n);
		for (c = (*n)->commands; c->verb != NULL; c++) {
			assert_non_null(c->run);
			assert_false(str_ends(c->summary, "."));
			many = 0;
			for (a = c->args; a != NULL && a->name != NULL; a++) {
				assert_non_null(a->doc);
				/* Nothing after one that takes the rest. */
				if (!str_starts(a->name, "--")) {
					assert_int_equal(many, 0);
					many = (a->flags & ARG_MANY) != 0;
				}
				if (a->type == ARG_WORD)
					assert_non_null(a->words);
				for (b = a + 1; b->name != NULL; b++)
					assert_string_not_equal(
					    a->name, b->name);
			}
		}
	}
}

static void
options_and_words(void **state)
{
	struct values v;
	struct err err = { 0 };

	assert_ok(PARSE(
	    "osf", "add", &v, "--memory", "2G", "xfce", "--kind=desktop"));
	assert_string_equal(value_get(&v, "NAME"), "xfce");
	assert_string_equal(value_get(&v, "--memory"), "2G");
	assert_string_equal(value_get(&v, "--kind"), "desktop");
	assert_null(value_get(&v, "--swap"));
	assert_ok(PARSE("vm", "stop", &v, "1", "--no-wait", "2", "3"));
	assert_int_equal(value_count(&v, "VM"), 3);
	assert_string_equal(value_nth(&v, "VM", 2), "3");
	assert_true(value_flag(&v, "--no-wait"));
	assert_ok(PARSE("tenant", "add", &v, "--", "--odd"));
	assert_string_equal(value_get(&v, "NAME"), "--odd");
	assert_ok(PARSE("tenant", "add", &v, "x", "--description="));
	assert_string_equal(value_get(&v, "--description"), "");
}

static void
mistakes(void **state)
{
	struct values v;
	struct err err = { 0 };

	assert_err(PARSE("osf", "add", &v, "x", "--memroy", "2G"), USAGE,
	    "unknown option '--memroy'; see 'qvd help osf add'");
	assert_err(PARSE("osf", "add", &v, "x", "--memory"), USAGE,
	    "--memory needs a value: --memory SIZE");
	assert_err(
	    PARSE("osf", "add", &v, "x", "--memory", "1G", "--memory=2G"),
	    USAGE, "--memory is given twice");
	assert_err(PARSE("vm", "stop", &v, "1", "--no-wait=yes"), USAGE,
	    "--no-wait takes no value");
	assert_err(PARSE("tenant", "add", &v, "x", "y"), USAGE,
	    "too many arguments: 'y'");
	assert_err(PARSE("tenant", "add", &v, "--description", "y"), USAGE,
	    "NAME is missing; see 'qvd help tenant add'");
	assert_err(PARSE("vm", "add", &v, "alice"), USAGE, "--osf is missing");
}

static void
values_become_json(void **state)
{
	struct cli cli = { .arena = arena_new(65536) };
	struct values v;
	struct err err = { 0 };
	json_t *body;
	const char *query;

	assert_ok(PARSE("osf", "set", &v, "7", "--memory", "2G", "--swap",
	    "512", "--cpu", "150", "--root", "volatile"));
	assert_ok(values_body(&cli, &v, &body, &err));
	assert_int_equal(
	    json_integer_value(json_object_get(body, "memory_mb")), 2048);
	assert_int_equal(
	    json_integer_value(json_object_get(body, "swap_mb")), 512);
	assert_int_equal(
	    json_integer_value(json_object_get(body, "cpu_percent")), 150);
	assert_string_equal(
	    json_string_value(json_object_get(body, "root")), "volatile");
	assert_int_equal(json_object_size(body), 4);
	json_decref(body);
	assert_ok(PARSE("event", "list", &v, "--vm", "3", "--ref", "A&B"));
	assert_ok(values_query(&cli, &v, &query, &err));
	assert_string_equal(query, "?vm_id=3&ref=A%26B");
	arena_free(cli.arena);
}

static void
values_out_of_range(void **state)
{
	struct cli cli = { .arena = arena_new(65536) };
	struct values v;
	struct err err = { 0 };
	json_t *body = NULL;

	assert_ok(PARSE("osf", "set", &v, "7", "--memory", "2X"));
	assert_err(values_body(&cli, &v, &body, &err), USAGE,
	    "'2X' is not a size such as 512M or 2G");
	assert_ok(PARSE("osf", "set", &v, "7", "--memory", "1500K"));
	assert_err(values_body(&cli, &v, &body, &err), USAGE, "not a size");
	assert_ok(PARSE("osf", "set", &v, "7", "--cpu-weight", "0"));
	assert_err(values_body(&cli, &v, &body, &err), USAGE,
	    "'0' is not a number from 1 to 10000");
	assert_ok(PARSE("osf", "set", &v, "7", "--root", "soft"));
	assert_err(values_body(&cli, &v, &body, &err), USAGE,
	    "'soft' is not one of persistent, volatile");
	assert_ok(PARSE("osf", "set", &v, "7", "--description", "\xff"));
	assert_err(values_body(&cli, &v, &body, &err), USAGE, "UTF-8");
	arena_free(cli.arena);
}

static void
durations(void **state)
{
	struct cli cli = { .arena = arena_new(65536) };

	assert_string_equal(text_duration(&cli, 0), "0 ms");
	assert_string_equal(text_duration(&cli, 999), "999 ms");
	assert_string_equal(text_duration(&cli, 1234), "1.2 s");
	assert_string_equal(text_duration(&cli, 61000), "1 min 1 s");
	assert_string_equal(text_duration(&cli, 3700000), "1 h 1 min");
	assert_string_equal(text_duration(&cli, 90000000), "1 d 1 h");
	assert_string_equal(text_bytes(&cli, 1023), "1023");
	assert_string_equal(text_bytes(&cli, 1024), "1.0K");
	assert_string_equal(text_bytes(&cli, 480247808), "458M");
	arena_free(cli.arena);
}

static void
text_of_a_peer_is_harmless(void **state)
{
	struct cli cli = { .arena = arena_new(65536) };

	assert_string_equal(text_clean(&cli, "a\033[2Jb\nc\x7f"), "a?[2Jb?c?");
	assert_string_equal(text_clean(&cli, "\xc2\x9b"
					     "2J"),
	    "??2J");
	assert_string_equal(text_clean(&cli, "\xc3\xa9"), "\xc3\xa9");
	arena_free(cli.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_command_is_sound),
		cmocka_unit_test(options_and_words),
		cmocka_unit_test(mistakes),
		cmocka_unit_test(values_become_json),
		cmocka_unit_test(values_out_of_range),
		cmocka_unit_test(durations),
		cmocka_unit_test(text_of_a_peer_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, drop_words);
}
