/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test_dir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/image_priv.h"

static struct err err;

static int calls, last;

static void
on_progress(int percent, const char *text, void *arg)
{
	assert_true(percent > last && percent <= 100);
	assert_true(text[0] != '\0');
	last = percent;
	calls++;
}

static void
progress_never_falls(void **state)
{
	const struct image_import import = { .progress = on_progress };
	struct image_tree tree = { .import = &import, .percent = -1 };
	int i;

	calls = 0;
	last = -1;
	for (i = 0; i < 1000; i++)
		image_progress(&tree, i / 500.0, 50, "half");
	assert_int_equal(last, 50);
	for (i = 0; i < 1000; i++)
		image_progress(&tree, (1000 - i) / 1000.0, 96, "back");
	assert_int_equal(last, 96);
	assert_int_equal(calls, 52);
}

static void
temporary_files_of_the_dead_are_removed(void **state)
{
	struct image_tmp tmp, other;
	_cleanup_(freep)
	char *left = xasprintf("%s/images/tmp/left/over", dir);
	_cleanup_(freep)
	char *staging = xasprintf("%s/images/repo/tmp/staging-x/8c", dir);
	pid_t pid;
	int status;

	assert_ok(fs_mkdirs(left, 0755, &err));
	assert_ok(fs_mkdirs(staging, 0755, &err));
	assert_ok(image_tmp_open(dir, true, true, &tmp, &err));
	assert_false(fs_exists(left));
	assert_true(fs_exists(tmp.path));
	/* Another process neither waits nor takes it away. */
	if ((pid = fork()) == 0)
		_exit(image_tmp_open(dir, false, false, &other, &err) ==
			      -(int)ERR_CONFLICT
			  ? 0
			  : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(image_tidy(dir, &err));
	assert_true(fs_exists(tmp.path));
	assert_false(fs_exists(staging));
	image_tmp_done(&tmp);
	assert_ok(image_tidy(dir, &err));
}

static ssize_t
read_x(void *buf, size_t size, void *arg, struct err *e)
{
	uint64_t *left = arg;
	size_t n = *left < size ? *left : size;

	memset(buf, 'x', n);
	*left -= n;
	return (ssize_t)n;
}

static int
add(struct image_tree *tree, const char *path, mode_t mode, uint64_t promised,
    uint64_t given)
{
	const struct image_entry entry = {
		.path = path, .mode = mode, .size = promised, .target = "/etc"
	};

	return image_tree_add(tree, &entry, read_x, &given, &err);
}

#define DIR_755  (S_IFDIR | 0755)
#define FILE_644 (S_IFREG | 0644)
#define LINK_777 (S_IFLNK | 0777)

static void
add_all(struct image_tree *tree)
{
	assert_ok(add(tree, "./", DIR_755, 0, 0));
	assert_ok(add(tree, "usr/lib", DIR_755, 0, 0));
	assert_ok(add(tree, "/usr//bin/./a", FILE_644 | 04000, 1000, 1000));
	assert_ok(add(tree, "etc/..b", FILE_644, 0, 0));
	assert_ok(add(tree, "link", LINK_777, 0, 0));
	assert_ok(image_tree_link(tree, "b", "etc/..b", &err));
	/* Each name of a program with more rights is in a place of them. */
	assert_ok(image_tree_link(tree, "opt/a", "./usr/bin/a", &err));
	assert_err(image_tree_link(tree, "home/a", "usr/bin/a", &err), IMAGE,
	    "'home/a', a program with more rights");
	assert_err(
	    image_tree_link(tree, "a", "opt/a", &err), IMAGE, "more rights");
	assert_int_equal(tree->bytes, 1000);

	assert_err(add(tree, "..", FILE_644, 0, 0), IMAGE, "leads outside");
	assert_err(add(tree, "a/../b", FILE_644, 0, 0), IMAGE, "outside");
	assert_err(add(tree, "/../b", DIR_755, 0, 0), IMAGE, "outside");
	assert_err(add(tree, "link/x", FILE_644, 0, 0), IMAGE, "link");
	assert_err(add(tree, "b/x", DIR_755, 0, 0), IMAGE, "link or a file");
	assert_err(add(tree, "usr", FILE_644, 0, 0), IMAGE, "usr");
	assert_err(add(tree, ".", FILE_644, 0, 0), IMAGE, "no name");
	assert_err(add(tree, "short", FILE_644, 100, 99), IMAGE, "shorter");
	assert_err(add(tree, "a\xff", FILE_644, 0, 0), IMAGE, "UTF-8");
	assert_err(
	    add(tree, "home/su", FILE_644 | 04000, 0, 0), IMAGE, "more rights");
	assert_err(add(tree, "/./home/su", FILE_644 | 02000, 0, 0), IMAGE,
	    "more rights");
	assert_err(
	    add(tree, "usr/su", FILE_644 | 04002, 0, 0), IMAGE, "may change");
	assert_err(add(tree, "huge", FILE_644, UINT64_MAX, 0), TOO_LARGE,
	    "larger than");
	assert_err(image_tree_link(tree, "c", "../x", &err), IMAGE, "outside");
	assert_err(image_tree_link(tree, "c", "usr", &err), IMAGE, "hard link");
	assert_err(
	    image_tree_link(tree, "c", "link/x", &err), IMAGE, "hard link");

	assert_ok(add(tree, "dev/sda", S_IFBLK | 0600, 0, 0));
	assert_ok(add(tree, "dev/null", S_IFCHR | 0600, 0, 0));
	assert_ok(add(tree, "run/fifo", S_IFIFO | 0600, 0, 0));
	assert_int_equal(tree->skipped, 3);
}

static void
trees_take_only_safe_names(void **state)
{
	const struct image_import import = { .source = "test", .login = "" };
	struct image_tree tree = { 0 };
	OstreeRepo *repo = NULL;
	GFile *root = NULL;

	if (geteuid() != 0)
		skip(); /* objects are owned by others */
	assert_ok(image_repo_open(dir, &repo, &err));
	assert_true(ostree_repo_prepare_transaction(repo, NULL, NULL, NULL));
	assert_ok(image_tree_init(&tree, repo, &import, &err));
	add_all(&tree);
	assert_ok(image_tree_write(&tree, &root, &err));
	g_object_unref(root);
	image_tree_done(&tree);

	assert_ok(image_tree_init(&tree, repo, &import, &err));
	assert_err(image_tree_write(&tree, &root, &err), IMAGE, "no files");
	tree.entries = IMAGE_ENTRIES_MAX;
	assert_err(add(&tree, "one-more", FILE_644, 0, 0), TOO_LARGE, "files");
	assert_err(image_tree_link(&tree, "b", "a", &err), TOO_LARGE, "files");
	image_tree_done(&tree);
	ostree_repo_abort_transaction(repo, NULL, NULL);
	g_object_unref(repo);
}

static void
exports_that_nobody_fetched_are_garbage(void **state)
{
	static const char *const names[] = { "/new.tar", "/old.tar",
		"/.left.tar.part", "/.busy.tar.part" };
	_cleanup_(freep)
	char *exports = xasprintf("%s/images/exports", dir);
	const struct timespec long_ago[2] = { { .tv_sec = 1 },
		{ .tv_sec = 1 } };
	struct image_garbage found = { .bytes = 0 };
	char *paths[ARRAY_SIZE(names)];
	int busy;
	size_t i;

	assert_ok(image_exports_collect(dir, false, &found, &err));
	assert_ok(fs_mkdirs(exports, 0700, &err));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		paths[i] = xasprintf("%s%s", exports, names[i]);
		assert_ok(fs_write_file(paths[i], "1234", 4, 0600, &err));
	}
	assert_ok(utimensat(AT_FDCWD, paths[1], long_ago, 0));
	busy = open(paths[3], O_RDONLY | O_CLOEXEC);
	assert_ok(flock(busy, LOCK_EX));
	assert_ok(image_exports_collect(dir, true, &found, &err));
	assert_int_equal(found.bytes, 8);
	assert_true(fs_exists(paths[1]) && fs_exists(paths[2]));
	assert_ok(image_exports_collect(dir, false, &found, &err));
	assert_true(fs_exists(paths[0]) && fs_exists(paths[3]));
	assert_false(fs_exists(paths[1]) || fs_exists(paths[2]));
	/* Its writer was killed. */
	close(busy);
	assert_ok(image_tidy(dir, &err));
	assert_false(fs_exists(paths[3]));
	for (i = 0; i < ARRAY_SIZE(names); i++)
		free(paths[i]);
}

