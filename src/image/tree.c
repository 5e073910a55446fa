/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define IN_MEMORY_MAX (8 * 1024 * 1024) /* content of one file */

static void
g_freep(void *pp)
{
	g_free(*(void **)pp);
}

static void
ptr_array_unrefp(GPtrArray **a)
{
	if (*a != NULL)
		g_ptr_array_unref(*a);
}

static int
refuse(struct err *err, const char *path, const char *why)
{
	char shown[256];

	return err_set(err, ERR_IMAGE, "it has an entry '%s', %s",
	    str_escape(shown, sizeof(shown), path, strlen(path)), why);
}

/* The names of a path; none for the root itself. *ret is the caller's. */
static int
split_path(const char *path, GPtrArray **ret, struct err *err)
{
	_cleanup_(ptr_array_unrefp)
	GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
	const char *p;
	size_t n;

	for (p = path; *p != '\0'; p += n) {
		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.'))
			continue;
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return refuse(
			    err, path, "whose name leads outside of it");
		if (!g_utf8_validate(p, (gssize)n, NULL))
			return refuse(err, path, "whose name is not UTF-8");
		if (n > 255 || names->len >= IMAGE_DEPTH_MAX)
			return refuse(err, path,
			    "whose name is too long or too many directories "
			    "deep");
		g_ptr_array_add(names, g_strndup(p, n));
	}
	*ret = take_ptr(names);
	return 0;
}

static const char *
last_name(const GPtrArray *names)
{
	return names->pdata[names->len - 1];
}

static int
write_dir_metadata(OstreeRepo *repo, uid_t uid, gid_t gid, mode_t mode,
    GVariant *xattrs, char **ret_checksum, struct err *err)
{
	GFileInfo *info = g_file_info_new();
	GError *error = NULL;
	GVariant *meta;
	guchar *csum = NULL;
	gboolean ok;

	g_file_info_set_attribute_uint32(info, "unix::uid", uid);
	g_file_info_set_attribute_uint32(info, "unix::gid", gid);
	g_file_info_set_attribute_uint32(
	    info, "unix::mode", S_IFDIR | (mode & 07777));
	meta =
	    g_variant_ref_sink(ostree_create_directory_metadata(info, xattrs));
	g_object_unref(info);
	ok = ostree_repo_write_metadata(
	    repo, OSTREE_OBJECT_TYPE_DIR_META, NULL, meta, &csum, NULL, &error);
	g_variant_unref(meta);
	if (!ok)
		return image_gerr(
		    err, ERR_IMAGE, error, "write a directory's facts");
	*ret_checksum = ostree_checksum_from_bytes(csum);
	g_free(csum);
	return 0;
}

static int
begin_root(struct image_tree *tree, const char *base, struct err *err)
{
	GError *error = NULL;
	int r;

	if (base == NULL) {
		tree->root = ostree_mutable_tree_new();
		ostree_mutable_tree_set_metadata_checksum(
		    tree->root, tree->dir_metadata);
		return 0;
	}
	if ((r = image_has_commit(tree->repo, base, err)) < 0)
		return r;
	tree->layered = true;
	tree->root =
	    ostree_mutable_tree_new_from_commit(tree->repo, base, &error);
	return tree->root != NULL ? 0
				  : image_gerr(err, ERR_IMAGE, error,
					"read image %.12s", base);
}

int
image_tree_init(struct image_tree *tree, OstreeRepo *repo,
    const struct image_import *import, struct err *err)
{
	int r;

	*tree = (struct image_tree){
		.repo = repo,
		.import = import,
		.percent = -1,
		.bytes_max = IMAGE_BYTES_MAX,
	};
	if ((r = write_dir_metadata(
		 repo, 0, 0, 0755, NULL, &tree->dir_metadata, err)) < 0)
		return r;
	tree->privileged =
	    g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return begin_root(tree, import->base, err);
}

void
image_tree_done(struct image_tree *tree)
{
	g_clear_object(&tree->root);
	g_clear_pointer(&tree->privileged, g_hash_table_unref);
	g_free(tree->dir_metadata);
}

/* The directory that is to hold the last name; made when missing. Fails when
 * something on the way is a file or a link. (libostree has this in one call,
 * which leaks.) */
static int
find_parent(struct image_tree *tree, GPtrArray *names, const char *path,
    OstreeMutableTree **ret, struct err *err)
{
	OstreeMutableTree *dir = g_object_ref(tree->root), *sub;
	guint i;

	for (i = 0; i + 1 < names->len; i++) {
		gboolean ok = ostree_mutable_tree_ensure_dir(
		    dir, names->pdata[i], &sub, NULL);

		g_object_unref(dir);
		if (!ok)
			return refuse(err, path,
			    "whose name goes through a link or a file of its");
		if (ostree_mutable_tree_get_metadata_checksum(sub) == NULL)
			ostree_mutable_tree_set_metadata_checksum(
			    sub, tree->dir_metadata);
		dir = sub;
	}
	*ret = dir;
	return 0;
}

