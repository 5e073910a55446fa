/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A directory as source of a tree: walked by descriptors, links not
 * followed, other file systems not entered. Names that belong to one inode
 * are read twice; the repository makes one object of them again.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/openat2.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define XATTRS_MAX (64 * 1024)

struct walk {
	struct image_tree *tree;
	const char *source;
	uint64_t before, total; /* entries, for the percents */
	dev_t dev;
	bool as_it_was; /* of the image below the desktop */
};

struct reader {
	const struct walk *walk;
	const char *path;
	int fd;
	uint64_t size, done;
};

static void
variant_unrefp(GVariant **v)
{
	if (*v != NULL)
		g_variant_unref(*v);
}

static void
closedirp(DIR **d)
{
	if (*d != NULL)
		closedir(*d);
}

static int
read_failed(const struct walk *w, const char *path, struct err *err)
{
	return err_errno(err, ERR_SYSTEM, errno, "read %s/%s", w->source, path);
}

static void
tell(const struct walk *w, double of_next)
{
	double done = (double)(w->tree->entries - w->before) + of_next;

	image_progress(w->tree, done / (double)w->total, 95,
	    w->tree->import->file_as != NULL ? "reading the disk"
					     : "reading the directory");
}

/* A large file is a step of its own. */
static ssize_t
read_fd(void *buf, size_t size, void *arg, struct err *err)
{
	struct reader *rd = arg;
	ssize_t n;

	do
		n = read(rd->fd, buf, size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return read_failed(rd->walk, rd->path, err);
	rd->done += (uint64_t)n;
	if (rd->done < rd->size)
		tell(rd->walk, (double)rd->done / (double)rd->size - 1);
	return n;
}

/* Users and groups that it names (linux/posix_acl_xattr.h), as the desktop sees
 * them. */
static void
portable_acl(char *value, size_t len, uid_t id_base)
{
	struct posix_acl_xattr_entry e;
	size_t at;
	uint32_t id;

	for (at = sizeof(struct posix_acl_xattr_header); at + sizeof(e) <= len;
	     at += sizeof(e)) {
		memcpy(&e, value + at, sizeof(e));
		id = le32toh(e.e_id);
		if ((le16toh(e.e_tag) != ACL_USER &&
			le16toh(e.e_tag) != ACL_GROUP) ||
		    id < id_base)
			continue;
		e.e_id = htole32(id - id_base);
		memcpy(value + at, &e, sizeof(e));
	}
}

/* Capabilities that a desktop's root has set are its own user namespace's:
 * version 3, with the id of that root (linux/capability.h). In an image they
 * are version 2, for whoever runs it. */
static size_t
portable_xattr(const char *name, char *value, size_t len, uid_t id_base)
{
	if (str_starts(name, "system.posix_acl_"))
		portable_acl(value, len, id_base);
	if (!str_eq(name, "security.capability") || len != 24 || value[3] != 3)
		return len;
	value[3] = 2;
	return 20;
}

static GVariant *
xattrs_of(int fd, uid_t id_base)
{
	_cleanup_(freep)
	char *names = NULL;
	_cleanup_(freep)
	char *value = NULL;
	struct image_xattrs xattrs = { 0 };
	ssize_t n = flistxattr(fd, NULL, 0), len;
	const char *p;

	if (n <= 0)
		return NULL;
	names = xcalloc(1, XATTRS_MAX);
	value = xcalloc(1, XATTRS_MAX);
	n = flistxattr(fd, names, XATTRS_MAX);
	for (p = names; n > 0 && p < names + n; p += strlen(p) + 1)
		if ((len = fgetxattr(fd, p, value, XATTRS_MAX)) >= 0)
			image_xattrs_add(&xattrs, p, value,
			    portable_xattr(p, value, (size_t)len, id_base));
	return image_xattrs_end(&xattrs);
}

/* fd: of a file or directory, else -1. */
static int
add_entry(const struct walk *w, int dir, const char *base, int fd,
    const char *path, const struct stat *st, struct err *err)
{
	const struct image_import *import = w->tree->import;
	_cleanup_(variant_unrefp)
	GVariant *xattrs = fd < 0 ? NULL : xattrs_of(fd, import->id_base);
	struct reader reader = { w, path, fd, (uint64_t)st->st_size, 0 };
	char target[PATH_MAX];
	struct image_entry e = {
		.path = path,
		.uid = st->st_uid - import->id_base,
		.gid = st->st_gid - import->id_base,
		.mode = st->st_mode,
		.size = (uint64_t)st->st_size,
		.target = target,
		.xattrs = xattrs,
	};
	ssize_t n;

	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dir, base, target, sizeof(target) - 1);
		if (n < 0)
			return read_failed(w, path, err);
		target[n] = '\0';
	}
	if (import->is_desktop &&
	    (st->st_uid < import->id_base || st->st_gid < import->id_base))
		return err_set(err, ERR_IMAGE,
		    "%s/%s belongs to a user of the node, not of the desktop",
		    w->source, path);
	if (import->is_desktop && S_ISREG(st->st_mode) &&
	    image_is_account_file(path))
		return image_add_accounts(w->tree, &e, read_fd, &reader, err);
	return image_tree_add(w->tree, &e, read_fd, &reader, err);
}

