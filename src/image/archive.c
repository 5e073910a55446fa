/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A tar as source of a tree. It is never unpacked: its entries go from
 * libarchive straight into the repository, so that no name in it can write
 * anywhere on the node.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define BLOCK (256 * 1024)

static void
read_freep(struct archive **a)
{
	archive_read_free(*a);
}

static void
variant_unrefp(GVariant **v)
{
	if (*v != NULL)
		g_variant_unref(*v);
}

static int
archive_err(
    struct err *err, struct archive *a, const char *what, const char *name)
{
	char shown[256];
	const char *why = archive_error_string(a);

	str_escape(shown, sizeof(shown), name, strlen(name));
	return err_set(err, ERR_IMAGE, "%s '%s': %s", what, shown,
	    why == NULL ? "unknown error" : why);
}

struct source {
	struct archive *in;
	const char *name; /* of the entry, for errors */
};

static ssize_t
read_entry(void *buf, size_t size, void *arg, struct err *err)
{
	struct source *s = arg;
	la_ssize_t n = archive_read_data(s->in, buf, size);

	return n < 0 ? archive_err(err, s->in, "read", s->name) : (ssize_t)n;
}

static GVariant *
xattrs_of(struct archive_entry *entry)
{
	struct image_xattrs xattrs = { 0 };
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (
	    archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK)
		image_xattrs_add(&xattrs, name, value, size);
	return image_xattrs_end(&xattrs);
}

static int
add_entry(struct image_tree *tree, struct archive *in,
    struct archive_entry *entry, struct err *err)
{
	_cleanup_(variant_unrefp)
	GVariant *xattrs = xattrs_of(entry);
	const char *name = archive_entry_pathname(entry);
	const char *link = archive_entry_hardlink(entry);
	struct image_entry e = {
		.path = name,
		.uid = (uid_t)archive_entry_uid(entry),
		.gid = (gid_t)archive_entry_gid(entry),
		.mode = archive_entry_mode(entry),
		.size = (uint64_t)archive_entry_size(entry),
		.target = archive_entry_symlink(entry),
		.xattrs = xattrs,
	};
	struct source source = { in, name };

	if (name == NULL || (S_ISLNK(e.mode) && e.target == NULL))
		return err_set(
		    err, ERR_IMAGE, "it has an entry whose name is not UTF-8");
	if (link != NULL)
		return image_tree_link(tree, name, link, err);
	return image_tree_add(tree, &e, read_entry, &source, err);
}

static int
add_all(struct image_tree *tree, struct archive *in, const char *source,
    off_t size, struct err *err)
{
	struct archive_entry *entry;
	int r, s;

	while ((r = archive_read_next_header(in, &entry)) == ARCHIVE_OK ||
	       r == ARCHIVE_WARN) {
		if ((s = add_entry(tree, in, entry, err)) < 0)
			return s;
		if (size > 0)
			image_progress(tree,
			    (double)archive_filter_bytes(in, -1) / (double)size,
			    95, "reading the archive");
	}
	return r == ARCHIVE_EOF ? 0
				: archive_err(err, in, "read archive", source);
}

int
image_add_archive(struct image_tree *tree, const char *source, struct err *err)
{
	_cleanup_(read_freep)
	struct archive *in = archive_read_new();
	struct stat st;

	archive_read_support_filter_gzip(in);
	archive_read_support_filter_xz(in);
	archive_read_support_filter_zstd(in);
	archive_read_support_format_tar(in);
	if (stat(source, &st) < 0)
		return err_errno(err, ERR_NOT_FOUND, errno, "open %s", source);
	if (archive_read_open_filename(in, source, BLOCK) != ARCHIVE_OK)
		return archive_err(err, in, "open archive", source);
	return add_all(tree, in, source, st.st_size, err);
}
