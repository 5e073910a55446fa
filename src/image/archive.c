/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Unpacking a tar into a directory. The archive is not trusted: names with
 * "..", through links, or too deep are refused with the entry's name; what
 * isn't a file, directory or link is left out (libostree would refuse the
 * whole tree for one device node).
 *
 * libarchive writes relative to the current directory. That it is the right
 * one is checked before each entry: a mistake here would overwrite the node.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
write_freep(struct archive **a)
{
	archive_write_free(*a);
}

int
image_archive_err(
    struct err *err, struct archive *a, const char *what, const char *name)
{
	char shown[256];
	const char *why = archive_error_string(a);
	int e = archive_errno(a);

	str_escape(shown, sizeof(shown), name, strlen(name));
	return err_set(err, e == ENOSPC ? ERR_NO_SPACE : ERR_IMAGE,
	    "%s '%s': %s", what, shown, why == NULL ? "unknown error" : why);
}

/* The name without leading "/" and "./"; NULL if it is refused. */
static const char *
safe_name(const char *name)
{
	const char *p;
	int depth = 0;

	while (name[0] == '/' || (name[0] == '.' && name[1] == '/'))
		name++;
	for (p = name; *p != '\0'; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");

		if ((n == 2 && p[0] == '.' && p[1] == '.') ||
		    ++depth > IMAGE_DEPTH_MAX)
			return NULL;
	}
	return name[0] == '\0' ? "." : name;
}

static int
refuse(struct err *err, const char *name)
{
	char shown[256];

	return err_set(err, ERR_IMAGE,
	    "it has an entry '%s', whose name leads outside of it or more than "
	    "%d directories deep",
	    str_escape(shown, sizeof(shown), name, strlen(name)),
	    IMAGE_DEPTH_MAX);
}

static bool
is_in_place(const struct image_count *count)
{
	struct stat st;

	return stat(".", &st) == 0 && st.st_dev == count->dev &&
	       st.st_ino == count->ino;
}

int
image_writer_prepare(
    struct archive_entry *entry, struct image_count *count, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	const char *link = archive_entry_hardlink(entry);
	const char *safe;
	mode_t type = archive_entry_filetype(entry);

	if (!is_in_place(count))
		return err_set(err, ERR_INTERNAL,
		    "unpacking left its directory; nothing more is written");
	if (name == NULL)
		return err_set(
		    err, ERR_IMAGE, "it has an entry without a readable name");
	if (++count->entries > IMAGE_ENTRIES_MAX)
		return err_set(err, ERR_TOO_LARGE, "it has more than %d files",
		    IMAGE_ENTRIES_MAX);
	if ((safe = safe_name(name)) == NULL)
		return refuse(err, name);
	if (link != NULL && safe_name(link) == NULL)
		return refuse(err, link);
	if (link == NULL && type != AE_IFREG && type != AE_IFDIR &&
	    type != AE_IFLNK) {
		count->skipped++;
		return 0;
	}
	if (safe != name) {
		_cleanup_(freep)
		char *copy = xstrdup(safe);

		archive_entry_copy_pathname(entry, copy);
	}
	if (link != NULL && safe_name(link) != link) {
		_cleanup_(freep)
		char *copy = xstrdup(safe_name(link));

		archive_entry_copy_hardlink(entry, copy);
	}
	return 1;
}

static int
copy_data(struct archive *in, struct archive *out, struct image_count *count)
{
	const void *data;
	int64_t offset;
	size_t n;
	int r;

	while ((r = archive_read_data_block(in, &data, &n, &offset)) ==
	       ARCHIVE_OK) {
		if (archive_write_data_block(out, data, n, offset) < ARCHIVE_OK)
			return -1;
		count->bytes += n;
	}
	return r == ARCHIVE_EOF ? 0 : 1;
}

static int
unpack_entry(struct archive *in, struct archive *out,
    struct archive_entry *entry, struct image_count *count, struct err *err)
{
	const char *name = archive_entry_pathname(entry);
	int r;

	if (archive_write_header(out, entry) < ARCHIVE_WARN)
		return image_archive_err(err, out, "unpack", name);
	if (archive_entry_size(entry) > 0) {
		r = copy_data(in, out, count);
		if (r != 0)
			return image_archive_err(
			    err, r < 0 ? out : in, "unpack", name);
	}
	if (archive_write_finish_entry(out) < ARCHIVE_WARN)
		return image_archive_err(err, out, "unpack", name);
	return 0;
}

static int
unpack_all(struct archive *in, struct archive *out, const char *source,
    off_t size, struct image_count *count, struct err *err)
{
	struct archive_entry *entry;
	int r, s;

	while ((r = archive_read_next_header(in, &entry)) == ARCHIVE_OK ||
	       r == ARCHIVE_WARN) {
		if ((s = image_writer_prepare(entry, count, err)) < 0 ||
		    (s > 0 &&
			(s = unpack_entry(in, out, entry, count, err)) < 0))
			return s;
		image_progress(count,
		    size > 0
			? (double)archive_filter_bytes(in, -1) / (double)size
			: 0,
		    "unpacking");
	}
	if (r != ARCHIVE_EOF)
		return image_archive_err(err, in, "read archive", source);
	if (archive_write_close(out) != ARCHIVE_OK)
		return image_archive_err(err, out, "unpack", source);
	return 0;
}

struct archive *
image_writer_new(void)
{
	struct archive *out = archive_write_disk_new();

	archive_write_disk_set_options(
	    out, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM |
		     ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR |
		     ARCHIVE_EXTRACT_SECURE_NODOTDOT |
		     ARCHIVE_EXTRACT_SECURE_SYMLINKS |
		     ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
	return out;
}

int
image_writer_enter(const char *dir, struct image_count *count, struct err *err)
{
	struct stat st;

	if (chdir(dir) < 0 || stat(dir, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "go to %s", dir);
	count->dev = st.st_dev;
	count->ino = st.st_ino;
	return 0;
}

int
image_writer_leave(struct err *err)
{
	return chdir("/") < 0 ? err_errno(err, ERR_SYSTEM, errno, "go to /")
			      : 0;
}

int
image_unpack(const char *source, const char *dir, struct image_count *count,
    struct err *err)
{
	_cleanup_(read_freep)
	struct archive *in = archive_read_new();
	_cleanup_(write_freep)
	struct archive *out = image_writer_new();
	struct stat st;
	int r;

	archive_read_support_filter_gzip(in);
	archive_read_support_filter_xz(in);
	archive_read_support_filter_zstd(in);
	archive_read_support_format_tar(in);
	if (stat(source, &st) < 0)
		return err_errno(err, ERR_NOT_FOUND, errno, "open %s", source);
	if (archive_read_open_filename(in, source, BLOCK) != ARCHIVE_OK)
		return image_archive_err(err, in, "open archive", source);
	if ((r = image_writer_enter(dir, count, err)) < 0)
		return r;
	r = unpack_all(in, out, source, st.st_size, count, err);
	return r < 0 ? r : image_writer_leave(err);
}
