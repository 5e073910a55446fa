/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A commit as a tar, in the order of its names and without times, so that
 * equal images give equal archives. Written beside its place and renamed when
 * it is whole and on disk. Whoever asked for it takes it away; one that nobody
 * has taken after a while, or that was never finished, is garbage.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define BLOCK (256 * 1024)
#define PART  ".part"

struct export
{
	OstreeRepo *repo;
	struct archive *out;
	char *buf; /* BLOCK */
	image_progress_cb tell;
	uint64_t done, total; /* bytes of files */
	int percent;
};

static void
write_freep(struct archive **a)
{
	if (*a != NULL)
		archive_write_free(*a);
}

static void
entry_freep(struct archive_entry **e)
{
	archive_entry_free(*e);
}

static void
variant_unrefp(GVariant **v)
{
	if (*v != NULL)
		g_variant_unref(*v);
}

static int
write_failed(struct export *x, struct err *err)
{
	int code = archive_errno(x->out);
	const char *why = archive_error_string(x->out);

	return err_set(err, code == ENOSPC ? ERR_NO_SPACE : ERR_SYSTEM,
	    "write the archive: %s", why == NULL ? "unknown error" : why);
}

static void
add_xattrs(struct archive_entry *entry, GVariant *xattrs)
{
	gsize i, n = xattrs == NULL ? 0 : g_variant_n_children(xattrs);

	for (i = 0; i < n; i++) {
		GVariant *pair = g_variant_get_child_value(xattrs, i);
		GVariant *name = g_variant_get_child_value(pair, 0);
		GVariant *value = g_variant_get_child_value(pair, 1);
		gsize len;
		const void *bytes = g_variant_get_fixed_array(value, &len, 1);

		archive_entry_xattr_add_entry(
		    entry, g_variant_get_bytestring(name), bytes, len);
		g_variant_unref(value);
		g_variant_unref(name);
		g_variant_unref(pair);
	}
}

static void
tell_part(struct export *x)
{
	int percent = x->total == 0 ? 0 : (int)(x->done * 99 / x->total);

	if (x->tell == NULL || percent <= x->percent)
		return;
	x->percent = percent;
	x->tell(percent, "writing the archive", NULL);
}

static int
write_content(struct export *x, GInputStream *in, struct err *err)
{
	GError *error = NULL;
	gssize n;

	while ((n = g_input_stream_read(in, x->buf, BLOCK, NULL, &error)) > 0) {
		if (archive_write_data(x->out, x->buf, (size_t)n) != n)
			return write_failed(x, err);
		x->done += (uint64_t)n;
		tell_part(x);
	}
	if (n < 0)
		return image_gerr(err, ERR_IMAGE, error, "read the image");
	return 0;
}

static int
write_one(struct export *x, const char *path, GFileInfo *info, GVariant *xattrs,
    GInputStream *content, struct err *err)
{
	_cleanup_(entry_freep)
	struct archive_entry *entry = archive_entry_new();
	mode_t mode = g_file_info_get_attribute_uint32(info, "unix::mode");

	archive_entry_set_pathname_utf8(entry, path);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_uid(
	    entry, g_file_info_get_attribute_uint32(info, "unix::uid"));
	archive_entry_set_gid(
	    entry, g_file_info_get_attribute_uint32(info, "unix::gid"));
	archive_entry_set_mtime(entry, 0, 0);
	archive_entry_set_size(
	    entry, content != NULL ? g_file_info_get_size(info) : 0);
	if (S_ISLNK(mode))
		archive_entry_set_symlink_utf8(
		    entry, g_file_info_get_symlink_target(info));
	add_xattrs(entry, xattrs);
	if (archive_write_header(x->out, entry) < ARCHIVE_WARN)
		return write_failed(x, err);
	return content != NULL ? write_content(x, content, err) : 0;
}

static int
write_file(
    struct export *x, const char *path, OstreeRepoFile *file, struct err *err)
{
	_cleanup_(image_unref)
	GInputStream *content = NULL;
	_cleanup_(image_unref)
	GFileInfo *info = NULL;
	_cleanup_(variant_unrefp)
	GVariant *xattrs = NULL;
	GError *error = NULL;

	if (!ostree_repo_load_file(x->repo, ostree_repo_file_get_checksum(file),
		&content, &info, &xattrs, NULL, &error))
		return image_gerr(err, ERR_IMAGE, error, "read %s", path);
	return write_one(x, path, info, xattrs, content, err);
}

static int write_dir(
    struct export *x, const char *path, GFile *dir, struct err *err);

static int
write_children(struct export *x, const char *path, GFile *dir, struct err *err)
{
	OstreeRepoFile *tree = OSTREE_REPO_FILE(dir);
	GVariant *lists[2] = { ostree_repo_file_tree_get_contents(tree) };
	gsize i, n;
	int which, r = 0;

	for (which = 0; which < 2 && r == 0; which++) {
		_cleanup_(variant_unrefp)
		GVariant *list =
		    g_variant_get_child_value(lists[0], (gsize)which);

		n = g_variant_n_children(list);
		for (i = 0; i < n && r == 0; i++) {
			_cleanup_(variant_unrefp)
			GVariant *entry = g_variant_get_child_value(list, i);
			_cleanup_(image_unref)
			GFile *child = NULL;
			_cleanup_(freep)
			char *sub = NULL;
			const char *name;

			g_variant_get_child(entry, 0, "&s", &name);
			child = g_file_get_child(dir, name);
			sub = xasprintf("%s/%s", path, name);
			r = which == 0 ? write_file(x, sub,
					     OSTREE_REPO_FILE(child), err)
				       : write_dir(x, sub, child, err);
		}
	}
	return r;
}

