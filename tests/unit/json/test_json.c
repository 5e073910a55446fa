/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <math.h>
#include <string.h>

#include "json/json.h"

enum shape { SHAPE_ROUND, SHAPE_FLAT };
static const char *const shapes[] = { "round", "flat" };
static const struct enum_words shape_words = { "shape", shapes, 2 };

struct sample {
	int64_t id;
	int32_t count;
	bool blocked;
	double ratio;
	const char *login;
	const char *note;
	const char *password;
	enum shape shape;
	int64_t created;
	const char *extra;
};

static const struct field fields[] = {
	FIELD(struct sample, id, I64, .flags = FIELD_READONLY),
	FIELD(struct sample, count, I32, .min = 1, .max = 10),
	FIELD(struct sample, blocked, BOOL),
	FIELD(struct sample, ratio, F64),
	FIELD(struct sample, login, STR, .max = 8,
	    .flags = FIELD_REQUIRED | FIELD_NAME),
	FIELD(struct sample, note, STR),
	FIELD(struct sample, password, STR, .flags = FIELD_SECRET),
	FIELD_ENUM_OF(struct sample, shape, shape_words),
	FIELD(struct sample, created, TIME),
	FIELD(struct sample, extra, JSON),
	FIELD_END,
};

static struct err err;
static struct arena *arena;

static int
decode(const char *text, struct sample *out, uint64_t *seen)
{
	_cleanup_(json_decrefp)
	json_t *v = NULL;
	int r;

	if ((r = json_parse(text, strlen(text), &v, &err)) < 0)
		return r;
	return json_decode(v, fields, out, arena, seen, &err);
}

static void
fills_a_struct(void **state)
{
	struct sample s = { .count = 5, .id = 3 };
	uint64_t seen = 0;

	assert_ok(decode("{\"login\": \"alice\", \"blocked\": true,"
			 "\"ratio\": 2, \"note\": \"caf\\u00e9\\n\","
			 "\"shape\": \"flat\", \"extra\": {\"a\": [1]},"
			 "\"created\": \"2026-01-02T03:04:05Z\"}",
	    &s, &seen));
	assert_string_equal(s.login, "alice");
	assert_string_equal(s.note, "café\n");
	assert_string_equal(s.extra, "{\"a\":[1]}");
	assert_true(s.blocked);
	assert_int_equal(s.count, 5); /* absent: as it was */
	assert_int_equal(s.shape, SHAPE_FLAT);
	assert_int_equal(s.created, INT64_C(1767323045000000));
	assert_int_equal(
	    seen, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9);
}

static void
mistakes_name_the_member(void **state)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{ "[]", "must be a JSON object" },
		{ "{}", "'login' is missing" },
		{ "{\"login\": null}", "'login' is missing" },
		{ "{\"login\": 1}", "'login' must be text" },
		{ "{\"login\": \"a b\"}", "'login' must be a name" },
		{ "{\"login\": \"123456789\"}",
		    "'login' must be at most 8 bytes" },
		{ "{\"login\": \"a\", \"id\": 1}", "'id' can't be set" },
		{ "{\"login\": \"a\", \"count\": 0}",
		    "'count' must be from 1" },
		{ "{\"login\": \"a\", \"count\": 11}", "from 1 to 10" },
		{ "{\"login\": \"a\", \"count\": 1.0}",
		    "'count' must be a whole number" },
		{ "{\"login\": \"a\", \"count\": \"1\"}", "a whole number" },
		{ "{\"login\": \"a\", \"blocked\": 1}",
		    "'blocked' must be true or false" },
		{ "{\"login\": \"a\", \"ratio\": \"x\"}", "must be a number" },
		{ "{\"login\": \"a\", \"shape\": \"odd\"}",
		    "'shape' must be one of: round, flat" },
		{ "{\"login\": \"a\", \"shape\": 1}", "must be one of" },
		{ "{\"login\": \"a\", \"created\": \"2026-02-30T00:00:00Z\"}",
		    "'created' must be a time" },
		{ "{\"login\": \"a\", \"logn\\n\": 1}",
		    "unknown member 'logn\\x0a'" },
	};
	struct sample s;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_err(decode(cases[i].text, &s, NULL), PARAMETER,
		    cases[i].sentence);
}