/* An upper layer may have a file where a lower one has a directory. */
static void
drop_other_kind(OstreeMutableTree *parent, const char *name, bool want_file)
{
	_cleanup_(image_unref)
	OstreeMutableTree *sub = NULL;
	_cleanup_(g_freep)
	char *checksum = NULL;

	if (ostree_mutable_tree_lookup(parent, name, &checksum, &sub, NULL) &&
	    (sub != NULL) == want_file)
		ostree_mutable_tree_remove(parent, name, TRUE, NULL);
}

static int
add_dir(struct image_tree *tree, const struct image_entry *entry,
    GPtrArray *names, struct err *err)
{
	_cleanup_(image_unref)
	OstreeMutableTree *parent = NULL;
	_cleanup_(image_unref)
	OstreeMutableTree *dir = NULL;
	_cleanup_(g_freep)
	char *checksum = NULL;
	GError *error = NULL;
	int r;

	if ((r = write_dir_metadata(tree->repo, entry->uid, entry->gid,
		 entry->mode, entry->xattrs, &checksum, err)) < 0)
		return r;
	if (names->len == 0) {
		ostree_mutable_tree_set_metadata_checksum(tree->root, checksum);
		return 0;
	}
	if ((r = find_parent(tree, names, entry->path, &parent, err)) < 0)
		return r;
	if (tree->layered)
		drop_other_kind(parent, last_name(names), false);
	if (!ostree_mutable_tree_ensure_dir(
		parent, last_name(names), &dir, &error))
		return image_gerr(err, ERR_IMAGE, error,
		    "add directory '%.200s'", entry->path);
	ostree_mutable_tree_set_metadata_checksum(dir, checksum);
	return 0;
}

