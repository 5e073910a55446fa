/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/image_priv.h"

static struct err err;
static char dir[] = "/tmp/qvd-image.XXXXXX";

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
	struct image_count count = {
		.import = &import, .percent = -1, .to = 50
	};
	int i;

	calls = 0;
	last = -1;
	for (i = 0; i < 1000; i++)
		image_progress(&count, i / 500.0, "half");
	assert_int_equal(last, 50);
	count.from = 50;
	count.to = 96;
	image_progress(&count, 0, "again");
	for (i = 0; i < 1000; i++)
		image_progress(&count, (1000 - i) / 1000.0, "back");
	assert_int_equal(last, 96);
	assert_int_equal(calls, 52);
}

static void
temporary_files_of_the_dead_are_removed(void **state)
{
	struct image_tmp tmp, other;
	_cleanup_(freep)
	char *left = xasprintf("%s/images/tmp/import/left/over", dir);
	pid_t pid;
	int status;

	assert_ok(fs_mkdirs(left, 0755, &err));
	assert_ok(image_tmp_open(dir, "import", true, true, &tmp, &err));
	assert_false(fs_exists(left));
	assert_true(fs_exists(tmp.path));
	/* Another process neither waits nor takes it away. */
	if ((pid = fork()) == 0)
		_exit(image_tmp_open(dir, "import", false, false, &other,
			  &err) == -(int)ERR_CONFLICT
			  ? 0
			  : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_ok(image_tidy(dir, &err));
	assert_true(fs_exists(tmp.path));
	image_tmp_done(&tmp);
	assert_ok(image_tidy(dir, &err));
}

static int
prepare(const char *name, const char *hardlink, int type, char **ret)
{
	struct archive_entry *entry = archive_entry_new();
	struct image_count count = { 0 };
	int r;

	assert_ok(image_writer_enter(dir, &count, &err));
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, (unsigned)type);
	if (hardlink != NULL)
		archive_entry_set_hardlink(entry, hardlink);
	r = image_writer_prepare(entry, &count, &err);
	*ret = xstrdup(archive_entry_pathname(entry));
	archive_entry_free(entry);
	assert_int_equal(image_writer_leave(NULL), 0);
	return r;
}

static void
names_are_made_safe_or_refused(void **state)
{
	static const struct {
		const char *name, *hardlink, *expect; /* NULL: refused */
	} cases[] = {
		{ "a/b", NULL, "a/b" },
		{ "./a", NULL, "a" },
		{ "/a/b", NULL, "a/b" },
		{ "//.//./a", NULL, "a" },
		{ "./", NULL, "." },
		{ "/", NULL, "." },
		{ "a..b/..c", NULL, "a..b/..c" },
		{ "..", NULL, NULL },
		{ "a/..", NULL, NULL },
		{ "/../a", NULL, NULL },
		{ "a/../../b", NULL, NULL },
		{ "a", "b/../../c", NULL },
		{ "a", "/b", "a" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(freep)
		char *name = NULL;

		if (cases[i].expect == NULL) {
			assert_err(prepare(cases[i].name, cases[i].hardlink,
				       AE_IFREG, &name),
			    IMAGE, "leads outside");
			continue;
		}
		assert_int_equal(
		    prepare(cases[i].name, cases[i].hardlink, AE_IFREG, &name),
		    1);
		assert_string_equal(name, cases[i].expect);
	}
}

static void
devices_are_left_out(void **state)
{
	static const int types[] = { AE_IFBLK, AE_IFCHR, AE_IFIFO, AE_IFSOCK };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		_cleanup_(freep)
		char *name = NULL;

		assert_int_equal(prepare("dev/x", NULL, types[i], &name), 0);
	}
}

static void
never_writes_elsewhere(void **state)
{
	struct archive_entry *entry = archive_entry_new();
	struct image_count count = { 0 };

	assert_ok(image_writer_enter(dir, &count, &err));
	assert_int_equal(chdir("/"), 0);
	archive_entry_set_pathname(entry, "etc/passwd");
	archive_entry_set_filetype(entry, AE_IFREG);
	assert_err(image_writer_prepare(entry, &count, &err), INTERNAL,
	    "left its directory");
	archive_entry_free(entry);
}

static int
make_dir(void **state)
{
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_dir(void **state)
{
	return fs_remove_tree(dir, &err);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(progress_never_falls),
		cmocka_unit_test(temporary_files_of_the_dead_are_removed),
		cmocka_unit_test(names_are_made_safe_or_refused),
		cmocka_unit_test(devices_are_left_out),
		cmocka_unit_test(never_writes_elsewhere),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
