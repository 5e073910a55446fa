/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pulling end: the commit, its signature, its folders level by level,
 * then what of their files is missing here. Every object that the commit
 * reaches has been seen in the store, or was fetched, when the mark "partial"
 * goes.
 */
#include "image/pull.h"

#include <string.h>
#include <sys/statvfs.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/transfer.h"

#define IDLE_MS (5 * 60 * 1000)
/* What an object takes beside its bytes: an inode, a name, its last block. */
#define OBJECT_OVERHEAD 4096

static void
arrayp(GArray **a)
{
	if (*a != NULL)
		g_array_unref(*a);
}

static void
variantp(GVariant **v)
{
	if (*v != NULL)
		g_variant_unref(*v);
}

static void
hashp(GHashTable **t)
{
	if (*t != NULL)
		g_hash_table_unref(*t);
}

static void
add_want(GArray *to, int type, const char *sum, const char *base)
{
	struct transfer_want want = { .type = type, .size = WIRE_NONE };

	str_copy(want.sum, sizeof(want.sum), sum);
	if (base != NULL && !str_eq(base, sum))
		str_copy(want.base, sizeof(want.base), base);
	g_array_append_val(to, want);
}

/* Gets those that aren't here. */
static int
get_missing(struct pull *p, const GArray *wants, struct err *err)
{
	_cleanup_(arrayp)
	GArray *missing =
	    g_array_new(FALSE, TRUE, sizeof(struct transfer_want));
	guint i;

	for (i = 0; i < wants->len; i++) {
		const struct transfer_want *want =
		    &g_array_index(wants, struct transfer_want, i);

		if (!pull_has(p, want->type, want->sum))
			g_array_append_val(missing, *want);
	}
	return pull_get(p, (const struct transfer_want *)(void *)missing->data,
	    missing->len, err);
}

