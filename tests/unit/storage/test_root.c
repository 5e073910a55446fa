/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test_dir.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "storage/storage.h"

static struct err err;

static void
slots_dont_overlap(void **state)
{
	int slot;

	assert_int_equal(storage_id_base(0), 100000);
	for (slot = 0; slot < STORAGE_SLOT_MAX; slot++)
		assert_int_equal(storage_id_base(slot) + STORAGE_ID_COUNT,
		    storage_id_base(slot + 1));
	/* What /etc/subuid gives to root ends here. */
	assert_true(storage_id_base(STORAGE_SLOT_MAX) + STORAGE_ID_COUNT <=
		    100000 + 65536000);
}

static void
missing_image_is_named(void **state)
{
	const struct storage_vm vm = { .data_dir = dir,
		.mnt_dir = dir,
		.vm_id = 1,
		.checksum = "0123456789abcdef",
		.userns_fd = -1 };

	_cleanup_(freep)
	char *vms = xasprintf("%s/vms", dir);

	assert_err(storage_root_mount(&vm, &err), IMAGE, "0123456789ab");
	assert_false(fs_exists(vms));
}

static void
cleaning_forgets_only_the_volatile(void **state)
{
	_cleanup_(freep)
	char *kept = xasprintf("%s/vms/1/abc/upper/f", dir);
	_cleanup_(freep)
	char *lost = xasprintf("%s/vms/1/volatile/upper/f", dir);
	bool removed;

	assert_ok(fs_mkdirs(kept, 0755, &err));
	assert_ok(fs_mkdirs(lost, 0755, &err));
	assert_ok(storage_root_clean(dir, 1, &removed, &err));
	assert_true(removed);
	assert_true(fs_exists(kept));
	assert_false(fs_exists(lost));
	assert_ok(storage_root_clean(dir, 1, &removed, &err));
	assert_false(removed);
}

static void
tells_what_cannot_be_written(void **state)
{
	assert_ok(storage_check_writable("/tmp", &err));
	assert_err(
	    storage_check_writable("/nowhere", &err), SYSTEM, "/nowhere");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_dont_overlap),
		cmocka_unit_test(missing_image_is_named),
		cmocka_unit_test(cleaning_forgets_only_the_volatile),
		cmocka_unit_test(tells_what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
