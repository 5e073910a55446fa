/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A tar as source of a tree. It is never unpacked: its entries go from
 * libarchive straight into the repository, so that no name in it can write
 * anywhere on the node.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define BLOCK (256 * 1024)

static void
read_freep(struct archive **a)
{
	if (*a != NULL)
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

	/* libarchive's word for what it can't make out. */
	if (why != NULL && str_eq(why, "Unrecognized archive format"))
		why = "it is no tar (plain, or with gzip, xz or zstd), no OCI "
		      "image, and no disk (qcow2, .raw, .img, .iso)";
	str_escape(shown, sizeof(shown), name, strlen(name));
	return err_set(err, ERR_IMAGE, "%s '%s': %s", what, shown,
	    why == NULL ? "unknown error" : why);
}

struct source {
	struct image_tree *tree;
	struct archive *in;
	const char *name; /* of the entry, for errors */
};

static void
tell(struct image_tree *tree, struct archive *in)
{
	double done =
	    (double)tree->source_from + (double)archive_filter_bytes(in, -1);

	if (tree->source_total > 0)
		image_progress(tree, done / (double)tree->source_total, 95,
		    "reading the archive");
}

/* One entry may be nearly all of it: a disk. */
static ssize_t
read_entry(void *buf, size_t size, void *arg, struct err *err)
{
	struct source *s = arg;
	la_ssize_t n = archive_read_data(s->in, buf, size);

	tell(s->tree, s->in);
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
	const struct image_import *import = tree->import;
	struct source source = { tree, in, name };

	if (name == NULL || (S_ISLNK(e.mode) && e.target == NULL))
		return err_set(
		    err, ERR_IMAGE, "it has an entry whose name is not UTF-8");
	/* It could name a privileged file of the image below. */
	if (link != NULL && import->base != NULL)
		return err_set(err, ERR_IMAGE,
		    "it has a hard link, which no machine's changes have");
	if (link != NULL)
		return image_tree_link(tree, name, link, err);
	if (import->is_desktop && image_is_of_run(name))
		return 0;
	if (import->is_desktop && S_ISREG(e.mode) &&
	    image_is_account_file(name))
		return image_add_accounts(tree, &e, read_entry, &source, err);
	return image_tree_add(tree, &e, read_entry, &source, err);
}

/* Overlayfs's own forms (kernel: Documentation/filesystems/overlayfs.rst). */
int
image_upper_whiteout(struct image_tree *tree, struct archive_entry *entry,
    bool apply, struct err *err)
{
	const char *name = archive_entry_pathname(entry), *xattr;
	const void *value;
	size_t size;

	if (archive_entry_filetype(entry) == AE_IFCHR &&
	    archive_entry_rdevmajor(entry) == 0 &&
	    archive_entry_rdevminor(entry) == 0) {
		int r = apply ? image_tree_remove(tree, name, false, err) : 0;

		return r < 0 ? r : 1;
	}
	if (!apply || archive_entry_filetype(entry) != AE_IFDIR)
		return 0;
	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &xattr, &value, &size) ==
	       ARCHIVE_OK)
		if (str_eq(xattr, "trusted.overlay.opaque") && size == 1 &&
		    *(const char *)value == 'y')
			return image_tree_remove(tree, name, true, err);
	return 0;
}

/* The same, if this pass is to have it. */
static int
pass_entry(struct image_tree *tree, struct archive *in,
    struct archive_entry *entry, enum image_pass pass, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	int r;

	if (pass != IMAGE_PASS_ALL && name != NULL) {
		bool apply = pass == IMAGE_PASS_WHITEOUTS;

		r = tree->import->base != NULL
			? image_upper_whiteout(tree, entry, apply, err)
			: image_whiteout(tree, name, apply, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	if (pass == IMAGE_PASS_WHITEOUTS)
		return 0;
	return add_entry(tree, in, entry, err);
}

/* What is passed over (a device's content, whiteouts, what another pass is
 * for) is unpacked all the same, and a small archive can have it without end.
 * Names and attributes come on top of the contents. */
#define HEADER_BYTES 4096

int
image_archive_check(struct image_tree *tree, struct archive *in,
    struct archive_entry *entry, struct err *err)
{
	la_int64_t size = archive_entry_size(entry);
	la_int64_t read = archive_filter_bytes(in, 0);

	/* Each layer is read twice. */
	if (++tree->headers > 2 * (uint64_t)IMAGE_ENTRIES_MAX)
		return err_set(err, ERR_TOO_LARGE, "it has more than %d files",
		    IMAGE_ENTRIES_MAX);
	if (size < 0 || (uint64_t)size > tree->bytes_max || read < 0 ||
	    (uint64_t)read > tree->bytes_max + tree->headers * HEADER_BYTES)
		return err_set(err, ERR_TOO_LARGE,
		    "it would be larger than an archive of its size can "
		    "honestly be: it is damaged, or made to fill the disk");
	return 0;
}

int
image_archive_add(struct image_tree *tree, struct archive *in,
    enum image_pass pass, const char *name, off_t from, off_t total,
    struct err *err)
{
	struct archive_entry *entry;
	int r, s;

	tree->source_from = from;
	tree->source_total = total;
	while ((r = archive_read_next_header(in, &entry)) == ARCHIVE_OK ||
	       r == ARCHIVE_WARN) {
		if ((s = image_archive_check(tree, in, entry, err)) < 0 ||
		    (s = pass_entry(tree, in, entry, pass, err)) < 0)
			return s;
		if (pass != IMAGE_PASS_WHITEOUTS)
			tell(tree, in);
	}
	return r == ARCHIVE_EOF ? 0
				: archive_err(err, in, "read archive", name);
}

struct archive *
image_archive_open(int fd, const char *name, struct err *err)
{
	struct archive *in = archive_read_new();

	archive_read_support_filter_gzip(in);
	archive_read_support_filter_xz(in);
	archive_read_support_filter_zstd(in);
	archive_read_support_format_tar(in);
	if (archive_read_open_fd(in, fd, BLOCK) == ARCHIVE_OK)
		return in;
	archive_err(err, in, "open archive", name);
	archive_read_free(in);
	return NULL;
}

static int
add_pass(struct image_tree *tree, int fd, off_t size, enum image_pass pass,
    struct err *err)
{
	const char *source = tree->import->source;
	_cleanup_(read_freep)
	struct archive *in = NULL;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", source);
	if ((in = image_archive_open(fd, source, err)) == NULL)
		return -(int)err->code;
	return image_archive_add(tree, in, pass, source, 0, size, err);
}

int
image_add_archive(struct image_tree *tree, const char *source, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if ((r = image_open_file(source, 0, &fd, &st, err)) < 0)
		return r;
	/* What nobody wrote is no honest content. */
	tree->bytes_max = image_budget(tree->import->base == NULL
					   ? (uint64_t)st.st_size
					   : (uint64_t)st.st_blocks * 512);
	if (tree->import->base == NULL)
		return add_pass(tree, fd, st.st_size, IMAGE_PASS_ALL, err);
	/* As a layer: whiteouts speak of what is below. */
	if ((r = add_pass(tree, fd, st.st_size, IMAGE_PASS_WHITEOUTS, err)) < 0)
		return r;
	return add_pass(tree, fd, st.st_size, IMAGE_PASS_FILES, err);
}
