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
fs_read_file(
    const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct buf buf;
	ssize_t n;
	char *p;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, ERR_CONFIG, errno, "read %s", path);
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

int
fs_mkdirs(const char *path, mode_t mode, struct err *err)
{
	_cleanup_(freep)
	char *copy = xstrdup(path);
	char *p;

	for (p = copy + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return err_errno(
			    err, ERR_SYSTEM, errno, "make directory %s", copy);
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make directory %s", copy);
	return 0;
}

static int
remove_at(int dirfd, const char *name, dev_t dev)
{
	struct dirent *e;
	struct stat st;
	DIR *dir;
	int fd, r = 0;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dirfd, name, 0);
	if (dev != 0 && st.st_dev != dev) {
		errno = EXDEV;
		return -1;
	}
	fd = openat(
	    dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (dir = fdopendir(fd)) == NULL)
		return -1;
	while (r == 0 && (e = readdir(dir)) != NULL) {
		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		r = remove_at(fd, e->d_name, st.st_dev);
	}
	closedir(dir);
	return r < 0 ? r : unlinkat(dirfd, name, AT_REMOVEDIR);
}

int
fs_remove_tree(const char *path, struct err *err)
{
	if (remove_at(AT_FDCWD, path, 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "remove %s", path);
	return 0;
}

bool
fs_exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
