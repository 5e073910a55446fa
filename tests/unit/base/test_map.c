/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/map.h"

static char values[5000];

static void
numbers(void **state)
{
	struct map m;

	map_init(&m);
	assert_null(map_get(&m, 0));
	assert_null(map_del(&m, 0));
	for (uint64_t i = 0; i < 5000; i++)
		assert_null(map_set(&m, i << 32, &values[i]));
	assert_int_equal(map_count(&m), 5000);
	for (uint64_t i = 0; i < 5000; i++)
		assert_ptr_equal(map_get(&m, i << 32), &values[i]);
	assert_ptr_equal(map_set(&m, 0, &values[1]), &values[0]);
	assert_int_equal(map_count(&m), 5000);
	for (uint64_t i = 0; i < 5000; i += 2)
		assert_non_null(map_del(&m, i << 32));
	assert_int_equal(map_count(&m), 2500);
	assert_null(map_get(&m, UINT64_C(2) << 32));
	assert_ptr_equal(map_get(&m, UINT64_C(3) << 32), &values[3]);
	assert_null(map_get(&m, UINT64_MAX));
	map_done(&m);
	assert_int_equal(map_count(&m), 0);
}

static void
comes_and_goes_without_growing(void **state)
{
	struct map m;

	map_init(&m);
	for (uint64_t i = 0; i < 200000; i++) {
		map_set(&m, i, &values[i % 5000]);
		if (i >= 100)
			assert_ptr_equal(
			    map_del(&m, i - 100), &values[(i - 100) % 5000]);
	}
	assert_int_equal(map_count(&m), 100);
	assert_true(m.cap <= 1024);
	map_done(&m);
}

static void
strings(void **state)
{
	struct map m;
	char key[32];

	map_init_str(&m);
	for (int i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		assert_null(map_set_str(&m, key, &values[i]));
	}
	memset(key, 'x', 5); /* the map has copies */
	assert_ptr_equal(map_get_str(&m, "key 999"), &values[999]);
	assert_null(map_get_str(&m, "key 1000"));
	assert_ptr_equal(map_set_str(&m, "key 7", &values[0]), &values[7]);
	assert_ptr_equal(map_del_str(&m, "key 7"), &values[0]);
	assert_null(map_del_str(&m, "key 7"));
	assert_null(map_set_str(&m, "", &values[3]));
	assert_ptr_equal(map_get_str(&m, ""), &values[3]);
	map_done(&m);
}

static void
walks_while_deleting(void **state)
{
	struct map m;
	char *v;
	int n = 0;

	map_init(&m);
	for (uint64_t i = 0; i < 100; i++)
		map_set(&m, i, &values[i]);
	MAP_EACH (&m, v) {
		n++;
		assert_ptr_equal(map_del(&m, (uint64_t)(v - values)), v);
	}
	assert_int_equal(n, 100);
	assert_int_equal(map_count(&m), 0);
	map_done(&m);
}

struct item {
	int n;
	struct list link;
};

static void
lists(void **state)
{
	struct item items[4] = { { .n = 0 }, { .n = 1 }, { .n = 2 },
		{ .n = 3 } };
	struct list a, b;
	struct item *it;
	int sum = 0;

	list_init(&a);
	list_init(&b);
	assert_null(list_first(&a, struct item, link));
	for (int i = 0; i < 4; i++)
		list_add(&a, &items[i].link);
	list_move(&b, &items[1].link);
	assert_int_equal(list_first(&a, struct item, link)->n, 0);
	assert_int_equal(list_first(&b, struct item, link)->n, 1);
	LIST_EACH (&a, it, struct item, link) {
		sum = sum * 10 + it->n;
		list_del(&it->link);
		list_del(&it->link); /* harmless twice */
	}
	assert_int_equal(sum, 23);
	assert_true(list_empty(&a));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(comes_and_goes_without_growing),
		cmocka_unit_test(strings),
		cmocka_unit_test(walks_while_deleting),
		cmocka_unit_test(lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
