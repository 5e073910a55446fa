/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What changed between two commits: their trees are walked together, and
 * directories whose checksums are equal are not entered, so that the cost is
 * that of the difference. Files that differ in content, owner, mode or
 * extended attributes have changed. Directories count like files.
 */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"
#include "image/packages.h"
#include "json/json.h"

#define STATUS "var/lib/dpkg/status"

struct diff {
	OstreeRepo *repo;
	json_t *files;
	uint64_t n[3]; /* by change */
	int64_t grown; /* bytes */
	GString *path; /* where we are, with its final '/' */
};

enum change { ADDED, REMOVED, CHANGED };
static const char *const change_words[] = { "added", "removed", "changed" };

static void
variant_unrefp(GVariant **v)
{
	if (*v != NULL)
		g_variant_unref(*v);
}

static void
g_freep(void *pp)
{
	g_free(*(void **)pp);
}

static void
packages_donep(struct packages *p)
{
	packages_done(p);
}

/* Size and kind of a file object. */
static int
look_at(struct diff *d, const char *checksum, int64_t *ret_bytes,
    const char **ret_kind, struct err *err)
{
	_cleanup_(image_unref)
	GFileInfo *info = NULL;
	GError *error = NULL;

	if (!ostree_repo_load_file(
		d->repo, checksum, NULL, &info, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "look at a file of the image");
	*ret_bytes = g_file_info_get_size(info);
	*ret_kind = g_file_info_get_file_type(info) == G_FILE_TYPE_SYMBOLIC_LINK
			? "link"
			: "file";
	return 0;
}

static int
note_file(struct diff *d, const char *name, const char *from, const char *to,
    struct err *err)
{
	enum change change = from == NULL ? ADDED
			     : to == NULL ? REMOVED
					  : CHANGED;
	int64_t old_bytes = 0, new_bytes = 0;
	const char *kind = "file";
	size_t len = d->path->len;
	int r = 0;

	if ((from != NULL &&
		(r = look_at(d, from, &old_bytes, &kind, err)) < 0) ||
	    (to != NULL && (r = look_at(d, to, &new_bytes, &kind, err)) < 0))
		return r;
	d->n[change]++;
	d->grown += new_bytes - old_bytes;
	if (json_array_size(d->files) >= IMAGE_DIFF_MAX)
		return 0;
	g_string_append(d->path, name);
	json_array_append_new(d->files,
	    json_pack("{ss ss ss sI sI}", "path", d->path->str, "change",
		change_words[change], "kind", kind, "old_bytes",
		(json_int_t)old_bytes, "new_bytes", (json_int_t)new_bytes));
	g_string_truncate(d->path, len);
	return 0;
}

/* A directory object's two lists, "a(say)" and "a(sayay)"; checksum NULL: an
 * empty directory. */
struct dir {
	GVariant *files, *dirs;
	gsize n_files, n_dirs;
};

static void
dir_donep(struct dir *d)
{
	variant_unrefp(&d->files);
	variant_unrefp(&d->dirs);
}

static int
dir_load(
    OstreeRepo *repo, const char *checksum, struct dir *ret, struct err *err)
{
	_cleanup_(variant_unrefp)
	GVariant *tree = NULL;
	GError *error = NULL;

	*ret = (struct dir){ .files = NULL };
	if (checksum == NULL)
		return 0;
	if (!ostree_repo_load_variant(
		repo, OSTREE_OBJECT_TYPE_DIR_TREE, checksum, &tree, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read a directory of the image");
	ret->files = g_variant_get_child_value(tree, 0);
	ret->dirs = g_variant_get_child_value(tree, 1);
	ret->n_files = g_variant_n_children(ret->files);
	ret->n_dirs = g_variant_n_children(ret->dirs);
	return 0;
}

/* One entry of either list; contents and metadata are heap of GLib. */
struct item {
	char *name;
	char *contents;
	char *metadata;
};

static void
item_donep(struct item *i)
{
	g_free(i->name);
	g_free(i->contents);
	g_free(i->metadata);
}

static void
item_at(GVariant *list, gsize i, gsize n, bool is_dir, struct item *ret)
{
	_cleanup_(variant_unrefp)
	GVariant *entry = NULL;
	_cleanup_(variant_unrefp)
	GVariant *sum = NULL;
	_cleanup_(variant_unrefp)
	GVariant *meta = NULL;

	*ret = (struct item){ .name = NULL };
	if (i >= n)
		return;
	entry = g_variant_get_child_value(list, i);
	g_variant_get_child(entry, 0, "s", &ret->name);
	sum = g_variant_get_child_value(entry, 1);
	ret->contents = ostree_checksum_from_bytes_v(sum);
	if (!is_dir)
		return;
	meta = g_variant_get_child_value(entry, 2);
	ret->metadata = ostree_checksum_from_bytes_v(meta);
}

/* Which of two entries comes first; lists are sorted by bytes. */
static int
order(const struct item *a, const struct item *b)
{
	if (a->name == NULL || b->name == NULL)
		return (a->name == NULL) - (b->name == NULL);
	return strcmp(a->name, b->name);
}

static int diff_trees(
    struct diff *d, const char *from, const char *to, struct err *err);

static int
diff_files(
    struct diff *d, const struct dir *a, const struct dir *b, struct err *err)
{
	gsize i = 0, j = 0;
	int r = 0, c;

	while (r == 0 && (i < a->n_files || j < b->n_files)) {
		_cleanup_(item_donep)
		struct item x = { .name = NULL };
		_cleanup_(item_donep)
		struct item y = { .name = NULL };

		item_at(a->files, i, a->n_files, false, &x);
		item_at(b->files, j, b->n_files, false, &y);
		c = order(&x, &y);
		if (c != 0 || !str_eq(x.contents, y.contents))
			r = note_file(d, c <= 0 ? x.name : y.name,
			    c <= 0 ? x.contents : NULL,
			    c >= 0 ? y.contents : NULL, err);
		i += c <= 0;
		j += c >= 0;
	}
	return r;
}

/* Its own facts (owner, mode, attributes); what is in it, is told apart. */
static void
note_dir(struct diff *d, const struct item *from, const struct item *to)
{
	enum change change = from == NULL ? ADDED
			     : to == NULL ? REMOVED
					  : CHANGED;
	size_t len = d->path->len;

	d->n[change]++;
	if (json_array_size(d->files) >= IMAGE_DIFF_MAX)
		return;
	g_string_append(d->path, (from != NULL ? from : to)->name);
	json_array_append_new(
	    d->files, json_pack("{ss ss ss si si}", "path", d->path->str,
			  "change", change_words[change], "kind", "directory",
			  "old_bytes", 0, "new_bytes", 0));
	g_string_truncate(d->path, len);
}

static int
enter(struct diff *d, const char *name, const char *from, const char *to,
    struct err *err)
{
	size_t len = d->path->len;
	int r;

	g_string_append_printf(d->path, "%s/", name);
	r = diff_trees(d, from, to, err);
	g_string_truncate(d->path, len);
	return r;
}

static int
diff_dirs(
    struct diff *d, const struct dir *a, const struct dir *b, struct err *err)
{
	gsize i = 0, j = 0;
	int r = 0, c;

	while (r == 0 && (i < a->n_dirs || j < b->n_dirs)) {
		_cleanup_(item_donep)
		struct item x = { .name = NULL };
		_cleanup_(item_donep)
		struct item y = { .name = NULL };

		item_at(a->dirs, i, a->n_dirs, true, &x);
		item_at(b->dirs, j, b->n_dirs, true, &y);
		c = order(&x, &y);
		if (c != 0 || !str_eq(x.metadata, y.metadata))
			note_dir(d, c <= 0 ? &x : NULL, c >= 0 ? &y : NULL);
		if (r == 0 && (c != 0 || !str_eq(x.contents, y.contents)))
			r = enter(d, c <= 0 ? x.name : y.name,
			    c <= 0 ? x.contents : NULL,
			    c >= 0 ? y.contents : NULL, err);
		i += c <= 0;
		j += c >= 0;
	}
	return r;
}

/* Depth is limited by what an import lets in. */
static int
diff_trees(struct diff *d, const char *from, const char *to, struct err *err)
{
	_cleanup_(dir_donep)
	struct dir a = { .files = NULL };
	_cleanup_(dir_donep)
	struct dir b = { .files = NULL };
	int r;

	if ((r = dir_load(d->repo, from, &a, err)) < 0 ||
	    (r = dir_load(d->repo, to, &b, err)) < 0 ||
	    (r = diff_files(d, &a, &b, err)) < 0)
		return r;
	return diff_dirs(d, &a, &b, err);
}

static int
read_root(OstreeRepo *repo, const char *checksum, GFile **ret, struct err *err)
{
	GError *error = NULL;
	int r;

	if ((r = image_has_commit(repo, checksum, err)) < 0)
		return r;
	if (!ostree_repo_read_commit(repo, checksum, ret, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read image %.12s", checksum);
	return 0;
}

/* An image that is no Debian's has none. */
static void
read_packages(GFile *root, struct packages *ret)
{
	_cleanup_(image_unref)
	GFile *file = g_file_resolve_relative_path(root, STATUS);
	_cleanup_(image_unref)
	GFileInfo *info = g_file_query_info(file, "standard::size",
	    G_FILE_QUERY_INFO_NOFOLLOW_SYMLINKS, NULL, NULL);
	_cleanup_(g_freep)
	char *text = NULL;
	gsize len;

	*ret = (struct packages){ .n = 0 };
	if (info != NULL &&
	    g_file_info_get_size(info) <= (goffset)PACKAGES_TEXT_MAX &&
	    g_file_load_contents(file, NULL, &text, &len, NULL, NULL))
		packages_parse(text, len, ret);
}

static json_t *
package_json(const struct package *from, const struct package *to)
{
	enum change change = from == NULL ? ADDED
			     : to == NULL ? REMOVED
					  : CHANGED;
	json_t *o = json_pack("{ss ss sI sI}", "name",
	    from != NULL ? from->name : to->name, "change",
	    change_words[change], "old_bytes",
	    (json_int_t)(from != NULL ? from->bytes : 0), "new_bytes",
	    (json_int_t)(to != NULL ? to->bytes : 0));

	if (from != NULL)
		json_object_set_new(
		    o, "old_version", json_string(from->version));
	if (to != NULL)
		json_object_set_new(o, "new_version", json_string(to->version));
	return o;
}

static json_t *
diff_packages(GFile *from, GFile *to)
{
	_cleanup_(packages_donep)
	struct packages a = { .n = 0 };
	_cleanup_(packages_donep)
	struct packages b = { .n = 0 };
	json_t *list = json_array();
	size_t i = 0, j = 0;
	int c;

	read_packages(from, &a);
	read_packages(to, &b);
	while (i < a.n || j < b.n) {
		c = i == a.n   ? 1
		    : j == b.n ? -1
			       : strcmp(a.list[i].name, b.list[j].name);
		if (c != 0 || !str_eq(a.list[i].version, b.list[j].version))
			json_array_append_new(
			    list, package_json(c <= 0 ? &a.list[i] : NULL,
				      c >= 0 ? &b.list[j] : NULL));
		i += c <= 0;
		j += c >= 0;
	}
	return list;
}

static json_t *
result(struct diff *d, json_t *packages)
{
	uint64_t n = d->n[ADDED] + d->n[REMOVED] + d->n[CHANGED];

	return json_pack("{so sO sI sI sI sI sb}", "packages", packages,
	    "files", d->files, "added", (json_int_t)d->n[ADDED], "removed",
	    (json_int_t)d->n[REMOVED], "changed", (json_int_t)d->n[CHANGED],
	    "grown_bytes", (json_int_t)d->grown, "cut",
	    (int)(n > json_array_size(d->files)));
}

int
image_diff(const char *data_dir, const char *from, const char *to, json_t **ret,
    struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(image_unref)
	GFile *a = NULL;
	_cleanup_(image_unref)
	GFile *b = NULL;
	struct diff d = { .files = NULL };
	int r;

	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = read_root(repo, from, &a, err)) < 0 ||
	    (r = read_root(repo, to, &b, err)) < 0)
		return r;
	d.repo = repo;
	d.files = json_array();
	d.path = g_string_new("/");
	r = diff_trees(&d,
	    ostree_repo_file_tree_get_contents_checksum(OSTREE_REPO_FILE(a)),
	    ostree_repo_file_tree_get_contents_checksum(OSTREE_REPO_FILE(b)),
	    err);
	if (r == 0)
		*ret = result(&d, diff_packages(a, b));
	g_string_free(d.path, TRUE);
	json_decref(d.files);
	return r;
}
