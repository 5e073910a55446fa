/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/mem.h"
#include "model/placement.h"

#define GIB (INT64_C(1) << 30)

static int64_t
choose(const struct placement_host *hosts, size_t n, int64_t last)
{
	const struct placement_need need = {
		.vm_id = 1, .memory_bytes = GIB, .last_host_id = last
	};
	struct err err = { 0 };
	int64_t id = 0;
	int r = placement_choose(&need, hosts, n, &id, &err);

	return r < 0 ? r : id;
}

#define HOST(id, mem, used, n_cpus, n_vms)                                  \
	{                                                                   \
		.host_id = (id), .state = HOST_RUNNING, .lease_ok = true,   \
		.memory_bytes = (mem)*GIB, .memory_used_bytes = (used)*GIB, \
		.cpus = (n_cpus), .vms = (n_vms)                            \
	}

static void
test_room(void **state)
{
	struct placement_host hosts[] = {
		HOST(1, 64, 32, 16, 10), HOST(2, 64, 8, 16, 10),
		HOST(3, 64, 8, 2, 10), /* memory, but no CPU */
	};

	assert_int_equal(choose(hosts, 3, 0), 2);
	/* The VM's own files are where it last ran. */
	assert_int_equal(choose(hosts, 3, 1), 1);
	/* Equal hosts: the lowest id, in whatever order they come. */
	hosts[0] = hosts[1];
	hosts[0].host_id = 9;
	assert_int_equal(choose(hosts, 3, 0), 2);
	/* Full everywhere: the least overcommitted. */
	hosts[0].memory_used_bytes = 80 * GIB;
	hosts[1].memory_used_bytes = 70 * GIB;
	assert_int_equal(choose(hosts, 2, 0), 2);
}

static void
test_who_takes(void **state)
{
	struct placement_host hosts[] = {
		HOST(1, 64, 0, 16, 0),
		HOST(2, 64, 60, 16, 0),
	};

	hosts[0].blocked = true;
	assert_int_equal(choose(hosts, 2, 1), 2);
	hosts[0].blocked = false;
	hosts[0].state = HOST_STOPPING;
	assert_int_equal(choose(hosts, 2, 1), 2);
	hosts[0].state = HOST_RUNNING;
	hosts[0].lease_ok = false;
	assert_int_equal(choose(hosts, 2, 1), 2);
}

static void
test_nobody(void **state)
{
	const struct placement_need need = { .vm_id = 12 };
	struct placement_host hosts[] = {
		HOST(1, 64, 0, 16, 0),
		HOST(2, 64, 0, 16, 0),
	};
	struct err err;
	int64_t id;

	hosts[0].blocked = true;
	hosts[1].state = HOST_LOST;
	assert_int_equal(
	    placement_choose(&need, hosts, 2, &id, &err), -ERR_UNAVAILABLE);
	assert_non_null(strstr(err.msg,
	    "Unable to start VM 12, can't assign to any host: 1 not running, "
	    "1 blocked"));
	assert_int_equal(
	    placement_choose(&need, hosts, 0, &id, &err), -ERR_UNAVAILABLE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_who_takes),
		cmocka_unit_test(test_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