static int
load(struct pull *p, int type, const char *sum, GVariant **ret, struct err *err)
{
	GError *error = NULL;

	if (!ostree_repo_load_variant(
		p->repo, (OstreeObjectType)type, sum, ret, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read object %.12s", sum);
	return 0;
}

static char *
sum_of(GVariant *bytes)
{
	char *sum = ostree_checksum_from_bytes_v(bytes);

	g_variant_unref(bytes);
	return sum;
}

/* Names of a folder's files (child 0) or folders (child 1) -> checksum. */
static GHashTable *
names_of(GVariant *tree, gsize child)
{
	GHashTable *names =
	    g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	GVariant *list, *item, *bytes;
	gsize i;

	if (tree == NULL)
		return names;
	list = g_variant_get_child_value(tree, child);
	for (i = 0; i < g_variant_n_children(list); i++) {
		char *name;

		item = g_variant_get_child_value(list, i);
		g_variant_get_child(item, 0, "s", &name);
		bytes = g_variant_get_child_value(item, 1);
		g_hash_table_insert(names, name, sum_of(bytes));
		g_variant_unref(item);
	}
	g_variant_unref(list);
	return names;
}

static void
note_files(struct pull *p, GVariant *tree, GVariant *base)
{
	_cleanup_(hashp)
	GHashTable *files = names_of(tree, 0);
	_cleanup_(hashp)
	GHashTable *olds = names_of(base, 0);
	GHashTableIter it;
	gpointer name, sum;
	const char *old;

	g_hash_table_iter_init(&it, files);
	while (g_hash_table_iter_next(&it, &name, &sum)) {
		p->entries++;
		if (g_hash_table_contains(p->files, sum) ||
		    pull_has(p, OSTREE_OBJECT_TYPE_FILE, sum))
			continue;
		old = g_hash_table_lookup(olds, name);
		g_hash_table_insert(
		    p->files, g_strdup(sum), g_strdup(old == NULL ? "" : old));
	}
}

static void
note_folders(
    struct pull *p, GVariant *tree, GVariant *base, GArray *next, GArray *metas)
{
	_cleanup_(hashp)
	GHashTable *olds = names_of(base, 1);
	GVariant *list = g_variant_get_child_value(tree, 1), *item;
	gsize i;

	for (i = 0; i < g_variant_n_children(list); i++) {
		const char *name;
		_cleanup_(freep)
		char *sum = NULL;
		_cleanup_(freep)
		char *meta = NULL;

		p->entries++;
		item = g_variant_get_child_value(list, i);
		g_variant_get_child(item, 0, "&s", &name);
		sum = sum_of(g_variant_get_child_value(item, 1));
		meta = sum_of(g_variant_get_child_value(item, 2));
		if (g_hash_table_add(p->metas, g_strdup(meta)))
			add_want(
			    metas, OSTREE_OBJECT_TYPE_DIR_META, meta, NULL);
		/* One that is at two places is walked once. */
		if (g_hash_table_add(p->seen, g_strdup(sum)))
			add_want(next, OSTREE_OBJECT_TYPE_DIR_TREE, sum,
			    g_hash_table_lookup(olds, name));
		g_variant_unref(item);
	}
	g_variant_unref(list);
}

static int
walk_folder(struct pull *p, const struct transfer_want *folder, GArray *next,
    GArray *metas, struct err *err)
{
	_cleanup_(variantp)
	GVariant *tree = NULL;
	_cleanup_(variantp)
	GVariant *base = NULL;
	int r;

	if ((r = load(
		 p, OSTREE_OBJECT_TYPE_DIR_TREE, folder->sum, &tree, err)) < 0)
		return r;
	if (folder->base[0] != '\0')
		ostree_repo_load_variant_if_exists(p->repo,
		    OSTREE_OBJECT_TYPE_DIR_TREE, folder->base, &base, NULL);
	note_files(p, tree, base);
	/* Without a base of its own: the folder didn't change, so neither did
	 * what is below it, and all of that may still be missing here. */
	note_folders(p, tree, base, next, metas);
	if (p->entries > IMAGE_ENTRIES_MAX)
		return err_set(err, ERR_TOO_LARGE,
		    "the image has more than %d files", IMAGE_ENTRIES_MAX);
	return 0;
}

static int
walk(struct pull *p, GArray *level, GArray *metas, struct err *err)
{
	int depth, r = 0;
	guint i;

	for (depth = 0; r == 0 && level->len > 0; depth++) {
		GArray *next =
		    g_array_new(FALSE, TRUE, sizeof(struct transfer_want));

		if (depth > IMAGE_DEPTH_MAX)
			r = err_set(err, ERR_TOO_LARGE,
			    "the image's folders are more than %d deep",
			    IMAGE_DEPTH_MAX);
		if (r == 0)
			r = get_missing(p, level, err);
		for (i = 0; r == 0 && i < level->len; i++)
			r = walk_folder(p,
			    &g_array_index(level, struct transfer_want, i),
			    next, metas, err);
		g_array_set_size(level, 0);
		g_array_append_vals(level, next->data, next->len);
		g_array_unref(next);
	}
	return r < 0 ? r : get_missing(p, metas, err);
}

/* The root folder of a commit and its facts. */
static void
roots_of(GVariant *commit, char **ret_tree, char **ret_meta)
{
	*ret_tree = sum_of(g_variant_get_child_value(commit, 6));
	*ret_meta = sum_of(g_variant_get_child_value(commit, 7));
}

static char *
base_root(struct pull *p)
{
	_cleanup_(variantp)
	GVariant *commit = NULL;
	_cleanup_(freep)
	char *meta = NULL;
	char *tree = NULL;

	if (p->args->base[0] == '\0' ||
	    image_has_commit(p->repo, p->args->base, NULL) < 0 ||
	    load(p, OSTREE_OBJECT_TYPE_COMMIT, p->args->base, &commit, NULL) <
		0)
		return NULL;
	roots_of(commit, &tree, &meta);
	return tree;
}

static int
get_folders(struct pull *p, struct err *err)
{
	_cleanup_(variantp)
	GVariant *commit = NULL;
	_cleanup_(arrayp)
	GArray *level = g_array_new(FALSE, TRUE, sizeof(struct transfer_want));
	_cleanup_(arrayp)
	GArray *metas = g_array_new(FALSE, TRUE, sizeof(struct transfer_want));
	_cleanup_(freep)
	char *base = base_root(p);
	_cleanup_(freep)
	char *tree = NULL;
	_cleanup_(freep)
	char *meta = NULL;
	int r;

	r = load(p, OSTREE_OBJECT_TYPE_COMMIT, p->args->checksum, &commit, err);
	if (r < 0)
		return r;
	roots_of(commit, &tree, &meta);
	g_hash_table_add(p->metas, g_strdup(meta));
	add_want(level, OSTREE_OBJECT_TYPE_DIR_TREE, tree, base);
	add_want(metas, OSTREE_OBJECT_TYPE_DIR_META, meta, NULL);
	return walk(p, level, metas, err);
}

static int
check_space(struct pull *p, uint64_t objects, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/repo", p->args->data_dir);
	guint64 reserve = 0;
	uint64_t need = p->total + objects * OBJECT_OVERHEAD, room;
	GError *error = NULL;
	struct statvfs fs;

	if (statvfs(path, &fs) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	if (!ostree_repo_get_min_free_space_bytes(p->repo, &reserve, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "ask what is kept free");
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (need + reserve <= room && objects <= fs.f_favail)
		return 0;
	return err_set(err, ERR_NO_SPACE,
	    "the image needs %llu MB and %llu files more on this node's disk, "
	    "which has %llu MB and %llu files free and keeps %llu MB of them; "
	    "make room (qvd image gc --dry-run)",
	    (unsigned long long)(need / 1000000 + 1),
	    (unsigned long long)objects, (unsigned long long)room / 1000000,
	    (unsigned long long)fs.f_favail,
	    (unsigned long long)reserve / 1000000);
}

static int
get_files(struct pull *p, struct err *err)
{
	_cleanup_(arrayp)
	GArray *wants = g_array_new(FALSE, TRUE, sizeof(struct transfer_want));
	struct transfer_want *list;
	GHashTableIter it;
	gpointer sum, base;
	uint64_t total = 0;
	guint i;
	int r;

	g_hash_table_iter_init(&it, p->files);
	while (g_hash_table_iter_next(&it, &sum, &base))
		add_want(wants, OSTREE_OBJECT_TYPE_FILE, sum, base);
	list = (struct transfer_want *)(void *)wants->data;
	if ((r = pull_sizes(p, list, wants->len, err)) < 0)
		return r;
	for (i = 0; i < wants->len; i++)
		total += list[i].size;
	p->total = total;
	if ((r = check_space(p, wants->len, err)) < 0)
		return r;
	p->total += p->done.bytes; /* of the folders, which have come */
	pull_progress(p, 5);
	return pull_get(p, list, wants->len, err);
}

int
pull_mark(struct pull *p, bool partial, struct err *err)
{
	GError *error = NULL;

	if (!ostree_repo_mark_commit_partial(
		p->repo, p->args->checksum, partial, &error))
		return image_gerr(err, ERR_SYSTEM, error, "mark image %.12s",
		    p->args->checksum);
	return 0;
}

int
pull_keep_commit(struct pull *p, struct err *err)
{
	const char *checksum = p->args->checksum;
	_cleanup_(freep)
	char *ref = xasprintf("image/%lld", (long long)p->args->image_id);
	GError *error = NULL;
	int r;

	/* One that was found before the lock may be gone. */
	if (!pull_has(p, OSTREE_OBJECT_TYPE_COMMIT, checksum))
		return err_set(err, ERR_CONFLICT,
		    "image %.12s was cleared away here while it came again",
		    checksum);
	if (p->signature_len > 0 &&
	    (r = transfer_keep_signature(
		 p->repo, checksum, p->signature, p->signature_len, err)) < 0)
		return r;
	if (!ostree_repo_set_ref_immediate(
		p->repo, NULL, ref, checksum, NULL, &error))
		return image_gerr(
		    err, ERR_SYSTEM, error, "set the ref %s", ref);
	return 0;
}

/* Also what was pulled before the farm had a key must be signed now. */
static int
get_signature(struct pull *p, struct err *err)
{
	const struct image_pull *args = p->args;
	uint64_t n;
	int r;

	if ((r = wire_write_number(&p->wire, WIRE_SIGNATURE, 1, err)) < 0 ||
	    (r = wire_write_number(&p->wire, 0, 4, err)) < 0 ||
	    (r = wire_flush(&p->wire, err)) < 0 ||
	    (r = wire_read_number(&p->wire, 4, &n, err)) < 0)
		return r;
	if (n != 0 && n != sizeof(p->signature))
		return err_set(err, ERR_IMAGE,
		    "the other node serves a signature of %llu bytes",
		    (unsigned long long)n);
	if ((r = wire_read(&p->wire, p->signature, n, err)) < 0)
		return r;
	p->signature_len = n;
	return args->trusted == NULL
		   ? 0
		   : image_signature_check(
			 args->trusted, args->checksum, p->signature, n, err);
}

static int
greet(struct pull *p, struct err *err)
{
	char text[WIRE_TEXT_MAX + 1], clean[WIRE_TEXT_MAX + 1];
	uint64_t no, n;
	int r;

	if ((r = wire_read_number(&p->wire, 1, &no, err)) < 0)
		return r;
	if (no == 0)
		return 0;
	if ((r = wire_read_number(&p->wire, 2, &n, err)) < 0)
		return r;
	if (n > WIRE_TEXT_MAX)
		n = WIRE_TEXT_MAX;
	if ((r = wire_read(&p->wire, text, n, err)) < 0)
		return r;
	str_escape(clean, sizeof(clean), text, n);
	return err_set(err, ERR_IMAGE, "the other node says: %s", clean);
}

/* From here on a commit is in the store and nothing of it is garbage, whole
 * (1) or in part (0). */
static int
get_commit(struct pull *p, struct err *err)
{
	struct transfer_want want = { .type = OSTREE_OBJECT_TYPE_COMMIT,
		.size = WIRE_NONE };
	_cleanup_(closep)
	int lock = -1;
	int r;

	str_copy(want.sum, sizeof(want.sum), p->args->checksum);
	if ((r = image_lock(
		 p->args->data_dir, IMAGE_LOCK_KEEP, true, &lock, err)) < 0)
		return r;
	if (image_has_commit(p->repo, want.sum, NULL) == 0)
		return (r = pull_keep_commit(p, err)) < 0 ? r : 1;
	if (pull_has(p, want.type, want.sum))
		return pull_keep_commit(p, err);
	/* Not while it comes, which is the other node's affair. */
	closep(&lock);
	return pull_get(p, &want, 1, err);
}

static int
pull_all(struct pull *p, struct err *err)
{
	int r;

	pull_progress(p, 0);
	if ((r = greet(p, err)) < 0 || (r = get_signature(p, err)) < 0)
		return r;
	if ((r = get_commit(p, err)) != 0)
		return r < 0 ? r : 0;
	if ((r = get_folders(p, err)) < 0 || (r = get_files(p, err)) < 0)
		return r;
	return pull_mark(p, false, err);
}

int
image_pull(
    const struct image_pull *args, struct image_pulled *ret, struct err *err)
{
	struct pull *p = new0(struct pull);
	int r;

	p->args = args;
	p->percent = -1;
	p->zstd = ZSTD_createDCtx();
	ZSTD_DCtx_setParameter(p->zstd, ZSTD_d_windowLogMax, WIRE_WINDOW_LOG);
	p->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	p->metas = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	p->files =
	    g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	wire_init(&p->wire, args->fd, IDLE_MS, args->rate);
	if ((r = image_repo_open(args->data_dir, &p->repo, err)) == 0)
		r = pull_all(p, err);
	p->done.received = p->wire.in;
	p->done.sent = p->wire.out;
	if (r == 0)
		*ret = p->done;
	ZSTD_freeDCtx(p->zstd);
	g_hash_table_unref(p->seen);
	g_hash_table_unref(p->metas);
	g_hash_table_unref(p->files);
	g_clear_object(&p->repo);
	free(p);
	return r;
}
