/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Import: the source's files become objects of the repository inside of one
 * transaction, and nothing refers to them until its end sets the ref. An
 * object that is there already stays, so that images share inodes.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

static void
g_freep(char **p)
{
	g_free(*p);
}

static GVariant *
commit_metadata(const struct image_tree *tree)
{
	const struct image_import *import = tree->import;
	GVariantDict dict;

	g_variant_dict_init(&dict, NULL);
	if (import->version[0] != '\0')
		g_variant_dict_insert(&dict, OSTREE_COMMIT_META_KEY_VERSION,
		    "s", import->version);
	if (import->author[0] != '\0')
		g_variant_dict_insert(&dict, "qvd.author", "s", import->author);
	g_variant_dict_insert(
	    &dict, "qvd.image-id", "x", (gint64)import->image_id);
	g_variant_dict_insert(
	    &dict, "qvd.hypervisors", "s", image_hypervisors(tree));
	g_variant_dict_insert(&dict, "qvd.size", "t", (guint64)tree->bytes);
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

static int
write_commit(
    struct image_tree *tree, GFile *root, char **ret_checksum, struct err *err)
{
	const struct image_import *import = tree->import;
	_cleanup_(freep)
	char *ref = xasprintf("image/%lld", (long long)import->image_id);
	GVariant *metadata = commit_metadata(tree);
	const char *message = import->message;
	const char *nl = strchr(message, '\n');
	_cleanup_(freep)
	char *subject = xstrndup(
	    message, nl == NULL ? strlen(message) : (size_t)(nl - message));
	GError *error = NULL;
	gboolean ok;

	ok = ostree_repo_write_commit(tree->repo,
	    import->parent[0] != '\0' ? import->parent : NULL, subject,
	    nl == NULL ? "" : nl + 1, metadata, OSTREE_REPO_FILE(root),
	    ret_checksum, NULL, &error);
	g_variant_unref(metadata);
	if (!ok)
		return image_gerr(err, ERR_IMAGE, error, "write the commit");
	ostree_repo_transaction_set_ref(tree->repo, NULL, ref, *ret_checksum);
	return 0;
}

static int
add_source(struct image_tree *tree, const struct stat *st, struct err *err)
{
	const char *source = tree->import->source;
	int r;

	image_progress(tree, 0, 0, "reading");
	if (tree->import->file_as != NULL)
		return image_add_file(tree, source, tree->import->file_as, err);
	if (S_ISDIR(st->st_mode))
		return image_is_oci_layout(source)
			   ? image_add_oci_layout(tree, source, err)
			   : image_add_directory(tree, source, err);
	if (tree->import->base == NULL &&
	    (r = image_try_oci_archive(tree, source, err)) != 0)
		return r < 0 ? r : 0;
	return image_add_archive(tree, source, err);
}

/* What the files alone are: their names, contents and facts. */
static void
note_content(GFile *root, char ret[static IMAGE_CHECKSUM_LEN + 1])
{
	_cleanup_(g_freep)
	char *sum = NULL;
	OstreeRepoFile *f = OSTREE_REPO_FILE(root);
	const char *parts[] = {
		ostree_repo_file_tree_get_contents_checksum(f),
		ostree_repo_file_tree_get_metadata_checksum(f),
	};
	GChecksum *both = g_checksum_new(G_CHECKSUM_SHA256);

	g_checksum_update(both, (const guchar *)parts[0], -1);
	g_checksum_update(both, (const guchar *)parts[1], -1);
	sum = g_strdup(g_checksum_get_string(both));
	g_checksum_free(both);
	str_copy(ret, IMAGE_CHECKSUM_LEN + 1, sum);
}

/* Inside of the transaction. */
static int
import_tree(struct image_tree *tree, const struct stat *st,
    struct image_imported *ret, struct err *err)
{
	_cleanup_(g_freep)
	char *checksum = NULL;
	_cleanup_(image_unref)
	GFile *root = NULL;
	int r;

	if ((r = add_source(tree, st, err)) < 0 ||
	    (r = image_tree_write(tree, &root, err)) < 0 ||
	    (tree->import->base != NULL &&
		(r = image_tree_count(tree, root, err)) < 0) ||
	    (r = write_commit(tree, root, &checksum, err)) < 0)
		return r;
	str_copy(ret->checksum, sizeof(ret->checksum), checksum);
	note_content(root, ret->content);
	ret->bytes = tree->bytes;
	ret->files = tree->entries;
	ret->hypervisors = image_hypervisors(tree);
	return 0;
}

static int
import_to(OstreeRepo *repo, const struct image_import *import,
    const struct stat *st, struct image_imported *ret, struct err *err)
{
	struct image_tree tree = { 0 };
	GError *error = NULL;
	int r;

	if (!ostree_repo_prepare_transaction(repo, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "begin a transaction");
	if ((r = image_tree_init(&tree, repo, import, err)) == 0)
		r = import_tree(&tree, st, ret, err);
	if (r == 0)
		image_progress(&tree, 1, 97, "writing to disk");
	if (r == 0)
		r = image_transaction_end(repo, import->data_dir, err);
	if (r < 0)
		ostree_repo_abort_transaction(repo, NULL, NULL);
	image_tree_done(&tree);
	return r;
}

/* Imports and commits have one turn for all, which may be an hour away. */
static int
take_turn(const struct image_import *import, int *ret_fd, struct err *err)
{
	if (image_lock(
		import->data_dir, IMAGE_LOCK_MAKE, false, ret_fd, NULL) == 0)
		return 0;
	if (import->progress != NULL)
		import->progress(
		    0, "waiting for another import or commit", import->arg);
	return image_lock(import->data_dir, IMAGE_LOCK_MAKE, true, ret_fd, err);
}

int
image_import(const struct image_import *import, struct image_imported *ret,
    struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(closep)
	int turn = -1;
	_cleanup_(closep)
	int lock = -1;
	struct image_imported done = { .bytes = 0 };
	struct stat st;
	int r;

	if (stat(import->source, &st) < 0)
		return err_errno(
		    err, ERR_NOT_FOUND, errno, "import '%s'", import->source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(err, ERR_PARAMETER,
		    "import '%s': neither a directory nor an archive",
		    import->source);
	if ((r = image_repo_open(import->data_dir, &repo, err)) < 0 ||
	    (r = take_turn(import, &turn, err)) < 0 ||
	    (r = image_lock(
		 import->data_dir, IMAGE_LOCK_KEEP, true, &lock, err)) < 0)
		return r;
	r = import_to(repo, import, &st, &done, err);
	image_work_clear(import->data_dir, NULL);
	if (r < 0)
		return err_wrap(err, r, "import '%s'", import->source);
	*ret = done;
	return 0;
}
