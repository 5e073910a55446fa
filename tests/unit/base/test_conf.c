/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"

struct sample {
	char *name;
	char *path;
	int workers;
	bool verbose;
	int64_t timeout_ms;
	uint64_t size;
};

static const struct conf_key keys[] = {
	{ "node", "name", CONF_STR, offsetof(struct sample, name), NULL, 0, 0,
	    "" },
	{ "node", "path", CONF_STR, offsetof(struct sample, path), "/run/x", 0,
	    0, "" },
	{ "node", "workers", CONF_INT, offsetof(struct sample, workers), "2", 0,
	    64, "" },
	{ "node", "verbose", CONF_BOOL, offsetof(struct sample, verbose), "no",
	    0, 0, "" },
	{ "limits", "timeout", CONF_DURATION,
	    offsetof(struct sample, timeout_ms), "30s", 0, 0, "" },
	{ "limits", "size", CONF_SIZE, offsetof(struct sample, size), "1M", 0,
	    0, "" },
	{ .key = NULL },
};

static void
defaults_then_values(void **state)
{
	struct sample s = { 0 };
	struct err err;

	assert_ok(conf_load(NULL, keys, &s, &err));
	assert_null(s.name);
	assert_string_equal(s.path, "/run/x");
	assert_int_equal(s.timeout_ms, 30000);
	conf_done(keys, &s);

	assert_ok(conf_parse("a.conf",
	    "# comment\n[node]\nname = n1 ; why\npath=/a b/c\nworkers = 64\n"
	    "verbose = yes\n\n[limits]\ntimeout = 250ms\nsize = 2G\n",
	    keys, &s, &err));
	assert_string_equal(s.name, "n1");
	assert_string_equal(s.path, "/a b/c");
	assert_int_equal(s.workers, 64);
	assert_true(s.verbose);
	assert_int_equal(s.timeout_ms, 250);
	assert_int_equal(s.size, UINT64_C(2) << 30);
	conf_done(keys, &s);
	assert_null(s.name);
}

static void
mistakes_name_file_and_line(void **state)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{ "[node]\nnmae = x\n",
		    "a.conf line 2: unknown key 'nmae' in [node]" },
		{ "name = x\n", "line 1: unknown key 'name' in []" },
		{ "[node]\n\nworkers = 65\n",
		    "line 3: workers = '65': must be a whole number from 0 to "
		    "64" },
		{ "[node]\nworkers = -1\n", "line 2" },
		{ "[node]\nworkers =\n", "line 2: workers = ''" },
		{ "[node]\nverbose = maybe\n", "must be yes or no" },
		{ "[limits]\ntimeout = soon\n", "must be a duration" },
		{ "[limits]\nsize = 1X\n", "must be a size" },
		{ "[node]\nname\n", "line 2: not of the form" },
		{ "[node\nname = x\n", "line 1: not of the form" },
		/* the first mistake counts, whatever its kind */
		{ "[node]\nnonsense\nnmae = x\n", "line 2: not of the form" },
		{ "[node]\nnmae = x\nnonsense\n", "line 2: unknown key" },
		{ "[node]\nname = a\nname = b\n", "line 3: key 'name'" },
		{ "[node]\nname = a\n  b\n", "line 3" },
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sample s = { 0 };

		assert_err(conf_parse("a.conf", cases[i].text, keys, &s, &err),
		    CONFIG, cases[i].sentence);
		assert_null(s.path); /* nothing is left to free */
	}
}

static void
long_lines_are_refused_not_cut(void **state)
{
	char text[512] = "[node]\nname = ";
	struct sample s = { 0 };
	struct err err;
	size_t n = strlen(text);

	memset(text + n, 'a', 198 - 7);
	assert_ok(conf_parse("a.conf", text, keys, &s, &err));
	assert_int_equal(strlen(s.name), 198 - 7);
	conf_done(keys, &s);
	memset(text + n, 'a', 199 - 7);
	assert_err(conf_parse("a.conf", text, keys, &s, &err), CONFIG,
	    "a.conf line 2: longer than 198 bytes");
}

static void
files(void **state)
{
	char path[] = "/tmp/qvd-test-conf.XXXXXX";
	struct sample s = { 0 };
	struct err err;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "[node]\nname=q\n", 14), 14);
	close(fd);
	assert_ok(conf_load(path, keys, &s, &err));
	assert_string_equal(s.name, "q");
	conf_done(keys, &s);
	unlink(path);
	assert_err(conf_load(path, keys, &s, &err), CONFIG, path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_then_values),
		cmocka_unit_test(mistakes_name_file_and_line),
		cmocka_unit_test(long_lines_are_refused_not_cut),
		cmocka_unit_test(files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
