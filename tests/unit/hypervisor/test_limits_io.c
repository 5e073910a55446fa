/* SPDX-License-Identifier: GPL-3.0-or-later */
/* On files that stand in for a kernel's, which differ from node to node. */
#include "test.h"

#include <string.h>

#include "hypervisor/hv_priv.h"
#include "test_dir.h"

static struct err err;
static const struct hv_node strict, optional = { .limits_optional = true };

/* A host with cgroup v2 alone, whose VM 7 has these files. */
static void
begin(struct hv_op *op, struct hv_vm *vm, int32_t weight, const char *cost,
    const char *bfq)
{
	_cleanup_(freep)
	char *mounts =
	    xasprintf("26 22 0:23 / %s rw - cgroup2 cgroup2 rw\n", dir);
	const struct {
		const char *name, *text;
	} files[] = { { "cgroup.controllers", "cpu io memory pids\n" },
		{ "qvd/ct/7/io.weight", cost },
		{ "qvd/ct/7/io.bfq.weight", bfq } };
	_cleanup_(freep)
	char *group = xasprintf("%s/qvd/ct/7", dir);
	size_t i;

	assert_ok(fs_remove_tree(group, &err));
	assert_ok(fs_mkdirs(group, 0755, &err));
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(freep)
		char *path = xasprintf("%s/%s", dir, files[i].name);

		if (files[i].text != NULL)
			assert_ok(fs_write_file(path, files[i].text,
			    strlen(files[i].text), 0644, &err));
	}
	*vm = (struct hv_vm){ .vm_id = 7, .io_weight = weight };
	*op = (struct hv_op){ .node = &strict, .vm = vm, .vm_id = 7 };
	assert_ok(cgroup_parse(&op->cg, "qvd", mounts, "0::/\n", &err));
}

static void
weighs_by_all_that_there_is(void **state)
{
	struct hv_op op;
	struct hv_vm vm;
	char text[64];

	begin(&op, &vm, 5000, "100", "100");
	assert_ok(hv_io_weigh(&op, &err));
	assert_int_equal(hv_io_weight_read(&op), 5000);
	/* What bfq knows ends earlier. */
	assert_true(cgroup_read(
	    &op.cg, "io", CGROUP_CT, 7, "io.bfq.weight", text, sizeof(text)));
	assert_string_equal(text, "1000");
	cgroup_done(&op.cg);

	begin(&op, &vm, 250, NULL, "100");
	assert_ok(hv_io_weigh(&op, &err));
	assert_int_equal(hv_io_weight_read(&op), 250);
	cgroup_done(&op.cg);
}

static void
reads_a_disks_own_weights_aside(void **state)
{
	struct hv_op op;
	struct hv_vm vm;

	begin(&op, &vm, 100, "default 100\n8:0 300\n", NULL);
	assert_ok(hv_io_weigh(&op, &err));
	assert_int_equal(hv_io_weight_read(&op), 100);
	cgroup_done(&op.cg);
}

static void
says_what_is_missing(void **state)
{
	struct hv_op op;
	struct hv_vm vm;

	begin(&op, &vm, 100, NULL, NULL);
	assert_ok(hv_io_weigh(&op, &err));
	assert_int_equal(hv_io_weight_read(&op), -1);
	vm.io_weight = 250;
	assert_err(hv_io_weigh(&op, &err), CONFIG, "modprobe bfq");
	op.node = &optional;
	assert_ok(hv_io_weigh(&op, &err));
	cgroup_done(&op.cg);
}

static void
sees_that_it_was_not_taken(void **state)
{
	struct hv_op op;
	struct hv_vm vm;

	/* "250" over the beginning of it. */
	begin(&op, &vm, 250, "1000", NULL);
	assert_err(hv_io_weigh(&op, &err), VM_START, "not the 250");
	cgroup_done(&op.cg);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weighs_by_all_that_there_is),
		cmocka_unit_test(reads_a_disks_own_weights_aside),
		cmocka_unit_test(says_what_is_missing),
		cmocka_unit_test(sees_that_it_was_not_taken),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
