/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "hypervisor/cgroup.h"

static struct err err;

#define V1(name, opts)                      \
	"31 25 0:27 / /sys/fs/cgroup/" name \
	" rw,nosuid - cgroup cgroup rw," opts "\n"

static const char pure_v2[] =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "26 22 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
static const char hybrid[] = V1("cpu", "cpu") V1(
    "cpu,cpuacct", "cpuacct,net_cls") V1("memory", "memory") V1("pids", "pids")
    V1("systemd", "xattr,name=systemd") "40 25 0:36 / /sys/fs/cgroup/unified "
					"rw - cgroup2 cgroup2 rw\n"
					/* A part of a hierarchy, as in a
					   container, is not one. */
					"50 25 0:36 /some/where /mnt/part rw - "
					"cgroup2 cgroup2 rw\n";

static const char *
root_of(const struct cgroup *cg, const char *controller)
{
	const struct cgroup_root *root = cgroup_controller(cg, controller);

	return root == NULL ? "none" : root->path;
}

static void
finds_pure_v2(void **state)
{
	struct cgroup cg;
	_cleanup_(freep)
	char *name = NULL;

	assert_ok(cgroup_parse(&cg, "qvd", pure_v2, "0::/init.scope\n", &err));
	assert_int_equal(cg.n_roots, 1);
	assert_string_equal(cg.roots[cg.unified].path, "/sys/fs/cgroup/qvd");
	name = cgroup_name(&cg, CGROUP_MON, 12);
	assert_string_equal(name, "qvd/mon/12");
	cgroup_done(&cg);
	/* In a container PID 1 is somewhere below. */
	assert_ok(
	    cgroup_parse(&cg, "a/b", pure_v2, "0::/box/7/init.scope\n", &err));
	assert_string_equal(cg.roots[0].path, "/sys/fs/cgroup/box/7/a/b");
	cgroup_done(&cg);
}

static void
finds_hybrid(void **state)
{
	static const char init[] =
	    "6:name=systemd:/init.scope\n5:pids:/\n4:memory:/mem\n"
	    "3:cpuacct,net_cls:/acct\n1:cpu:/cpu\n0::/\n";
	struct cgroup cg;

	assert_ok(cgroup_parse(&cg, "qvd", hybrid, init, &err));
	assert_int_equal(cg.n_roots, 6);
	assert_string_equal(
	    cg.roots[cg.unified].path, "/sys/fs/cgroup/unified/qvd");
	assert_string_equal(
	    root_of(&cg, "memory"), "/sys/fs/cgroup/memory/mem/qvd");
	assert_string_equal(root_of(&cg, "cpu"), "/sys/fs/cgroup/cpu/cpu/qvd");
	assert_string_equal(
	    root_of(&cg, "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct/acct/qvd");
	assert_string_equal(root_of(&cg, "pids"), "/sys/fs/cgroup/pids/qvd");
	assert_string_equal(root_of(&cg, "io"), "none");
	cgroup_done(&cg);
}

static void
needs_the_unified_hierarchy(void **state)
{
	struct cgroup cg;

	assert_err(cgroup_parse(&cg, "qvd", V1("memory", "memory"),
		       "1:memory:/\n", &err),
	    CONFIG, "cgroup2");
	assert_err(cgroup_parse(&cg, "qvd", "", "", &err), CONFIG, "cgroup2");
	assert_err(
	    cgroup_parse(&cg, "qvd", "x\n1 2 3\n - cgroup2\n", "::\n:", &err),
	    CONFIG, "cgroup2");
}

static void
nothing_of_an_unknown_vm(void **state)
{
	struct cgroup cg;
	bool removed;
	char text[16];

	assert_ok(cgroup_parse(&cg, "no-such-farm",
	    "26 22 0:23 / /nowhere rw - cgroup2 cgroup2 rw\n", "0::/\n", &err));
	assert_false(cgroup_exists(&cg, CGROUP_CT, 1));
	assert_false(cgroup_populated(&cg, CGROUP_CT, 1));
	assert_int_equal(cgroup_first_pid(&cg, CGROUP_CT, 1), -1);
	assert_true(cgroup_wait_empty(&cg, CGROUP_CT, 1, 10000));
	assert_ok(cgroup_kill(&cg, CGROUP_CT, 1, &err));
	assert_ok(cgroup_remove(&cg, CGROUP_CT, 1, &removed, &err));
	assert_false(removed);
	assert_false(cgroup_read(
	    &cg, "memory", CGROUP_CT, 1, "memory.max", text, sizeof(text)));
	cgroup_done(&cg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_pure_v2),
		cmocka_unit_test(finds_hybrid),
		cmocka_unit_test(needs_the_unified_hierarchy),
		cmocka_unit_test(nothing_of_an_unknown_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
