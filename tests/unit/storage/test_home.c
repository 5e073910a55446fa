/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What of homes needs no mount: names, choices, copies, programs. */
#include "test_dir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "storage/copy.h"
#include "storage/home.h"
#include "storage/tool.h"

static struct err err;

static char *
in_dir(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static void
sparse_copies_stay_sparse(void **state)
{
	_cleanup_(freep)
	char *from = in_dir("from");
	_cleanup_(freep)
	char *to = in_dir("to");
	const off_t size = 64 << 20, at = 40 << 20;
	char buf[6] = "";
	struct stat st;
	int fd = open(from, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0 && ftruncate(fd, size) == 0);
	assert_int_equal(pwrite(fd, "hello", 5, at), 5);
	close(fd);
	assert_ok(copy_file(from, to, false, &err));
	assert_int_equal(stat(to, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_true(st.st_blocks * 512 < 1 << 20);
	fd = open(to, O_RDONLY);
	assert_int_equal(pread(fd, buf, 5, at), 5);
	assert_string_equal(buf, "hello");
	close(fd);
	/* What is there is never written over. */
	assert_err(copy_file(from, to, false, &err), SYSTEM, "exists");
	unlink(to);
	/* Not even half a copy is left. */
	assert_err(copy_file(dir, to, false, &err), SYSTEM, dir);
	assert_false(fs_exists(to));
}

static void
programs_say_why(void **state)
{
	const char *ok[] = { "/bin/true", NULL };
	const char *no[] = { "/bin/sh", "-c", "echo 'too bad' >&2; exit 3",
		NULL };
	const char *much[] = { "/bin/sh", "-c",
		"i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); "
		"done; echo the end; exit 1",
		NULL };
	const char *paths[] = { "/nonexistent/x", "/bin/sh", NULL };
	const char *none[] = { "/nonexistent/x", NULL };

	assert_ok(tool_run(ok, 0, &err));
	assert_err(tool_run(no, 0, &err), SYSTEM, "too bad");
	assert_err(tool_run(no, 2, &err), SYSTEM, "/bin/sh failed");
	assert_ok(tool_run(no, 3, &err));
	assert_err(tool_run(much, 0, &err), SYSTEM, "the end");
	assert_err(tool_run(none, 0, &err), SYSTEM, "doesn't say why");
	assert_string_equal(tool_find(paths), "/bin/sh");
	assert_null(tool_find(none));
}

static void
nothing_is_done_to_what_is_not_there(void **state)
{
	const struct home h = { .data_dir = dir, .vm_id = 7, .size_mb = 40 };
	struct home_info info;

	assert_err(home_look(&h, -1, &info, &err), NOT_FOUND, "VM 7");
	assert_err(home_grow(&h, -1, &info, &err), NOT_FOUND, "VM 7");
	assert_err(home_snapshot(&h, "a", -1, &err), NOT_FOUND, "VM 7");
	assert_err(home_restore(&h, "a", &err), NOT_FOUND, "VM 7");
	assert_err(home_convert(&h, dir, &err), NOT_FOUND, "VM 7");
}

static void
names_stay_in_their_folder(void **state)
{
	static const char *const bad[] = { "", ".", "..", "../x", "a/b", ".x",
		"x.new", "x.img", "\xff", "a b" };
	const struct home h = { .data_dir = dir, .vm_id = 7 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_err(
		    home_snapshot(&h, bad[i], -1, &err), PARAMETER, "name");
		assert_err(home_restore(&h, bad[i], &err), PARAMETER, "name");
		assert_err(home_forget(&h, bad[i], &err), PARAMETER, "name");
	}
}

static void
directories_have_no_limit(void **state)
{
	struct home h = { .data_dir = dir, .vm_id = 8, .size_mb = 40 };
	_cleanup_(freep)
	char *volume = in_dir("homes/8");
	struct home_info info = { 0 };

	assert_ok(fs_mkdirs(volume, 0755, &err));
	assert_ok(home_look(&h, -1, &info, &err));
	assert_int_equal(info.store, HOME_STORE_DIRECTORY);
	assert_int_equal(info.used_mb, -1);
	assert_err(home_grow(&h, -1, &info, &err), CONFLICT, "convert");
	assert_err(home_snapshot(&h, "a", -1, &err), CONFLICT, "convert");
	/* Refused before anything is mounted. */
	assert_err(home_mount(&h, dir, &info, &err), CONFIG, "convert");
	h.vm_id = 9;
	h.store = HOME_STORE_DIRECTORY;
	assert_err(home_mount(&h, dir, &info, &err), CONFIG, "has no limit");
	h.store = HOME_STORE_IMAGE;
	h.size_mb = 0;
	assert_err(home_mount(&h, dir, &info, &err), CONFIG, "needs a size");
}

static void
what_is_no_file_system_is_not_mounted(void **state)
{
	const struct home h = { .data_dir = dir, .vm_id = 10, .size_mb = 40 };
	_cleanup_(freep)
	char *file = in_dir("homes/10.img");
	struct home_info info = { 0 };

	assert_ok(fs_write_file(file, "no", 2, 0600, &err));
	assert_err(home_look(&h, -1, &info, &err), SYSTEM, "no ext4");
	assert_err(home_mount(&h, dir, &info, &err), SYSTEM, "no ext4");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sparse_copies_stay_sparse),
		cmocka_unit_test(programs_say_why),
		cmocka_unit_test(nothing_is_done_to_what_is_not_there),
		cmocka_unit_test(names_stay_in_their_folder),
		cmocka_unit_test(directories_have_no_limit),
		cmocka_unit_test(what_is_no_file_system_is_not_mounted),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
