/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test_dir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "storage/disk.h"
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

#define COMMIT                             \
	"0123456789abcdef0123456789abcdef" \
	"0123456789abcdef0123456789abcdef"

/* What was last used in 1970. */
static void
make_old(const char *path)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Also when the last removal of the same was killed. */
static void
old_changes_are_collected(void **state)
{
	_cleanup_(freep)
	char *changes = xasprintf("%s/vms/2/" COMMIT, dir);
	_cleanup_(freep)
	char *inside = xasprintf("%s/upper/f", changes);
	_cleanup_(freep)
	char *half = xasprintf("%s.old", changes);
	_cleanup_(freep)
	char *half_inside = xasprintf("%s/upper/f", half);
	int removed;

	assert_ok(fs_mkdirs(inside, 0755, &err));
	assert_ok(storage_root_collect(dir, 2, "", 60000, &removed, &err));
	assert_int_equal(removed, 0);
	make_old(changes);
	assert_ok(storage_root_collect(dir, 2, COMMIT, 60000, &removed, &err));
	assert_int_equal(removed, 0);
	assert_ok(fs_mkdirs(half_inside, 0755, &err));
	assert_ok(storage_root_collect(dir, 2, "", 60000, &removed, &err));
	assert_true(removed > 0);
	assert_false(fs_exists(changes));
	assert_false(fs_exists(half));
}

/* A start counts as use, whatever is written into the disk later. */
static void
machines_changes_are_used_by_a_start(void **state)
{
	const struct storage_disk_vm vm = { .data_dir = dir,
		.vm_id = 3,
		.checksum = COMMIT,
		.uid = geteuid() };
	const struct storage_disk base = { .format = "raw", .bytes = 4096 };
	_cleanup_(freep)
	char *changes = storage_disk_dir(&vm);
	_cleanup_(freep)
	char *disk = xasprintf("%s/root.qcow2", changes);
	struct storage_disk root;
	int removed;

	assert_ok(fs_mkdirs(changes, 0700, &err));
	assert_ok(fs_write_file(disk, "x", 1, 0600, &err));
	make_old(changes);
	assert_ok(storage_disk_root(&vm, &base, &root, &err));
	close(root.fd);
	assert_ok(storage_root_collect(dir, 3, "", 60000, &removed, &err));
	assert_int_equal(removed, 0);
	assert_true(fs_exists(disk));
}

static void
pipe_is_no_disk(void **state)
{
	_cleanup_(freep)
	char *tree = xasprintf("%s/tree", dir);
	_cleanup_(freep)
	char *disk = xasprintf("%s/disk.raw", tree);
	struct storage_disk found;

	assert_ok(fs_mkdirs(tree, 0755, &err));
	assert_int_equal(mkfifo(disk, 0644), 0);
	assert_err(storage_disk_open(tree, &found, &err), IMAGE, "no disk");
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
		cmocka_unit_test(old_changes_are_collected),
		cmocka_unit_test(machines_changes_are_used_by_a_start),
		cmocka_unit_test(pipe_is_no_disk),
		cmocka_unit_test(tells_what_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
