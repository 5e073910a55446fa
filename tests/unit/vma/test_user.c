/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "vma/home.h"
#include "vma/user.h"

static char etc[64];

static const struct request_user alice = { .name = "alice",
	.uid = 2000,
	.full_name = "Alice",
	.shell = "/bin/sh",
	.groups = "[\"audio\", \"nix\", \"tape\"]" };

static void
put(const char *name, const char *text, mode_t mode)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", etc, name);

	assert_int_equal(
	    fs_write_file(path, text, strlen(text), mode, NULL), 0);
}

static void
check(const char *name, const char *want)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", etc, name);
	_cleanup_(freep)
	char *text = NULL;

	assert_int_equal(fs_read_file(path, 65536, &text, NULL, NULL), 0);
	assert_string_equal(text, want);
}

static int
set_up(void **state)
{
	snprintf(etc, sizeof(etc), "/tmp/qvd-test-user.XXXXXX");
	if (mkdtemp(etc) == NULL)
		return -1;
	put("passwd", "root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:", 0644);
	put("group", "root:x:0:\naudio:x:29:bob\ntape:x:26:\nlast:x:99:z",
	    0644);
	put("shadow", "root:*:19000:0:99999:7:::\n", 0640);
	return 0;
}

static int
tear_down(void **state)
{
	return fs_remove_tree(etc, NULL);
}

static void
adds_a_user(void **state)
{
	_cleanup_(freep)
	char *missing = NULL;
	_cleanup_(freep)
	char *shadow = xasprintf("%s/shadow", etc);
	struct user_account a;
	struct err err = { 0 };
	struct stat st;

	assert_int_equal(user_find(etc, &alice, &a, &err), 0);
	assert_int_equal(user_add(etc, &alice, "/home", &err), 0);
	assert_int_equal(user_join(etc, &alice, &missing, &err), 0);
	assert_string_equal(missing, "nix");
	assert_int_equal(user_find(etc, &alice, &a, &err), 1);
	assert_int_equal(a.uid, 2000);
	assert_int_equal(a.gid, 2000);
	assert_string_equal(a.home, "/home/alice");
	assert_string_equal(a.shell, "/bin/sh");
	assert_int_equal(a.n_groups, 3);
	assert_int_equal(a.groups[0], 2000);
	check("passwd", "root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:\n"
			"alice:x:2000:2000:Alice:/home/alice:/bin/sh\n");
	check("group",
	    "root:x:0:\naudio:x:29:bob,alice\ntape:x:26:alice\nlast:x:99:z\n"
	    "alice:x:2000:\n");
	assert_int_equal(stat(shadow, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void
joins_a_group_once(void **state)
{
	char *missing;
	struct err err = { 0 };

	assert_int_equal(user_join(etc, &alice, &missing, &err), 0);
	free(missing);
	assert_int_equal(user_join(etc, &alice, &missing, &err), 0);
	free(missing);
	check("group",
	    "root:x:0:\naudio:x:29:bob,alice\ntape:x:26:alice\nlast:x:99:z\n");
}

static void
nobody_gets_anothers_account(void **state)
{
	const struct request_user same_name = { .name = "bin", .uid = 2000 };
	const struct request_user same_uid = { .name = "eve", .uid = 2 };
	const struct request_user roots_group = {
		.name = "eve", .uid = 2001, .group = "root"
	};
	struct user_account a;
	struct err err = { 0 };

	assert_int_equal(user_find(etc, &same_name, &a, &err), -ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "'bin'"));
	assert_int_equal(user_find(etc, &same_uid, &a, &err), -ERR_CONFLICT);
	assert_int_equal(
	    user_add(etc, &roots_group, "/home", &err), -ERR_FORBIDDEN);
	check("passwd", "root:x:0:0:root:/root:/bin/sh\nbin:x:2:2::/bin:");
}

static void
takes_another_gid_when_it_is_taken(void **state)
{
	const struct request_user eve = { .name = "eve", .uid = 99 };
	struct user_account a;
	struct err err = { 0 };

	assert_int_equal(user_add(etc, &eve, "/home", &err), 0);
	assert_int_equal(user_find(etc, &eve, &a, &err), 1);
	assert_int_equal(a.gid, 100);
}

static void
makes_a_home_once(void **state)
{
	struct user_account a = {
		.name = "me", .uid = getuid(), .gid = getgid()
	};
	_cleanup_(freep)
	char *skel = xasprintf("%s/skel", etc);
	_cleanup_(freep)
	char *sub = xasprintf("%s/skel/.config", etc);
	_cleanup_(freep)
	char *link = xasprintf("%s/skel/link", etc);
	_cleanup_(freep)
	char *copy = NULL;
	struct err err = { 0 };
	struct stat st;
	char target[32];

	snprintf(a.home, sizeof(a.home), "%s/homes/me", etc);
	assert_int_equal(fs_mkdirs(sub, 0750, NULL), 0);
	put("skel/.config/x", "text", 0600);
	assert_int_equal(symlink("/etc/shadow", link), 0);
	assert_int_equal(home_make(&a, skel, &err), 1);
	copy = xasprintf("%s/.config/x", a.home);
	assert_int_equal(stat(a.home, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(copy, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	free(copy);
	copy = xasprintf("%s/link", a.home);
	assert_int_equal(readlink(copy, target, sizeof(target)), 11);
	assert_int_equal(unlink(copy), 0);
	assert_int_equal(home_make(&a, skel, &err), 0);
	assert_int_equal(lstat(copy, &st), -1);
}

static void
leaves_anothers_home_alone(void **state)
{
	struct user_account a = { .name = "me", .uid = 12345, .gid = 12345 };
	_cleanup_(freep)
	char *real = xasprintf("%s/homes/real", etc);
	struct err err = { 0 };

	assert_int_equal(fs_mkdirs(real, 0755, NULL), 0);
	snprintf(a.home, sizeof(a.home), "%s", real);
	assert_int_equal(home_make(&a, "/nowhere", &err), -ERR_CONFLICT);
	snprintf(a.home, sizeof(a.home), "%s/homes/link", etc);
	assert_int_equal(symlink(real, a.home), 0);
	assert_int_equal(home_make(&a, "/nowhere", &err), -ERR_CONFLICT);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(adds_a_user),
		T(joins_a_group_once),
		T(nobody_gets_anothers_account),
		T(takes_another_gid_when_it_is_taken),
		T(makes_a_home_once),
		T(leaves_anothers_home_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