static int
place_file(struct image_tree *tree, const char *path, GPtrArray *names,
    const char *checksum, struct err *err)
{
	_cleanup_(image_unref)
	OstreeMutableTree *parent = NULL;
	GError *error = NULL;
	int r;

	if (names->len == 0)
		return refuse(err, path, "which is no name of a file");
	if ((r = find_parent(tree, names, path, &parent, err)) < 0)
		return r;
	if (tree->layered)
		drop_other_kind(parent, last_name(names), true);
	if (!ostree_mutable_tree_replace_file(
		parent, last_name(names), checksum, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "add file '%.200s'", path);
	return 0;
}

static GFileInfo *
file_info(const struct image_entry *entry)
{
	GFileInfo *info = g_file_info_new();

	g_file_info_set_file_type(info, G_FILE_TYPE_REGULAR);
	g_file_info_set_size(info, (goffset)entry->size);
	g_file_info_set_attribute_uint32(info, "unix::uid", entry->uid);
	g_file_info_set_attribute_uint32(info, "unix::gid", entry->gid);
	g_file_info_set_attribute_uint32(
	    info, "unix::mode", S_IFREG | (entry->mode & 07777));
	return info;
}

static gboolean
write_object(struct image_tree *tree, const struct image_entry *entry,
    GFileInfo *info, GInputStream *content, char *ret_checksum, GError **error)
{
	_cleanup_(image_unref)
	GInputStream *object = NULL;
	_cleanup_(g_freep)
	guchar *csum = NULL;
	guint64 length;

	if (!ostree_raw_file_to_content_stream(
		content, info, entry->xattrs, &object, &length, NULL, error) ||
	    !ostree_repo_write_content(
		tree->repo, NULL, object, length, &csum, NULL, error))
		return FALSE;
	ostree_checksum_inplace_from_bytes(csum, ret_checksum);
	return TRUE;
}

/*
 * The whole content in memory, so that its checksum can be known before
 * anything is written: of the files of an image's next version most are in
 * the repository already, and making a file costs more than hashing it.
 */
static gboolean
write_unless_there(struct image_tree *tree, const struct image_entry *entry,
    GFileInfo *info, GInputStream *source, char *ret_checksum, GError **error)
{
	_cleanup_(freep)
	char *data = xcalloc(1, (size_t)entry->size + 1);
	_cleanup_(image_unref)
	GInputStream *content = g_memory_input_stream_new_from_data(
	    data, (gssize)entry->size, NULL);
	_cleanup_(g_freep)
	guchar *csum = NULL;
	gboolean there = FALSE;
	gsize n;

	if (!g_input_stream_read_all(
		source, data, (gsize)entry->size, &n, NULL, error) ||
	    !ostree_checksum_file_from_input(info, entry->xattrs, content,
		OSTREE_OBJECT_TYPE_FILE, &csum, NULL, error))
		return FALSE;
	ostree_checksum_inplace_from_bytes(csum, ret_checksum);
	if (!ostree_repo_has_object(tree->repo, OSTREE_OBJECT_TYPE_FILE,
		ret_checksum, &there, NULL, error))
		return FALSE;
	if (there)
		return TRUE;
	return g_seekable_seek(
		   G_SEEKABLE(content), 0, G_SEEK_SET, NULL, error) &&
	       write_object(tree, entry, info, content, ret_checksum, error);
}

static int
add_file(struct image_tree *tree, const struct image_entry *entry,
    GPtrArray *names, image_read_cb read, void *arg, struct err *err)
{
	struct err why = { 0 };
	_cleanup_(image_unref)
	GInputStream *content = image_stream_new(read, arg, entry->size, &why);
	_cleanup_(image_unref)
	GFileInfo *info = file_info(entry);
	char checksum[IMAGE_CHECKSUM_LEN + 1];
	GError *error = NULL;
	gboolean ok;

	if (entry->size <= IN_MEMORY_MAX)
		ok = write_unless_there(
		    tree, entry, info, content, checksum, &error);
	else
		ok = write_object(tree, entry, info, content, checksum, &error);
	if (!ok && !err_is_set(&why))
		return image_gerr(
		    err, ERR_IMAGE, error, "write '%.200s'", entry->path);
	if (!ok) {
		g_error_free(error);
		*err = why;
		return err_wrap(
		    err, -(int)why.code, "read '%.200s'", entry->path);
	}
	tree->bytes += entry->size;
	/* The checksum is of owner, mode and attributes, too. */
	if (image_entry_is_privileged(entry))
		g_hash_table_add(tree->privileged, g_strdup(checksum));
	return place_file(tree, entry->path, names, checksum, err);
}

static int
add_symlink(struct image_tree *tree, const struct image_entry *entry,
    GPtrArray *names, struct err *err)
{
	_cleanup_(g_freep)
	char *checksum = NULL;
	GError *error = NULL;

	checksum = ostree_repo_write_symlink(tree->repo, NULL, entry->uid,
	    entry->gid, entry->xattrs, entry->target, NULL, &error);
	if (checksum == NULL)
		return image_gerr(
		    err, ERR_IMAGE, error, "write '%.200s'", entry->path);
	return place_file(tree, entry->path, names, checksum, err);
}

static int
too_many(struct err *err)
{
	return err_set(
	    err, ERR_TOO_LARGE, "it has more than %d files", IMAGE_ENTRIES_MAX);
}

int
image_tree_add(struct image_tree *tree, const struct image_entry *entry,
    image_read_cb read, void *arg, struct err *err)
{
	_cleanup_(ptr_array_unrefp)
	GPtrArray *names = NULL;
	int r;

	if (++tree->entries > IMAGE_ENTRIES_MAX)
		return too_many(err);
	if ((r = split_path(entry->path, &names, err)) < 0 ||
	    (r = image_entry_check(tree, entry, err)) < 0)
		return r;
	switch (entry->mode & S_IFMT) {
	case S_IFDIR:
		return add_dir(tree, entry, names, err);
	case S_IFREG:
		return add_file(tree, entry, names, read, arg, err);
	case S_IFLNK:
		return add_symlink(tree, entry, names, err);
	default:
		tree->skipped++;
		return 0;
	}
}

/* Checksum of the file with that path in the tree; heap of GLib. */
static int
find_file(struct image_tree *tree, const char *path, char **ret_checksum,
    struct err *err)
{
	_cleanup_(ptr_array_unrefp)
	GPtrArray *names = NULL;
	_cleanup_(image_unref)
	OstreeMutableTree *dir = g_object_ref(tree->root);
	guint i;
	int r;

	if ((r = split_path(path, &names, err)) < 0)
		return r;
	for (i = 0; i < names->len; i++) {
		OstreeMutableTree *sub = NULL;
		char *checksum = NULL;

		if (!ostree_mutable_tree_lookup(
			dir, names->pdata[i], &checksum, &sub, NULL))
			break;
		if (checksum != NULL && i + 1 == names->len) {
			*ret_checksum = checksum;
			return 0;
		}
		g_free(checksum);
		if (sub == NULL)
			break;
		g_object_unref(dir);
		dir = sub;
	}
	return refuse(err, path, "named by a hard link, which it doesn't have");
}

int
image_tree_link(struct image_tree *tree, const char *path, const char *target,
    struct err *err)
{
	_cleanup_(ptr_array_unrefp)
	GPtrArray *names = NULL;
	_cleanup_(g_freep)
	char *checksum = NULL;
	int r;

	if (++tree->entries > IMAGE_ENTRIES_MAX)
		return too_many(err);
	if ((r = split_path(path, &names, err)) < 0 ||
	    (r = find_file(tree, target, &checksum, err)) < 0)
		return r;
	if (g_hash_table_contains(tree->privileged, checksum) &&
	    (r = image_check_privileged_name(path, err)) < 0)
		return r;
	return place_file(tree, path, names, checksum, err);
}

/* The directory that holds the last name, NULL if there is none. */
static OstreeMutableTree *
look_up_parent(struct image_tree *tree, GPtrArray *names)
{
	OstreeMutableTree *dir = g_object_ref(tree->root), *sub;
	guint i;

	for (i = 0; i + 1 < names->len; i++) {
		_cleanup_(g_freep)
		char *checksum = NULL;

		sub = NULL;
		if (!ostree_mutable_tree_lookup(
			dir, names->pdata[i], &checksum, &sub, NULL))
			sub = NULL;
		g_object_unref(dir);
		if (sub == NULL)
			return NULL;
		dir = sub;
	}
	return dir;
}

static void
remove_children(OstreeMutableTree *dir)
{
	GHashTable *tables[] = { ostree_mutable_tree_get_files(dir),
		ostree_mutable_tree_get_subdirs(dir) };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		GList *names = g_hash_table_get_keys(tables[i]), *l;

		for (l = names; l != NULL; l = l->next) {
			/* The table owns the key, and loses it here. */
			_cleanup_(g_freep)
			char *name = g_strdup(l->data);

			ostree_mutable_tree_remove(dir, name, TRUE, NULL);
		}
		g_list_free(names);
	}
}