static void
refuses_what_is_not_json(void **state)
{
	static const char *const bad[] = { "", "{", "{\"a\":1,\"a\":2}",
		"{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{} x", "nul",
		"{\"a\":1e999}", "{\"a\":99999999999999999999}" };
	json_t *v = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(json_parse(bad[i], strlen(bad[i]), &v, &err),
		    INVALID, "not JSON: line 1: ");
	/* The sentence goes into logs: no bytes of the peer as they are. */
	assert_err(json_parse("\"a\x1b[2J", 6, &v, &err), INVALID, "not JSON");
	assert_null(strchr(err.msg, '\x1b'));
	assert_null(v);
}

static void
limits_the_depth(void **state)
{
	char text[200];
	json_t *v = NULL;

	memset(text, '[', 32);
	memset(text + 32, ']', 32);
	assert_ok(json_parse(text, 64, &v, &err));
	json_decref(v);
	memset(text, '[', 33);
	memset(text + 33, ']', 33);
	assert_err(
	    json_parse(text, 66, &v, &err), INVALID, "deeper than 32 levels");
}

static void
respects_the_arena(void **state)
{
	_cleanup_(arena_freep)
	struct arena *small = arena_new(32);
	_cleanup_(json_decrefp)
	json_t *v = json_pack("{s:s, s:s}", "login", "alice", "note",
	    "a note that is longer than the arena");
	struct sample s;

	assert_err(json_decode(v, fields, &s, small, NULL, &err), TOO_LARGE,
	    "too large");
}

static void
writes_a_struct(void **state)
{
	_cleanup_(json_decrefp)
	json_t *v = NULL;
	_cleanup_(freep)
	char *text = NULL;
	struct sample s = { .id = 1,
		.count = 2,
		.login = "ñ",
		.note = "cut \xc3",
		.password = "secret",
		.ratio = NAN,
		.created = 1000,
		.extra = "not json",
		.shape = 9 };

	v = json_encode(fields, &s);
	text = json_text(v);
	assert_string_equal(text,
	    "{\"id\":1,\"count\":2,\"blocked\":false,\"ratio\":null,"
	    "\"login\":\"\\u00F1\",\"note\":\"cut \\\\xc3\",\"shape\":\"?\","
	    "\"created\":\"1970-01-01T00:00:00.001Z\",\"extra\":null}");
}

static void
errors_travel(void **state)
{
	struct err in = { ERR_TAKEN_OVER, "session taken over by 'bob'" };
	struct err out;
	json_t *v = json_from_err(&in);

	assert_int_equal(json_to_err(v, &out), -ERR_TAKEN_OVER);
	assert_string_equal(out.msg, in.msg);
	json_decref(v);

	v = json_pack("{s:{s:s,s:s}}", "error", "id", "ok", "message", "x");
	assert_int_equal(json_to_err(v, &out), -ERR_INTERNAL);
	json_decref(v);
	v = json_pack("{s:s}", "error", "x");
	assert_int_equal(json_to_err(v, &out), -ERR_PROTOCOL);
	json_decref(v);
	assert_int_equal(json_to_err(NULL, &out), -ERR_PROTOCOL);

	in.msg[0] = '\xc3'; /* not UTF-8: escaped, not lost */
	v = json_from_err(&in);
	assert_int_equal(json_to_err(v, &out), -ERR_TAKEN_OVER);
	assert_memory_equal(out.msg, "\\xc3ession", 10);
	json_decref(v);
}

static void
reads_members(void **state)
{
	_cleanup_(json_decrefp)
	json_t *v = json_pack("{s:s,s:i,s:b}", "s", "x", "i", 7, "b", 1);

	assert_string_equal(json_get_str(v, "s", "def"), "x");
	assert_string_equal(json_get_str(v, "i", "def"), "def");
	assert_null(json_get_str(NULL, "s", NULL));
	assert_int_equal(json_get_int(v, "i", 1), 7);
	assert_int_equal(json_get_int(v, "s", 1), 1);
	assert_true(json_get_bool(v, "b", false));
	assert_true(json_get_bool(v, "none", true));
}

static int
setup(void **state)
{
	arena = arena_new(65536);
	return 0;
}

static int
teardown(void **state)
{
	arena_freep(&arena);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_a_struct),
		cmocka_unit_test(mistakes_name_the_member),
		cmocka_unit_test(refuses_what_is_not_json),
		cmocka_unit_test(limits_the_depth),
		cmocka_unit_test(respects_the_arena),
		cmocka_unit_test(writes_a_struct),
		cmocka_unit_test(errors_travel),
		cmocka_unit_test(reads_members),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
