/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/arena.h"
#include "confine/confine.h"
#include "hypervisor/hv.h"
#include "json/json.h"

_Static_assert(HV_VM_ID_MAX == CONFINE_ID_MAX, "one limit on ids");

static struct err err;

static void
knows_host_names(void **state)
{
	static const char *const good[] = { "a", "vm-7", "alice.desktop", "7up",
		"A-B.c" };
	static const char *const bad[] = { "", "-a", "a-", ".a", "a.", "a..b",
		"a b", "a/b", "a_b", "\xc3\xa4",
		"0123456789012345678901234567890123456789012345678901234567"
		"890123" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(hv_is_hostname(good[i]));
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(hv_is_hostname(bad[i]));
}

static void
knows_checksums_and_ids(void **state)
{
	static const char sum[] = "0123456789abcdef0123456789abcdef"
				  "0123456789abcdef0123456789abcdef";

	assert_true(hv_is_checksum(sum));
	assert_false(hv_is_checksum(sum + 1));
	assert_false(hv_is_checksum("../../../../../../../../../../../../../"
				    "../../../../../../../etc"));
	assert_false(hv_is_vm_id(0));
	assert_false(hv_is_vm_id(-1));
	assert_true(hv_is_vm_id(HV_VM_ID_MAX));
	assert_false(hv_is_vm_id(HV_VM_ID_MAX + 1LL));
}

static void
checks_the_node(void **state)
{
	struct hv_node node = { .run_dir = "/run/qvd",
		.data_dir = "/var/lib/qvd",
		.programs_dir = "/usr/lib/qvd",
		.cgroup = "qvd.slice/vms" };
	static const char *const runs[] = { "run", "/run/a b", "/run/../etc",
		"/run/..", "/run/a,b", "/run/a:b", "/run/a\nb", "" };
	static const char *const cgroups[] = { "", "/qvd", "../qvd", "a/../b",
		"a b" };
	size_t i;

	assert_ok(hv_node_check(&node, &err));
	for (i = 0; i < ARRAY_SIZE(runs); i++) {
		struct hv_node bad = node;

		bad.run_dir = runs[i];
		assert_err(hv_node_check(&bad, &err), CONFIG, "[paths] run");
	}
	for (i = 0; i < ARRAY_SIZE(cgroups); i++) {
		struct hv_node bad = node;

		bad.cgroup = cgroups[i];
		assert_err(hv_node_check(&bad, &err), CONFIG, "cgroup");
	}
}

static void
survives_the_way_to_the_process(void **state)
{
	struct arena *arena = arena_new(64 * 1024);
	const struct hv_vm vm = { .vm_id = 7,
		.epoch = 3,
		.hostname = "vm7",
		.checksum = "aa",
		.is_volatile = true,
		.address = "10.0.0.7",
		.idmap_slot = 5,
		.memory_mb = 512,
		.swap_mb = 256,
		.cpu_percent = 150,
		.cpu_weight = 50,
		.io_weight = 70,
		.pids_max = 100,
		.home_mb = 1000 };
	struct hv_vm back = { 0 };
	json_t *json = json_encode(hv_vm_fields, &vm), *again;

	assert_ok(json_decode(json, hv_vm_fields, &back, arena, NULL, &err));
	again = json_encode(hv_vm_fields, &back);
	assert_true(json_equal(json, again));
	assert_int_equal(back.memory_mb, 512);
	assert_true(back.is_volatile);
	json_decref(json);
	json_decref(again);
	arena_free(arena);
}

static void
phases_are_bounded(void **state)
{
	struct hv_run run = { .pidfd = -1 };
	int64_t since = 0;
	int i;

	for (i = 0; i < HV_PHASES_MAX + 3; i++)
		hv_phase(&run, "x", &since);
	assert_int_equal(run.n_phases, HV_PHASES_MAX);
	assert_true(run.phases[1].us >= 0 && run.phases[1].us < 1000000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_host_names),
		cmocka_unit_test(knows_checksums_and_ids),
		cmocka_unit_test(checks_the_node),
		cmocka_unit_test(survives_the_way_to_the_process),
		cmocka_unit_test(phases_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