static int
write_dir(struct export *x, const char *path, GFile *dir, struct err *err)
{
	OstreeRepoFile *file = OSTREE_REPO_FILE(dir);
	_cleanup_(image_unref)
	GFileInfo *info = NULL;
	_cleanup_(variant_unrefp)
	GVariant *xattrs = NULL;
	GError *error = NULL;
	int r;

	if (!ostree_repo_file_ensure_resolved(file, &error) ||
	    !ostree_repo_file_get_xattrs(file, &xattrs, NULL, &error))
		return image_gerr(err, ERR_IMAGE, error, "read %s", path);
	info = g_file_query_info(dir, "standard::*,unix::*",
	    G_FILE_QUERY_INFO_NOFOLLOW_SYMLINKS, NULL, &error);
	if (info == NULL)
		return image_gerr(err, ERR_IMAGE, error, "read %s", path);
	if ((r = write_one(x, path, info, xattrs, NULL, err)) < 0)
		return r;
	return write_children(x, path, dir, err);
}

/* By the end of the name, as tar's --auto-compress. */
static void
set_filter(struct archive *out, const char *name)
{
	if (str_ends(name, ".gz"))
		archive_write_add_filter_gzip(out);
	else if (str_ends(name, ".xz"))
		archive_write_add_filter_xz(out);
	else if (str_ends(name, ".zst"))
		archive_write_add_filter_zstd(out);
	archive_write_set_format_pax_restricted(out);
	/* Each attribute once, as tar reads them. */
	archive_write_set_format_option(out, NULL, "xattrheader", "SCHILY");
	/* No time of writing in the compressed stream's head. */
	archive_write_set_filter_option(out, "gzip", "timestamp", NULL);
}

static uint64_t
size_of(GVariant *commit)
{
	_cleanup_(variant_unrefp)
	GVariant *metadata = g_variant_get_child_value(commit, 0);
	guint64 size = 0;

	g_variant_lookup(metadata, "qvd.size", "t", &size);
	return size;
}

static int
write_archive(
    struct export *x, const char *checksum, const char *path, struct err *err)
{
	_cleanup_(image_unref)
	GFile *root = NULL;
	_cleanup_(variant_unrefp)
	GVariant *commit = NULL;
	_cleanup_(closep)
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	GError *error = NULL;
	int r;

	/* Locked: under way, and no garbage. */
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	if (!ostree_repo_load_commit(
		x->repo, checksum, &commit, NULL, &error) ||
	    !ostree_repo_read_commit(
		x->repo, checksum, &root, NULL, NULL, &error))
		return image_gerr(
		    err, ERR_IMAGE, error, "read image %.12s", checksum);
	x->total = size_of(commit);
	if (archive_write_open_fd(x->out, fd) != ARCHIVE_OK)
		return write_failed(x, err);
	if ((r = write_dir(x, ".", root, err)) < 0)
		return r;
	if (archive_write_close(x->out) != ARCHIVE_OK)
		return write_failed(x, err);
	if (fsync(fd) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", path);
	return 0;
}

/* A part that nobody is writing, or an archive that nobody has fetched. */
static bool
is_garbage(int dir, const char *name, const struct stat *st)
{
	_cleanup_(closep)
	int fd = -1;

	if (!str_ends(name, PART))
		return time(NULL) - st->st_mtime > IMAGE_EXPORT_KEEP_S;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
}

struct exports {
	bool dry_run;
	struct image_garbage *garbage;
};

static int
collect_export(const struct fs_entry *e, void *arg, struct err *err)
{
	const struct exports *x = arg;
	struct stat st;

	if (fstatat(e->dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || !is_garbage(e->dirfd, e->name, &st))
		return 0;
	x->garbage->bytes += (uint64_t)st.st_size;
	if (!x->dry_run && unlinkat(e->dirfd, e->name, 0) < 0 &&
	    errno != ENOENT)
		return err_errno(err, ERR_SYSTEM, errno, "remove %s", e->path);
	return 0;
}

int
image_exports_collect(const char *data_dir, bool dry_run,
    struct image_garbage *ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/exports", data_dir);
	struct exports x = { .dry_run = dry_run, .garbage = ret };

	return fs_each_entry(path, collect_export, &x, err);
}

int
image_export(const char *data_dir, const char *checksum, const char *name,
    image_progress_cb tell, struct err *err)
{
	_cleanup_(image_unref)
	OstreeRepo *repo = NULL;
	_cleanup_(freep)
	char *dir = xasprintf("%s/images/exports", data_dir);
	_cleanup_(freep)
	char *part = xasprintf("%s/.%s" PART, dir, name);
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", dir, name);
	_cleanup_(write_freep)
	struct archive *out = archive_write_new();
	_cleanup_(freep)
	char *buf = xcalloc(1, BLOCK);
	struct export x = {
		.out = out, .buf = buf, .tell = tell, .percent = -1
	};
	int r;

	set_filter(out, name);
	if ((r = image_repo_open(data_dir, &repo, err)) < 0 ||
	    (r = image_has_commit(repo, checksum, err)) < 0 ||
	    (r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	if ((r = image_exports_collect(data_dir, false,
		 &(struct image_garbage){ .bytes = 0 }, err)) < 0)
		return r;
	x.repo = repo;
	r = write_archive(&x, checksum, part, err);
	if (r == 0 && rename(part, path) < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "rename to %s", path);
	if (r < 0)
		unlink(part);
	return r;
}
