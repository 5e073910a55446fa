/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Garbage: what no image needs any more. The caller says which images are
 * gone and which commits are in use all the same; whatever the others don't
 * reach is removed. The order makes a kill harmless at any moment: a ref
 * first, then the checkout (renamed away before it is taken apart), then
 * commits, then the rest; the next run goes on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define REFS "image/"

static void
hash_unrefp(GHashTable **t)
{
	if (*t != NULL)
		g_hash_table_unref(*t);
}

static int
list_refs(OstreeRepo *repo, GHashTable **ret, struct err *err)
{
	GError *error = NULL;

	if (!ostree_repo_list_refs_ext(
		repo, NULL, ret, OSTREE_REPO_LIST_REFS_EXT_NONE, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "list the images of the store");
	return 0;
}

/* The id of "image/12"; 0: another ref. */
static int64_t
ref_id(const char *ref)
{
	int64_t id = 0;

	if (str_starts(ref, REFS))
		str_to_i64(ref + strlen(REFS), 1, INT64_MAX, &id);
	return id;
}

int
image_ids(const char *data_dir, int64_t **ret, size_t *ret_n, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(hash_unrefp)
	GHashTable *refs = NULL;
	GHashTableIter it;
	gpointer key;
	int64_t *ids;
	size_t n = 0;
	int r;

	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = list_refs(repo, &refs, err)) < 0)
		return r;
	ids = xcalloc(g_hash_table_size(refs) + 1, sizeof(*ids));
	g_hash_table_iter_init(&it, refs);
	while (g_hash_table_iter_next(&it, &key, NULL))
		if (ref_id(key) > 0)
			ids[n++] = ref_id(key);
	*ret = ids;
	*ret_n = n;
	return 0;
}

static bool
is_gone(const struct image_gc *gc, int64_t id)
{
	size_t i;

	for (i = 0; i < gc->n_gone; i++)
		if (gc->gone[i] == id)
			return true;
	return false;
}

static bool
is_used(const struct image_gc *gc, const char *checksum)
{
	size_t i;

	for (i = 0; i < gc->n_used; i++)
		if (str_eq(gc->used[i], checksum))
			return true;
	return false;
}

/* Drops refs that are gone; gives the commits that stay. */
static int
sort_refs(OstreeRepo *repo, const struct image_gc *gc, GHashTable *keep,
    struct image_garbage *ret, struct err *err)
{
	_cleanup_(hash_unrefp)
	GHashTable *refs = NULL;
	GHashTableIter it;
	gpointer ref, checksum;
	GError *error = NULL;
	int r;

	if ((r = list_refs(repo, &refs, err)) < 0)
		return r;
	g_hash_table_iter_init(&it, refs);
	while (g_hash_table_iter_next(&it, &ref, &checksum)) {
		bool gone = ref_id(ref) > 0 && is_gone(gc, ref_id(ref));

		if (!gone || is_used(gc, checksum)) {
			g_hash_table_add(keep, g_strdup(checksum));
			continue;
		}
		ret->images++;
		if (!gc->dry_run && !ostree_repo_set_ref_immediate(
					repo, NULL, ref, NULL, NULL, &error))
			return image_gerr(err, ERR_SYSTEM, error,
			    "forget the image of ref %s", (char *)ref);
	}
	return 0;
}

struct trees {
	const struct image_gc *gc;
	GHashTable *keep;
	struct image_tmp tmp;
	struct image_garbage *garbage;
};

/* A checkout of a commit that doesn't stay, to a place where nobody takes it
 * for whole. */
static int
remove_tree(const struct fs_entry *e, void *arg, struct err *err)
{
	struct trees *t = arg;
	_cleanup_(freep)
	char *to = NULL;

	if (e->name[0] == '.' || g_hash_table_contains(t->keep, e->name) ||
	    is_used(t->gc, e->name))
		return 0;
	t->garbage->trees++;
	if (t->gc->dry_run)
		return 0;
	to = xasprintf("%s/%s", t->tmp.path, e->name);
	return rename(e->path, to) == 0
		   ? 0
		   : err_errno(err, ERR_SYSTEM, errno, "rename %s", e->path);
}

static int
remove_trees(const char *data_dir, const struct image_gc *gc, GHashTable *keep,
    struct image_garbage *ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/trees", data_dir);
	struct trees t = {
		.gc = gc,
		.keep = keep,
		.tmp.lock = -1,
		.garbage = ret,
	};
	int r = 0;

	if (!gc->dry_run)
		r = image_tmp_open(data_dir, true, true, &t.tmp, err);
	if (r == 0)
		r = fs_each_entry(path, remove_tree, &t, err);
	image_tmp_done(&t.tmp);
	return r;
}