static int walk_dir(
    const struct walk *w, int fd, const char *path, struct err *err);

/* *ret_fd: of a file or directory, which the caller closes. */
static int
take(const struct walk *w, int dir, const char *base, const char *path,
    struct stat *st, int *ret_fd, struct err *err)
{
	int r;

	if (fstatat(dir, base, st, AT_SYMLINK_NOFOLLOW) < 0)
		return read_failed(w, path, err);
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) {
		*ret_fd = openat(
		    dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (*ret_fd < 0 || fstat(*ret_fd, st) < 0)
			return read_failed(w, path, err);
	}
	if ((r = add_entry(w, dir, base, *ret_fd, path, st, err)) == 0)
		tell(w, 0);
	return r;
}

static int walk_one(const struct walk *w, int dir, const char *base,
    const char *path, struct err *err);

/* What the node or the run has made of it stays what the desktop's image had
 * there, or nothing. That image's links may lead anywhere. */
static int
take_as_it_was(const struct walk *w, const char *path, struct err *err)
{
	const struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	const char *base = strrchr(path, '/') + 1;
	_cleanup_(freep)
	char *above = xstrndup(path, (size_t)(base - path));
	struct walk was = *w;
	_cleanup_(closep)
	int under = -1;
	_cleanup_(closep)
	int dir = -1;
	struct stat st;

	was.source = w->tree->import->under;
	was.as_it_was = true;
	under = open(was.source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (under < 0 || fstat(under, &st) < 0)
		return read_failed(&was, path, err);
	was.dev = st.st_dev;
	dir = (int)syscall(SYS_openat2, under, above, &how, sizeof(how));
	if (dir < 0 || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return walk_one(&was, dir, base, path, err);
}

/* Is it not the desktop's own, and so as it was in its image? */
static bool
is_as_it_was(const struct walk *w, const char *path)
{
	return w->tree->import->under != NULL && !w->as_it_was &&
	       (image_is_of_node(path) || image_is_passing(path));
}

static int
walk_one(const struct walk *w, int dir, const char *base, const char *path,
    struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if (is_as_it_was(w, path))
		return take_as_it_was(w, path, err);
	if ((r = take(w, dir, base, path, &st, &fd, err)) < 0)
		return r;
	return S_ISDIR(st.st_mode) && st.st_dev == w->dev
		   ? walk_dir(w, fd, path, err)
		   : 0;
}

/* How deep it may go is limited by image_tree_add(). */
static int
walk_dir(const struct walk *w, int fd, const char *path, struct err *err)
{
	_cleanup_(closedirp)
	DIR *dir = NULL;
	struct dirent *e;
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (own < 0 || (dir = fdopendir(own)) == NULL) {
		closep(&own);
		return read_failed(w, path, err);
	}
	while (errno = 0, (e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *sub = NULL;

		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		sub = xasprintf("%s/%s", path, e->d_name);
		if ((r = walk_one(w, fd, e->d_name, sub, err)) < 0)
			return r;
	}
	return errno != 0 ? read_failed(w, path, err) : 0;
}

static uint64_t n_counted; /* nftw() has no argument for its callback */

static int
count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return ++n_counted > IMAGE_ENTRIES_MAX || ftw->level > IMAGE_DEPTH_MAX;
}

/* How many files there are, for the percents; refuses what is too much. */
static int
count_entries(const char *dir, uint64_t *ret, struct err *err)
{
	int r;

	n_counted = 0;
	r = nftw(dir, count_one, 64, FTW_PHYS | FTW_MOUNT);
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", dir);
	if (r > 0)
		return err_set(err, ERR_TOO_LARGE,
		    "it has more than %d files, or is more than %d "
		    "directories deep",
		    IMAGE_ENTRIES_MAX, IMAGE_DEPTH_MAX);
	*ret = n_counted;
	return 0;
}

int
image_add_directory(
    struct image_tree *tree, const char *source, struct err *err)
{
	_cleanup_(closep)
	int fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct walk w = { .tree = tree, .source = source };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", source);
	w.dev = st.st_dev;
	if ((r = count_entries(source, &w.total, err)) < 0)
		return r;
	return walk_one(&w, fd, ".", ".", err);
}

int
image_add_file(struct image_tree *tree, const char *source, const char *as,
    struct err *err)
{
	_cleanup_(closep)
	int fd = open(source, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct walk w = { .tree = tree, .source = source };
	struct reader reader = { &w, "", fd, 0, 0 };
	const struct image_entry top = { .path = ".", .mode = S_IFDIR | 0755 };
	struct image_entry e = { .path = as, .mode = S_IFREG | 0644 };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read %s", source);
	e.size = reader.size = (uint64_t)st.st_size;
	/* An image has one disk, whatever its form was before. */
	if (tree->import->base != NULL
		? (r = image_tree_remove(tree, "disk.raw", false, err)) < 0
		: (r = image_tree_add(tree, &top, NULL, NULL, err)) < 0)
		return r;
	w.before = tree->entries;
	w.total = 1;
	return image_tree_add(tree, &e, read_fd, &reader, err);
}
