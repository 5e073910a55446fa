/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "image/image_priv.h"

static void
strip(const char *path, const char *login, const char *in, const char *out)
{
	_cleanup_(buf_done)
	struct buf text = BUF(4096);

	buf_append(&text, in, strlen(in));
	image_strip_account(&text, path, login);
	assert_int_equal(buf_len(&text), strlen(out));
	if (out[0] != '\0')
		assert_memory_equal(buf_head(&text), out, strlen(out));
}

static void
only_the_users_account_goes(void **state)
{
	strip("./etc/passwd", "alice",
	    "root:x:0:0::/root:/bin/sh\nalice:x:2000:2000::/home/alice:\n"
	    "alice2:x:2001:2001:alice:/:\n",
	    "root:x:0:0::/root:/bin/sh\nalice2:x:2001:2001:alice:/:\n");
	strip("etc/shadow", "alice",
	    "alice:!:1::::::\nbob:*:1::::::", "bob:*:1::::::\n");
	strip("etc/group", "alice",
	    "audio:x:29:pulse,alice\nvideo:x:44:alice\nalice:x:2000:\n"
	    "x:x:1:malice,alice,alicea\n",
	    "audio:x:29:pulse\nvideo:x:44:\nx:x:1:malice,alicea\n");
	strip("etc/passwd", "", "a\n", "a\n");
	strip("etc/group", "alice", "no colon\n\n", "no colon\n\n");
	strip("etc/group", "alice", "", "");
}

static void
what_passes_with_the_run(void **state)
{
	assert_true(image_is_passing("./tmp"));
	assert_true(image_is_passing("run"));
	assert_true(image_is_passing("./var/tmp"));
	assert_false(image_is_passing("./var"));
	assert_false(image_is_passing("./usr/run"));
	assert_false(image_is_passing("."));
	assert_true(image_is_of_run("./etc/machine-id"));
	assert_true(image_is_of_run("var/lib/dbus/machine-id"));
	assert_true(image_is_of_run("./run/x/y"));
	assert_false(image_is_of_run("./etc/machine-info"));
	assert_false(image_is_of_run("./usr/lib/qvd/qvd-vma"));
	assert_true(image_is_of_node("./usr/lib/qvd/qvd-vma"));
	assert_true(image_is_account_file("./etc/gshadow-"));
	assert_true(image_is_account_file("etc/subuid-"));
	assert_false(image_is_account_file("./usr/etc/passwd"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_users_account_goes),
		cmocka_unit_test(what_passes_with_the_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
