/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copying a directory: walked by descriptors, never by the current directory
 * (which is the writer's), links not followed, other file systems not
 * entered. Names that belong to one inode become files of their own; the
 * repository makes one object of them again.
 */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define BLOCK      (256 * 1024)
#define XATTRS_MAX (64 * 1024)

struct copy {
	const char *source;
	struct archive *out;
	struct image_count *count;
	char *block;
	dev_t dev; /* of the source */
};

static void
write_freep(struct archive **a)
{
	archive_write_free(*a);
}

static void
entry_freep(struct archive_entry **e)
{
	archive_entry_free(*e);
}

static void
closedirp(DIR **d)
{
	if (*d != NULL)
		closedir(*d);
}

static int
read_failed(const struct copy *c, const char *name, struct err *err)
{
	return err_errno(err, ERR_SYSTEM, errno, "read %s/%s", c->source, name);
}

/* Those that overlayfs keeps for itself mean nothing in an image. */
static void
copy_xattrs(struct archive_entry *entry, int fd)
{
	_cleanup_(freep)
	char *names = xcalloc(1, XATTRS_MAX);
	_cleanup_(freep)
	char *value = xcalloc(1, XATTRS_MAX);
	ssize_t n = flistxattr(fd, names, XATTRS_MAX), len;
	const char *p;

	for (p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		if (str_starts(p, "trusted.overlay.") ||
		    (len = fgetxattr(fd, p, value, XATTRS_MAX)) < 0)
			continue;
		archive_entry_xattr_add_entry(entry, p, value, (size_t)len);
	}
}

static int
copy_content(const struct copy *c, int fd, const char *name, struct err *err)
{
	ssize_t n;

	while ((n = read(fd, c->block, BLOCK)) > 0) {
		if (archive_write_data(c->out, c->block, (size_t)n) != n)
			return image_archive_err(err, c->out, "copy", name);
		c->count->bytes += (uint64_t)n;
	}
	return n < 0 ? read_failed(c, name, err) : 0;
}

/* fd: of the file or directory; -1: a link or what is left out. 1: written,
 * 0: left out. */
static int
write_entry(const struct copy *c, int dir, const char *base, int fd,
    const char *name, const struct stat *st, struct err *err)
{
	_cleanup_(entry_freep)
	struct archive_entry *entry = archive_entry_new();
	char target[PATH_MAX];
	ssize_t n;
	int r;

	archive_entry_copy_stat(entry, st);
	archive_entry_copy_pathname(entry, name);
	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dir, base, target, sizeof(target) - 1);
		if (n < 0)
			return read_failed(c, name, err);
		target[n] = '\0';
		archive_entry_copy_symlink(entry, target);
	}
	if (fd >= 0)
		copy_xattrs(entry, fd);
	if ((r = image_writer_prepare(entry, c->count, err)) <= 0)
		return r;
	if (archive_write_header(c->out, entry) < ARCHIVE_WARN)
		return image_archive_err(err, c->out, "copy", name);
	if (S_ISREG(st->st_mode) && (r = copy_content(c, fd, name, err)) < 0)
		return r;
	if (archive_write_finish_entry(c->out) < ARCHIVE_WARN)
		return image_archive_err(err, c->out, "copy", name);
	return 1;
}

static int copy_dir(
    const struct copy *c, int fd, const char *name, int depth, struct err *err);

static int
copy_one(const struct copy *c, int dir, const char *base, const char *name,
    int depth, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return read_failed(c, name, err);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(
		    dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			return read_failed(c, name, err);
	}
	r = write_entry(c, dir, base, fd, name, &st, err);
	if (r <= 0)
		return r;
	image_progress(c->count,
	    (double)c->count->entries / (double)c->count->total, "copying");
	if (!S_ISDIR(st.st_mode) || st.st_dev != c->dev)
		return 0;
	return copy_dir(c, fd, name, depth + 1, err);
}

static int
copy_dir(
    const struct copy *c, int fd, const char *name, int depth, struct err *err)
{
	_cleanup_(closedirp)
	DIR *dir = NULL;
	struct dirent *e;
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (depth > IMAGE_DEPTH_MAX)
		closep(&own), errno = ELOOP;
	if (own < 0 || (dir = fdopendir(own)) == NULL) {
		closep(&own);
		return read_failed(c, name, err);
	}
	while (errno = 0, (e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *sub = NULL;

		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		sub = str_eq(name, ".") ? xstrdup(e->d_name)
					: xasprintf("%s/%s", name, e->d_name);
		if ((r = copy_one(c, fd, e->d_name, sub, depth, err)) < 0)
			return r;
	}
	return errno != 0 ? read_failed(c, name, err) : 0;
}

int
image_copy(const char *source, const char *dir, struct image_count *count,
    struct err *err)
{
	_cleanup_(write_freep)
	struct archive *out = image_writer_new();
	_cleanup_(freep)
	char *block = xcalloc(1, BLOCK);
	_cleanup_(closep)
	int fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct copy c = { source, out, count, block, 0 };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", source);
	c.dev = st.st_dev;
	if ((r = image_writer_enter(dir, count, err)) < 0)
		return r;
	r = copy_one(&c, fd, ".", ".", 0, err);
	if (r == 0 && archive_write_close(out) != ARCHIVE_OK)
		r = image_archive_err(err, out, "copy", source);
	return r < 0 ? r : image_writer_leave(err);
}
