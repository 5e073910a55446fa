/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Checkouts: hard links to the repository's objects, made beside their final
 * place and renamed to it when complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "image/image_priv.h"

int
image_has_commit(OstreeRepo *repo, const char *checksum, struct err *err)
{
	OstreeRepoCommitState state = 0;
	GVariant *commit = NULL;
	GError *error = NULL;

	if (!ostree_repo_load_commit(repo, checksum, &commit, &state, &error))
		return image_gerr(err, ERR_IMAGE, error,
		    "image %.12s is not in this node's store", checksum);
	g_variant_unref(commit);
	if ((state & OSTREE_REPO_COMMIT_STATE_PARTIAL) != 0)
		return err_set(err, ERR_IMAGE,
		    "image %.12s is only in part in this node's store",
		    checksum);
	return 0;
}

static int
checkout_to(
    OstreeRepo *repo, const char *checksum, const char *path, struct err *err)
{
	OstreeRepoCheckoutAtOptions options = {
		.mode = OSTREE_REPO_CHECKOUT_MODE_NONE,
		.overwrite_mode = OSTREE_REPO_CHECKOUT_OVERWRITE_NONE,
		/* Links to one inode are limited (ext4: 65000), and empty
		 * files are all alike; they have no content to share. */
		.force_copy_zerosized = TRUE,
		.no_copy_fallback = TRUE,
	};
	_cleanup_(closep)
	int fd = -1;
	GError *error = NULL;

	if (!ostree_repo_checkout_at(
		repo, &options, AT_FDCWD, path, checksum, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "check out %.12s", checksum);
	/* The rename must not reach the disk before what it names. */
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "sync %s", path);
	return 0;
}

static char *
tree_path(const char *data_dir, const char *checksum)
{
	return xasprintf("%s/images/trees/%s", data_dir, checksum);
}

int
image_checkout(const char *data_dir, const char *checksum, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(freep)
	char *trees = xasprintf("%s/images/trees", data_dir);
	_cleanup_(freep)
	char *final = tree_path(data_dir, checksum);
	_cleanup_(freep)
	char *path = NULL;
	struct image_tmp tmp;
	int r;

	if (fs_exists(final))
		return 0;
	if ((r = fs_mkdirs(trees, 0755, err)) < 0 ||
	    (r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = image_has_commit(repo, checksum, err)) < 0 ||
	    (r = image_tmp_open(data_dir, true, true, &tmp, err)) < 0)
		return r;
	path = xasprintf("%s/tree", tmp.path);
	if (!fs_exists(final)) {
		r = checkout_to(repo, checksum, path, err);
		if (r == 0 && rename(path, final) < 0)
			r = err_errno(
			    err, ERR_SYSTEM, errno, "rename to %s", final);
	}
	image_tmp_done(&tmp);
	return r;
}

#define VERIFY_OBJECTS_PERCENT 80 /* the rest is the checkout's */

static int
verify_objects(OstreeRepo *repo, const char *checksum, image_progress_cb tell,
    struct err *err)
{
	GHashTable *reachable = NULL;
	GHashTableIter it;
	GError *error = NULL;
	gpointer key, value;
	int r = 0, percent = -1;
	guint done = 0, now;

	if (!ostree_repo_traverse_commit(
		repo, checksum, 0, &reachable, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read image %.12s", checksum);
	g_hash_table_iter_init(&it, reachable);
	while (r == 0 && g_hash_table_iter_next(&it, &key, &value)) {
		const char *name;
		OstreeObjectType type;

		ostree_object_name_deserialize(key, &name, &type);
		if (!ostree_repo_fsck_object(repo, type, name, NULL, &error))
			r = image_gerr(err, ERR_IMAGE, error,
			    "image %.12s is damaged", checksum);
		now = (guint)((uint64_t)++done * VERIFY_OBJECTS_PERCENT /
			      g_hash_table_size(reachable));
		if (tell != NULL && (int)now > percent)
			tell(percent = (int)now, "comparing its files", NULL);
	}
	g_hash_table_unref(reachable);
	return r;
}

/* The checkout has the commit's files with the commit's content. */
static int
verify_tree(
    OstreeRepo *repo, const char *path, const char *checksum, struct err *err)
{
	GPtrArray *modified = g_ptr_array_new_with_free_func(
	    (GDestroyNotify)ostree_diff_item_unref);
	GPtrArray *removed = g_ptr_array_new_with_free_func(g_object_unref);
	GPtrArray *added = g_ptr_array_new_with_free_func(g_object_unref);
	_cleanup_(image_unref)
	GFile *dir = g_file_new_for_path(path);
	_cleanup_(image_unref)
	GFile *root = NULL;
	GError *error = NULL;
	int r = 0;

	if (!ostree_repo_read_commit(
		repo, checksum, &root, NULL, NULL, &error) ||
	    !ostree_diff_dirs(OSTREE_DIFF_FLAGS_NONE, root, dir, modified,
		removed, added, NULL, &error))
		r = image_gerr(err, ERR_IMAGE, error, "compare %s", path);
	else if (modified->len + removed->len + added->len > 0)
		r = err_set(err, ERR_IMAGE,
		    "the checkout of image %.12s was changed: %u files "
		    "differ, %u are missing, %u are extra; stop its desktops, "
		    "remove %s and check it out again",
		    checksum, modified->len, removed->len, added->len, path);
	g_ptr_array_unref(modified);
	g_ptr_array_unref(removed);
	g_ptr_array_unref(added);
	return r;
}

int
image_verify_telling(const char *data_dir, const char *checksum,
    image_progress_cb tell, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(freep)
	char *path = tree_path(data_dir, checksum);
	int r;

	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = image_has_commit(repo, checksum, err)) < 0 ||
	    (r = verify_objects(repo, checksum, tell, err)) < 0)
		return r;
	if (tell != NULL)
		tell(VERIFY_OBJECTS_PERCENT, "comparing its checkout", NULL);
	return fs_exists(path) ? verify_tree(repo, path, checksum, err) : 0;
}