int
image_tree_remove(
    struct image_tree *tree, const char *path, bool children, struct err *err)
{
	_cleanup_(ptr_array_unrefp)
	GPtrArray *names = NULL;
	_cleanup_(image_unref)
	OstreeMutableTree *dir = NULL;
	_cleanup_(image_unref)
	OstreeMutableTree *sub = NULL;
	_cleanup_(g_freep)
	char *checksum = NULL;
	int r;

	if ((r = split_path(path, &names, err)) < 0)
		return r;
	if (names->len == 0) {
		remove_children(tree->root);
		return 0;
	}
	if ((dir = look_up_parent(tree, names)) == NULL)
		return 0;
	if (!children)
		ostree_mutable_tree_remove(dir, last_name(names), TRUE, NULL);
	else if (ostree_mutable_tree_lookup(
		     dir, last_name(names), &checksum, &sub, NULL) &&
		 sub != NULL)
		remove_children(sub);
	return 0;
}

int
image_tree_write(struct image_tree *tree, GFile **ret, struct err *err)
{
	GError *error = NULL;

	if (tree->import->base == NULL && tree->entries <= 1)
		return err_set(err, ERR_IMAGE, "it has no files");
	if (!ostree_repo_write_mtree(tree->repo, tree->root, ret, NULL, &error))
		return image_gerr(err, ERR_IMAGE, error, "write the tree");
	return 0;
}

static int
count_children(
    struct image_tree *tree, GFile *dir, const char *path, struct err *err)
{
	GError *error = NULL;
	GFileInfo *info;
	_cleanup_(image_unref)
	GFileEnumerator *list = g_file_enumerate_children(dir,
	    "standard::name,standard::type,standard::size",
	    G_FILE_QUERY_INFO_NOFOLLOW_SYMLINKS, NULL, &error);
	int r = 0;

	while (
	    r == 0 && list != NULL &&
	    (info = g_file_enumerator_next_file(list, NULL, &error)) != NULL) {
		const char *name = g_file_info_get_name(info);
		_cleanup_(freep)
		char *sub = xasprintf("%s%s", path, name);
		_cleanup_(freep)
		char *below = xasprintf("%s/", sub);
		_cleanup_(image_unref)
		GFile *child = g_file_get_child(dir, name);

		tree->entries++;
		if (g_file_info_get_file_type(info) == G_FILE_TYPE_DIRECTORY)
			r = count_children(tree, child, below, err);
		if (g_file_info_get_file_type(info) == G_FILE_TYPE_REGULAR) {
			tree->bytes += (uint64_t)g_file_info_get_size(info);
			image_note_kind(tree, sub);
		}
		g_object_unref(info);
	}
	return error == NULL
		   ? r
		   : image_gerr(err, ERR_IMAGE, error, "look at the tree");
}

int
image_tree_count(struct image_tree *tree, GFile *root, struct err *err)
{
	tree->entries = 1; /* as those of a directory have its root */
	tree->bytes = 0;
	tree->has_disk = tree->has_kernel = tree->has_modules = false;
	return count_children(tree, root, "", err);
}
