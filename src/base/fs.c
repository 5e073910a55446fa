/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

int
fs_read_fd(int fd, const char *path, size_t max, char **ret, size_t *ret_len,
    struct err *err)
{
	struct buf buf;
	ssize_t n;
	char *p;
	int r;

	buf_init(&buf, max + 2);
	while ((p = buf_reserve(&buf, 1)) != NULL) {
		size_t room = buf.cap - buf.start - buf.len;

		if (room > max + 1 - buf.len)
			room = max + 1 - buf.len;
		if (room == 0)
			break;
		n = read(fd, p, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = err_errno(err, ERR_SYSTEM, errno, "read %s", path);
			buf_done_secret(&buf);
			return r;
		}
		if (n == 0)
			break;
		buf_commit(&buf, (size_t)n);
	}
	if (buf_len(&buf) > max) {
		buf_done_secret(&buf);
		return err_set(err, ERR_TOO_LARGE,
		    "read %s: longer than %zu bytes", path, max);
	}
	if (ret_len != NULL)
		*ret_len = buf_len(&buf);
	buf_append(&buf, "", 1);
	*ret = buf.data; /* never consumed, so it starts at 0 */
	return 0;
}

int
fs_read_file(
    const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, ERR_CONFIG, errno, "read %s", path);
	return fs_read_fd(fd, path, max, ret, ret_len, err);
}

static int
write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
fs_write_file(const char *path, const void *data, size_t len, mode_t mode,
    struct err *err)
{
	_cleanup_(freep)
	char *tmp = NULL;
	_cleanup_(closep)
	int fd = -1;
	char suffix[9];
	int r;

	str_random(suffix, sizeof(suffix) - 1);
	tmp = xasprintf("%s.%s", path, suffix);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "write %s", path);
	/* fchmod because the umask may have narrowed the mode. */
	if (fchmod(fd, mode) < 0 || write_all(fd, data, len) < 0 ||
	    fsync(fd) < 0 || rename(tmp, path) < 0) {
		r = err_errno(err, ERR_SYSTEM, errno, "write %s", path);
		unlink(tmp);
		return r;
	}
	return 0;
}

static bool
is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int
make_dir(const char *path, mode_t mode, struct err *err)
{
	if (mkdir(path, mode) == 0) {
		/* chmod because the umask may have narrowed the mode. */
		if (chmod(path, mode) == 0)
			return 0;
	} else if (errno == EEXIST) {
		if (is_directory(path))
			return 0;
		errno = ENOTDIR;
	}
	return err_errno(err, ERR_SYSTEM, errno, "make directory %s", path);
}

/* Up to what is there, and down again: nearly always only the last one is
 * missing. */
int
fs_mkdirs(const char *path, mode_t mode, struct err *err)
{
	_cleanup_(freep)
	char *copy = xstrdup(path);
	size_t whole = strlen(copy), len;
	char *p;
	int r;

	if (is_directory(path))
		return 0;
	while ((p = strrchr(copy, '/')) != NULL && p != copy) {
		*p = '\0';
		if (is_directory(copy))
			break;
	}
	for (;;) {
		if ((r = make_dir(copy, mode, err)) < 0)
			return r;
		if ((len = strlen(copy)) == whole)
			return 0;
		copy[len] = '/';
	}
}

/* How deep remove_at() descends before it moves what is below up to the top
 * of the tree: a desktop's user can nest directories without end, and each
 * level costs a descriptor and stack. */
#define REMOVE_DEPTH 64

struct removal {
	int top; /* the directory being removed */
	dev_t dev;
	unsigned moved; /* number of the next one moved up */
	bool again;     /* something was moved up */
};

static int remove_at(
    struct removal *rm, int dirfd, const char *name, int depth);

/* Everything in the directory; takes over fd. */
static int
remove_content(struct removal *rm, int fd, int depth)
{
	struct dirent *e;
	DIR *dir = fdopendir(fd);
	int r = 0, saved;

	if (dir == NULL) {
		closep(&fd);
		return -1;
	}
	while (r == 0 && (e = readdir(dir)) != NULL) {
		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		r = remove_at(rm, fd, e->d_name, depth);
	}
	saved = errno;
	closedir(dir);
	errno = saved;
	return r;
}

static int
move_up(struct removal *rm, int dirfd, const char *name)
{
	char to[32];

	do {
		snprintf(to, sizeof(to), ".deep%u", rm->moved++);
		if (renameat2(dirfd, name, rm->top, to, RENAME_NOREPLACE) ==
		    0) {
			rm->again = true;
			return 0;
		}
	} while (errno == EEXIST);
	return -1;
}

static int
remove_at(struct removal *rm, int dirfd, const char *name, int depth)
{
	struct stat st;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dirfd, name, 0);
	if (st.st_dev != rm->dev) {
		errno = EXDEV;
		return -1;
	}
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (depth >= REMOVE_DEPTH)
		return move_up(rm, dirfd, name);
	fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || remove_content(rm, fd, depth + 1) < 0)
		return -1;
	return unlinkat(dirfd, name, AT_REMOVEDIR);
}

static int
remove_tree(const char *path)
{
	_cleanup_(closep)
	int top = -1;
	struct removal rm = { 0 };
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISDIR(st.st_mode))
		return unlink(path);
	top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0)
		return -1;
	rm.top = top;
	rm.dev = st.st_dev;
	do {
		rm.again = false;
		fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || remove_content(&rm, fd, 0) < 0)
			return -1;
	} while (rm.again);
	return rmdir(path);
}

int
fs_remove_tree(const char *path, struct err *err)
{
	if (remove_tree(path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "remove %s", path);
	return 0;
}

bool
fs_exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int
each_entry(DIR *d, const char *dir, fs_entry_cb fn, void *arg, struct err *err)
{
	const struct dirent *e;
	int r = 0;

	while (r >= 0 && (errno = 0, e = readdir(d)) != NULL) {
		_cleanup_(freep)
		char *path = NULL;

		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		path = xasprintf("%s/%s", dir, e->d_name);
		r = fn(
		    &(struct fs_entry){ dirfd(d), e->d_name, path }, arg, err);
	}
	if (r >= 0 && errno != 0)
		return err_errno(err, ERR_SYSTEM, errno, "list %s", dir);
	return r;
}

int
fs_each_entry_of(
    int fd, const char *dir, fs_entry_cb fn, void *arg, struct err *err)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	int r;

	if (d == NULL) {
		r = err_errno(err, ERR_SYSTEM, errno, "list %s", dir);
		closep(&own);
		return r;
	}
	r = each_entry(d, dir, fn, arg, err);
	closedir(d);
	return r;
}

int
fs_each_entry(const char *dir, fs_entry_cb fn, void *arg, struct err *err)
{
	_cleanup_(closep)
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT
			   ? 0
			   : err_errno(err, ERR_SYSTEM, errno, "list %s", dir);
	return fs_each_entry_of(fd, dir, fn, arg, err);
}
