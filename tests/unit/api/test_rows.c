/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "api/api.h"

static struct ref
parse(struct arena *arena, const char *text)
{
	struct ref ref = { NULL, NULL, NULL, NULL };

	if (!ref_parse(arena, text, &ref))
		fail_msg("'%s' is refused", text);
	return ref;
}

static void
same(const char *a, const char *b)
{
	if (b == NULL)
		assert_null(a);
	else
		assert_string_equal(a, b);
}

static void
names_as_people_write_them(void **state)
{
	static const struct {
		const char *text, *tenant, *owner, *name, *tag;
	} rows[] = {
		{ "alice", NULL, NULL, "alice", NULL },
		{ "alice@sales", "sales", NULL, "alice", NULL },
		{ "alice/desk", NULL, "alice", "desk", NULL },
		{ "alice@sales/desk", "sales", "alice", "desk", NULL },
		{ "xfce:default", NULL, "xfce", NULL, "default" },
		{ "xfce@sales:head", "sales", "xfce", NULL, "head" },
		{ "xfce/2026-11-23", NULL, "xfce", "2026-11-23", NULL },
		{ "7up", NULL, NULL, "7up", NULL },
	};
	struct arena *arena = arena_new(65536);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ref ref = parse(arena, rows[i].text);

		same(ref.tenant, rows[i].tenant);
		same(ref.owner, rows[i].owner);
		same(ref.name, rows[i].name);
		same(ref.tag, rows[i].tag);
	}
	arena_free(arena);
}

static void
no_names(void **state)
{
	static const char *const texts[] = { "", "@", "/", ":", "alice@",
		"@sales", "alice/", "/desk", "a/b/c", "a@b@c", "a b", "a'b",
		"alice@sa:les/desk", "-rf", "\xc3\xa9", "alice\n" };
	struct arena *arena = arena_new(65536);
	struct ref ref;
	char longer[200];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++)
		if (ref_parse(arena, texts[i], &ref))
			fail_msg("'%s' is taken for a name", texts[i]);
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_false(ref_parse(arena, longer, &ref));
	arena_free(arena);
}

static void
an_arena_that_is_full(void **state)
{
	struct arena *arena = arena_new(8);
	struct ref ref;

	assert_false(ref_parse(arena, "a-name-of-more-than-that", &ref));
	arena_free(arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_as_people_write_them),
		cmocka_unit_test(no_names),
		cmocka_unit_test(an_arena_that_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
