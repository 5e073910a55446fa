/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A directory of the test's own, made before its first case and removed with
 * all in it after the last: cmocka_run_group_tests(tests, test_dir_make,
 * test_dir_remove). Included by one file of a test program.
 */
#ifndef TEST_DIR_H
#define TEST_DIR_H

#include <stdlib.h>

#include "base/fs.h"
#include "test.h"

/* Its path, once it is made. */
static char dir[] = "/tmp/qvd-test.XXXXXX";

static int
test_dir_make(void **state)
{
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
test_dir_remove(void **state)
{
	struct err err;

	return fs_remove_tree(dir, &err);
}

#endif
