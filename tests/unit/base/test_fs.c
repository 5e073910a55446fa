/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"

static struct err err;

static char *
in_dir(const char *name)
{
	static char path[4][256];
	static int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static mode_t
mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void
writes_and_reads(void **state)
{
	_cleanup_(freep)
	char *text = NULL;
	char big[9000];
	size_t n;

	memset(big, 'b', sizeof(big));
	umask(077);
	assert_ok(fs_write_file(in_dir("f"), "a\0b", 3, 0644, &err));
	umask(022);
	assert_int_equal(mode_of(in_dir("f")), 0644);
	assert_ok(fs_read_file(in_dir("f"), 3, &text, &n, &err));
	assert_int_equal(n, 3);
	assert_memory_equal(text, "a\0b", 4);
	freep(&text);
	assert_err(fs_read_file(in_dir("f"), 2, &text, &n, &err), TOO_LARGE,
	    "longer than 2 bytes");
	assert_null(text);

	assert_ok(fs_write_file(in_dir("f"), big, sizeof(big), 0600, &err));
	assert_int_equal(mode_of(in_dir("f")), 0600);
	assert_ok(fs_read_file(in_dir("f"), 100000, &text, NULL, &err));
	assert_int_equal(strlen(text), sizeof(big));
	freep(&text);
	assert_ok(fs_write_file(in_dir("f"), "", 0, 0600, &err));
	assert_ok(fs_read_file(in_dir("f"), 0, &text, &n, &err));
	assert_string_equal(text, "");
	freep(&text);
	assert_ok(fs_read_file("/proc/self/status", 65536, &text, &n, &err));
	assert_true(n > 100);
}

static void
failures_name_the_path(void **state)
{
	char *text = NULL;

	assert_err(fs_read_file("/nonexistent/x", 10, &text, NULL, &err),
	    CONFIG, "read /nonexistent/x: No such file");
	assert_err(fs_read_file(dir, 10, &text, NULL, &err), SYSTEM, dir);
	assert_err(fs_write_file("/nonexistent/x", "", 0, 0600, &err), SYSTEM,
	    "write /nonexistent/x: No such file");
	/* The target is a directory: nothing of ours is left beside it. */
	assert_ok(fs_mkdirs(in_dir("w/d/e"), 0755, &err));
	assert_err(
	    fs_write_file(in_dir("w/d"), "x", 1, 0600, &err), SYSTEM, "w/d");
	assert_ok(fs_remove_tree(in_dir("w/d"), &err));
	assert_int_equal(rmdir(in_dir("w")), 0);
}

static void
makes_directories(void **state)
{
	umask(077);
	assert_ok(fs_mkdirs(in_dir("m/a/b/"), 0750, &err));
	umask(022);
	assert_int_equal(mode_of(in_dir("m/a/b")), 0750);
	assert_int_equal(mode_of(in_dir("m")), 0750);
	assert_ok(fs_mkdirs(in_dir("m/a"), 0700, &err));
	assert_int_equal(mode_of(in_dir("m/a")), 0750);
	assert_ok(fs_mkdirs("/", 0755, &err));
	assert_err(fs_mkdirs("", 0755, &err), SYSTEM, "make directory");
	assert_ok(fs_write_file(in_dir("m/file"), "", 0, 0600, &err));
	assert_err(fs_mkdirs(in_dir("m/file"), 0755, &err), SYSTEM,
	    "m/file: Not a directory");
	assert_err(fs_mkdirs(in_dir("m/file/x"), 0755, &err), SYSTEM,
	    "m/file: Not a directory");
}

static void
removes_trees_but_not_through_links(void **state)
{
	assert_ok(fs_mkdirs(in_dir("keep"), 0755, &err));
	assert_ok(fs_write_file(in_dir("keep/f"), "", 0, 0600, &err));
	assert_ok(fs_mkdirs(in_dir("t/a/b"), 0755, &err));
	assert_ok(fs_write_file(in_dir("t/a/f"), "", 0, 0, &err));
	assert_int_equal(symlink(in_dir("keep"), in_dir("t/a/link")), 0);
	assert_int_equal(symlink(in_dir("keep"), in_dir("link")), 0);
	assert_ok(fs_remove_tree(in_dir("t"), &err));
	assert_false(fs_exists(in_dir("t")));
	assert_ok(fs_remove_tree(in_dir("link"), &err));
	assert_true(fs_exists(in_dir("keep/f")));
	assert_ok(fs_remove_tree(in_dir("never was"), &err));
	assert_ok(fs_remove_tree(in_dir("keep/f"), &err));
	assert_false(fs_exists(in_dir("keep/f")));
	assert_int_equal(symlink("/nonexistent", in_dir("dangling")), 0);
	assert_true(fs_exists(in_dir("dangling")));
}

/* A desktop's user can nest directories deeper than descriptors, stack and
 * PATH_MAX allow. */
static void
removes_trees_of_any_depth(void **state)
{
	int fd, next, i;

	assert_ok(fs_mkdirs(in_dir("deep/.deep0"), 0755, &err));
	fd = open(in_dir("deep"), O_RDONLY | O_DIRECTORY);
	for (i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(fd, "dddddddd", 0755), 0);
		assert_int_equal(mkdirat(fd, "side", 0755), 0);
		next = openat(fd, "dddddddd", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_ok(fs_remove_tree(in_dir("deep"), &err));
	assert_false(fs_exists(in_dir("deep")));
}

struct walk {
	char names[64]; /* each followed by a comma */
	int answer;
};

static int
note_entry(const struct fs_entry *e, void *arg, struct err *unused)
{
	struct walk *w = arg;
	struct stat st;

	assert_int_equal(fstatat(e->dirfd, e->name, &st, 0), 0);
	assert_true(fs_exists(e->path));
	snprintf(w->names + strlen(w->names),
	    sizeof(w->names) - strlen(w->names), "%s,", e->name);
	return w->answer;
}

static void
walks_a_directory(void **state)
{
	struct walk w = { 0 };

	assert_ok(fs_mkdirs(in_dir("walk/.hidden"), 0755, &err));
	assert_ok(fs_mkdirs(in_dir("walk/b"), 0755, &err));
	assert_ok(fs_each_entry(in_dir("walk"), note_entry, &w, &err));
	assert_true(
	    str_eq(w.names, "b,.hidden,") || str_eq(w.names, ".hidden,b,"));
	/* A negative answer ends it. */
	w = (struct walk){ .answer = -7 };
	assert_int_equal(
	    fs_each_entry(in_dir("walk"), note_entry, &w, &err), -7);
	assert_true(str_eq(w.names, "b,") || str_eq(w.names, ".hidden,"));
	w = (struct walk){ 0 };
	assert_ok(fs_each_entry(in_dir("never was"), note_entry, &w, &err));
	assert_string_equal(w.names, "");
	assert_err(fs_each_entry(in_dir("f"), note_entry, &w, &err), SYSTEM,
	    "Not a directory");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_and_reads),
		cmocka_unit_test(failures_name_the_path),
		cmocka_unit_test(makes_directories),
		cmocka_unit_test(removes_trees_but_not_through_links),
		cmocka_unit_test(removes_trees_of_any_depth),
		cmocka_unit_test(walks_a_directory),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
