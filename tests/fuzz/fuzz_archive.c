/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A tar as an image's source: once as a whole root file system, once as an
 * OCI layer with its whiteouts. Whatever it holds, the tree that is made of it
 * has only names that can be names, no deeper and no larger than allowed.
 */
#include <archive.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz_store.h"
#include "image/image_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TREE_BYTES ((uint64_t)1024 * 1024) /* a bomb is one early */

static void
check_names(OstreeMutableTree *dir, int depth)
{
	GHashTable *tables[] = { ostree_mutable_tree_get_files(dir),
		ostree_mutable_tree_get_subdirs(dir) };
	GHashTableIter it;
	gpointer name, value;
	size_t i;

	if (depth > IMAGE_DEPTH_MAX)
		abort();
	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		g_hash_table_iter_init(&it, tables[i]);
		while (g_hash_table_iter_next(&it, &name, &value)) {
			const char *n = name;

			if (n[0] == '\0' || strchr(n, '/') != NULL ||
			    strcmp(n, ".") == 0 || strcmp(n, "..") == 0 ||
			    !g_utf8_validate(n, -1, NULL))
				abort();
			if (i == 1)
				check_names(value, depth + 1);
		}
	}
}

static int
pass(struct image_tree *tree, int fd, enum image_pass which, struct err *err)
{
	struct archive *in;
	int r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		abort();
	if ((in = image_archive_open(fd, "input", err)) == NULL)
		return -(int)err->code;
	r = image_archive_add(tree, in, which, "input", 0, 0, err);
	archive_read_free(in);
	return r;
}

static void
import(OstreeRepo *repo, int fd, bool layered)
{
	const struct image_import import = { .login = "" };
	struct image_tree tree;
	struct err err = { 0 };
	GFile *root = NULL;
	int r = 0;

	if (!ostree_repo_prepare_transaction(repo, NULL, NULL, NULL) ||
	    image_tree_init(&tree, repo, &import, &err) < 0)
		abort();
	tree.layered = layered;
	tree.bytes_max = TREE_BYTES;
	if (layered)
		r = pass(&tree, fd, IMAGE_PASS_WHITEOUTS, &err);
	if (r == 0)
		r = pass(&tree, fd, layered ? IMAGE_PASS_FILES : IMAGE_PASS_ALL,
		    &err);
	if (r < 0 && err.msg[0] == '\0')
		abort();
	check_names(tree.root, 0);
	if (tree.bytes > TREE_BYTES)
		abort();
	/* libostree takes what we took. */
	if (r == 0 && tree.entries > 1 &&
	    image_tree_write(&tree, &root, &err) < 0)
		abort();
	g_clear_object(&root);
	image_tree_done(&tree);
	ostree_repo_abort_transaction(repo, NULL, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	OstreeRepo *repo = fuzz_store_repo();
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	import(repo, fd, false);
	import(repo, fd, true);
	close(fd);
	return 0;
}
