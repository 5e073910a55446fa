/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Import: the source is unpacked or copied beside the repository, and its
 * files are then added to it. Nothing refers to the new objects until the
 * transaction's end sets the ref.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

static void
modifier_unrefp(OstreeRepoCommitModifier **m)
{
	if (*m != NULL)
		ostree_repo_commit_modifier_unref(*m);
}

static void
object_unrefp(void *pp)
{
	g_clear_object((GObject **)pp);
}

static void
g_freep(char **p)
{
	g_free(*p);
}

/* Only counts: what doesn't belong into an image hasn't been unpacked. */
static OstreeRepoCommitFilterResult
filter(OstreeRepo *repo, const char *path, GFileInfo *info, gpointer arg)
{
	struct image_count *count = arg;

	count->entries++;
	image_progress(count, (double)count->entries / (double)count->total,
	    "adding to the repository");
	return OSTREE_REPO_COMMIT_FILTER_ALLOW;
}

static GVariant *
commit_metadata(const struct image_import *import)
{
	GVariantDict dict;

	g_variant_dict_init(&dict, NULL);
	if (import->version[0] != '\0')
		g_variant_dict_insert(&dict, OSTREE_COMMIT_META_KEY_VERSION,
		    "s", import->version);
	if (import->author[0] != '\0')
		g_variant_dict_insert(&dict, "qvd.author", "s", import->author);
	g_variant_dict_insert(
	    &dict, "qvd.image-id", "x", (gint64)import->image_id);
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* Files of dir into the repository; *ret_root is the tree. */
static int
write_tree(OstreeRepo *repo, const char *dir, struct image_count *count,
    GFile **ret_root, struct err *err)
{
	/* Not FLAGS_CONSUME: moving files in would put new inodes in the place
	 * of objects that are there, and end the sharing between images. */
	_cleanup_(modifier_unrefp)
	OstreeRepoCommitModifier *modifier = ostree_repo_commit_modifier_new(
	    OSTREE_REPO_COMMIT_MODIFIER_FLAGS_NONE, filter, count, NULL);
	_cleanup_(object_unrefp)
	OstreeMutableTree *mtree = ostree_mutable_tree_new();
	GError *error = NULL;

	if (!ostree_repo_write_dfd_to_mtree(
		repo, AT_FDCWD, dir, mtree, modifier, NULL, &error) ||
	    !ostree_repo_write_mtree(repo, mtree, ret_root, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "add files to the repository");
	return 0;
}

static int
write_commit(OstreeRepo *repo, const struct image_import *import, GFile *root,
    char **ret_checksum, struct err *err)
{
	_cleanup_(freep)
	char *ref = xasprintf("image/%lld", (long long)import->image_id);
	GVariant *metadata = commit_metadata(import);
	const char *message = import->message;
	const char *nl = strchr(message, '\n');
	_cleanup_(freep)
	char *subject = xstrndup(
	    message, nl == NULL ? strlen(message) : (size_t)(nl - message));
	GError *error = NULL;
	gboolean ok;

	ok = ostree_repo_write_commit(repo, NULL, subject,
	    nl == NULL ? "" : nl + 1, metadata, OSTREE_REPO_FILE(root),
	    ret_checksum, NULL, &error);
	g_variant_unref(metadata);
	if (!ok)
		return image_gerr(err, ERR_IMAGE, error, "write the commit");
	ostree_repo_transaction_set_ref(repo, NULL, ref, *ret_checksum);
	return 0;
}

static int
commit_dir(OstreeRepo *repo, const char *dir, struct image_count *count,
    char **ret_checksum, struct err *err)
{
	_cleanup_(object_unrefp)
	GFile *root = NULL;
	GError *error = NULL;
	int r;

	if (!ostree_repo_prepare_transaction(repo, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "begin a transaction");
	if ((r = write_tree(repo, dir, count, &root, err)) < 0 ||
	    (r = write_commit(repo, count->import, root, ret_checksum, err)) <
		0) {
		ostree_repo_abort_transaction(repo, NULL, NULL);
		return r;
	}
	count->from = count->to = 97;
	image_progress(count, 1, "writing to disk");
	if (!ostree_repo_commit_transaction(repo, NULL, NULL, &error)) {
		r = image_gerr(err, ERR_SYSTEM, error, "end the transaction");
		ostree_repo_abort_transaction(repo, NULL, NULL);
		return r;
	}
	return 0;
}

static uint64_t n_counted; /* nftw() has no argument for its callback */

static int
count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return ++n_counted > IMAGE_ENTRIES_MAX || ftw->level > IMAGE_DEPTH_MAX;
}

/* How many files there are, for the percents; refuses what is too much. */
static int
count_dir(const char *dir, uint64_t *ret, struct err *err)
{
	int r;

	n_counted = 0;
	r = nftw(dir, count_one, 64, FTW_PHYS | FTW_MOUNT);
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", dir);
	if (r > 0)
		return err_set(err, ERR_TOO_LARGE,
		    "directory %s has more than %d files, or is more than %d "
		    "deep",
		    dir, IMAGE_ENTRIES_MAX, IMAGE_DEPTH_MAX);
	*ret = n_counted;
	return 0;
}

/* The files of dir into the repository. */
static int
add_dir(OstreeRepo *repo, const char *dir, struct image_count *count,
    char *ret_checksum, struct err *err)
{
	_cleanup_(g_freep)
	char *checksum = NULL;
	int r;

	if (count->entries <= 1)
		return err_set(err, ERR_IMAGE, "it has no files");
	count->total = count->entries - count->skipped;
	count->entries = 0;
	count->from = count->percent;
	count->to = 96;
	if ((r = commit_dir(repo, dir, count, &checksum, err)) < 0)
		return r;
	str_copy(ret_checksum, IMAGE_CHECKSUM_LEN + 1, checksum);
	return 0;
}

static int
import_source(OstreeRepo *repo, bool is_dir, struct image_count *count,
    char *ret_checksum, struct err *err)
{
	const struct image_import *import = count->import;
	struct image_tmp tmp;
	int r = 0;

	if (is_dir && (r = count_dir(import->source, &count->total, err)) < 0)
		return r;
	if ((r = image_tmp_open(
		 import->data_dir, "import", true, true, &tmp, err)) < 0)
		return r;
	/* The image's root, unless the source says otherwise. */
	if (chmod(tmp.path, 0755) < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "chmod %s", tmp.path);
	count->to = 50;
	if (r == 0 && is_dir)
		r = image_copy(import->source, tmp.path, count, err);
	else if (r == 0)
		r = image_unpack(import->source, tmp.path, count, err);
	if (r == 0)
		r = add_dir(repo, tmp.path, count, ret_checksum, err);
	image_tmp_done(&tmp);
	return r;
}

int
image_import(const struct image_import *import,
    char ret_checksum[static IMAGE_CHECKSUM_LEN + 1], uint64_t *ret_bytes,
    struct err *err)
{
	_cleanup_(object_unrefp)
	OstreeRepo *repo = NULL;
	struct image_count count = { .import = import, .percent = -1 };
	struct stat st;
	int r;

	if (stat(import->source, &st) < 0)
		return err_errno(
		    err, ERR_NOT_FOUND, errno, "import '%s'", import->source);
	if ((r = image_repo_open(import->data_dir, &repo, err)) < 0)
		return r;
	image_progress(&count, 0, "reading");
	if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))
		r = import_source(
		    repo, S_ISDIR(st.st_mode), &count, ret_checksum, err);
	else
		r = err_set(err, ERR_PARAMETER,
		    "neither a directory nor a tar archive");
	if (r < 0)
		return err_wrap(err, r, "import '%s'", import->source);
	*ret_bytes = count.bytes;
	return 0;
}