static void
honest_archives_fit_the_budget(void **state)
{
	assert_true(image_budget(0) == IMAGE_RATIO_MIN);
	assert_true(image_budget(10 << 20) == (10 << 20) * UINT64_C(200));
	assert_true(image_budget(UINT64_MAX) == IMAGE_BYTES_MAX);
}

static void
xattrs_are_sorted_and_chosen(void **state)
{
	struct image_xattrs xattrs = { 0 };
	GVariant *v;
	char *printed;

	assert_null(image_xattrs_end(&xattrs));
	image_xattrs_add(&xattrs, "user.b", "1", 1);
	image_xattrs_add(&xattrs, "user.b", "2", 1);
	image_xattrs_add(&xattrs, "trusted.overlay.opaque", "y", 1);
	image_xattrs_add(&xattrs, "user.a", "", 0);
	v = image_xattrs_end(&xattrs);
	printed = g_variant_print(v, FALSE);
	assert_string_equal(printed, "[(b'user.a', []), (b'user.b', [0x32])]");
	g_free(printed);
	g_variant_unref(v);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(progress_never_falls),
		cmocka_unit_test(temporary_files_of_the_dead_are_removed),
		cmocka_unit_test(trees_take_only_safe_names),
		cmocka_unit_test(exports_that_nobody_fetched_are_garbage),
		cmocka_unit_test(honest_archives_fit_the_budget),
		cmocka_unit_test(xattrs_are_sorted_and_chosen),
	};

	return cmocka_run_group_tests(tests, test_dir_make, test_dir_remove);
}