static int
reach(OstreeRepo *repo, GHashTable *keep, GHashTable **ret, struct err *err)
{
	GHashTableIter it;
	gpointer checksum;
	GError *error = NULL;

	*ret = ostree_repo_traverse_new_reachable();
	g_hash_table_iter_init(&it, keep);
	while (g_hash_table_iter_next(&it, &checksum, NULL))
		if (!ostree_repo_traverse_commit_union(
			repo, checksum, 0, *ret, NULL, &error))
			return image_gerr(err, ERR_IMAGE, error,
			    "image %.12s is damaged (see 'qvd image verify'), "
			    "so what it needs isn't known and nothing is "
			    "removed",
			    (char *)checksum);
	return 0;
}

static void
tell(const struct image_gc *gc, size_t done, size_t all, int *percent)
{
	int now = all == 0 ? 0 : (int)(done * 100 / all);

	if (gc->tell == NULL || now <= *percent)
		return;
	*percent = now;
	gc->tell(now, gc->dry_run ? "looking for garbage" : "removing garbage",
	    NULL);
}

static int
remove_object(OstreeRepo *repo, GVariant *name, bool dry_run,
    struct image_garbage *ret, struct err *err)
{
	OstreeObjectType type;
	const char *checksum;
	GError *error = NULL;
	guint64 bytes = 0;

	ostree_object_name_deserialize(name, &checksum, &type);
	if (!ostree_repo_query_object_storage_size(
		repo, type, checksum, &bytes, NULL, &error) ||
	    (!dry_run &&
		!ostree_repo_delete_object(repo, type, checksum, NULL, &error)))
		return image_gerr(
		    err, ERR_SYSTEM, error, "remove object %.12s", checksum);
	ret->objects++;
	ret->bytes += bytes;
	return 0;
}

static bool
is_commit(GVariant *name)
{
	OstreeObjectType type;
	const char *checksum;

	ostree_object_name_deserialize(name, &checksum, &type);
	return type == OSTREE_OBJECT_TYPE_COMMIT;
}

/* Commits first: what is left without its commit is only garbage. */
static int
remove_objects(OstreeRepo *repo, const struct image_gc *gc, GHashTable *keep,
    struct image_garbage *ret, struct err *err)
{
	_cleanup_(hash_unrefp)
	GHashTable *reachable = NULL;
	_cleanup_(hash_unrefp)
	GHashTable *all = NULL;
	GHashTableIter it;
	GError *error = NULL;
	gpointer name;
	size_t done = 0;
	int r, commits, percent = -1;

	tell(gc, 0, 0, &percent);
	if ((r = reach(repo, keep, &reachable, err)) < 0)
		return r;
	if (!ostree_repo_list_objects(repo,
		OSTREE_REPO_LIST_OBJECTS_ALL |
		    OSTREE_REPO_LIST_OBJECTS_NO_PARENTS,
		&all, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "list the store's objects");
	for (commits = 1; r == 0 && commits >= 0; commits--) {
		g_hash_table_iter_init(&it, all);
		while (r == 0 && g_hash_table_iter_next(&it, &name, NULL)) {
			if (is_commit(name) == commits &&
			    !g_hash_table_contains(reachable, name))
				r = remove_object(
				    repo, name, gc->dry_run, ret, err);
			tell(gc, ++done, 2 * (size_t)g_hash_table_size(all),
			    &percent);
		}
	}
	return r;
}

/* Alone: whatever is added meanwhile might need what goes. */
static int
take_store(const char *data_dir, const struct image_gc *gc, int *ret_fd,
    struct err *err)
{
	if (image_lock(data_dir, IMAGE_LOCK_REMOVE, false, ret_fd, NULL) == 0)
		return 0;
	if (gc->tell != NULL)
		gc->tell(0, "waiting for an import or commit to end", NULL);
	return image_lock(data_dir, IMAGE_LOCK_REMOVE, true, ret_fd, err);
}

int
image_collect(const char *data_dir, const struct image_gc *gc,
    struct image_garbage *ret, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(hash_unrefp)
	GHashTable *keep = NULL;
	_cleanup_(closep)
	int lock = -1;
	struct image_garbage found = { .bytes = 0 };
	int r;

	keep = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = take_store(data_dir, gc, &lock, err)) < 0 ||
	    (r = sort_refs(repo, gc, keep, &found, err)) < 0 ||
	    (r = remove_trees(data_dir, gc, keep, &found, err)) < 0 ||
	    (r = remove_objects(repo, gc, keep, &found, err)) < 0 ||
	    (r = image_exports_collect(data_dir, gc->dry_run, &found, err)) < 0)
		return r;
	*ret = found;
	return 0;
}
