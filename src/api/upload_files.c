/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "api/upload_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define MB (1000 * 1000)

int
upload_dir_open(const char *data_dir, const struct proc_user *owner,
    int *ret_dir, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/" UPLOAD_FOLDER, data_dir);
	_cleanup_(closep)
	int fd = -1;
	int r;

	/* The other daemons' folders are beside it. */
	if ((r = fs_mkdirs(data_dir, 0755, err)) < 0 ||
	    (r = fs_mkdirs(path, 0700, err)) < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 ||
	    (geteuid() == 0 && fchown(fd, owner->uid, owner->gid) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "open %s", path);
	*ret_dir = take_fd(&fd);
	return 0;
}

const char *
upload_file_name(struct arena *arena, int64_t id, const char *name)
{
	return arena_printf(arena, "%" PRId64 "-%s", id, name);
}

/* Asked first, because fallocate(2) may fill a disk before it says that it is
 * full; what a sparse file has been given already is in st_blocks. */
static int
take_room(int fd, int64_t size, const struct stat *st)
{
	int64_t missing = size - st->st_blocks * 512;
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0)
		return -1;
	if (missing > 0 && fs.f_bavail * fs.f_frsize < (uint64_t)missing) {
		errno = ENOSPC;
		return -1;
	}
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) < 0 &&
		       errno != EOPNOTSUPP
		   ? -1
		   : 0;
}

int
upload_reserve(
    int dir, const char *file, int64_t size, int64_t *ret_have, struct err *err)
{
	_cleanup_(closep)
	int fd = openat(
	    dir, file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make the file of an upload");
	*ret_have = st.st_size;
	if (take_room(fd, size, &st) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "take room for %" PRId64 " MB", size / MB);
	return 0;
}

int
upload_write(int dir, const char *file, int64_t offset, const char *data,
    size_t len, struct err *err)
{
	_cleanup_(closep)
	int fd = openat(dir, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "open the file of an upload");
	while (len > 0) {
		n = pwrite(fd, data, len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "write an upload");
		data += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}

/* 0: it is no upload's. */
static int64_t
id_of(const char *file)
{
	const char *end = strchr(file, '-');
	char digits[24];
	int64_t id;

	if (end == NULL || (size_t)(end - file) >= sizeof(digits))
		return 0;
	str_copy(digits, (size_t)(end - file) + 1, file);
	return str_to_i64(digits, 1, INT32_MAX, &id) ? id : 0;
}

struct ids {
	int64_t *v;
	size_t n;
};

static int
add_id(const struct fs_entry *e, void *arg, struct err *err)
{
	struct ids *ids = arg;
	int64_t id = id_of(e->name);

	if (id == 0)
		return 0;
	ids->v = xrealloc(ids->v, ids->n + 1, sizeof(*ids->v));
	ids->v[ids->n++] = id;
	return 0;
}

int
upload_ids(int dir, int64_t **ret, size_t *ret_n, struct err *err)
{
	struct ids ids = { NULL, 0 };
	int r = fs_each_entry_of(dir, UPLOAD_FOLDER, add_id, &ids, err);

	if (r < 0) {
		free(ids.v);
		return r;
	}
	*ret = ids.v;
	*ret_n = ids.n;
	return 0;
}

static int
remove_if(const struct fs_entry *e, void *arg, struct err *err)
{
	const int64_t *id = arg;

	if (id_of(e->name) == *id && unlinkat(e->dirfd, e->name, 0) < 0 &&
	    errno != ENOENT)
		return err_errno(err, ERR_SYSTEM, errno, "remove %s", e->path);
	return 0;
}

int
upload_remove(int dir, int64_t id, struct err *err)
{
	return fs_each_entry_of(dir, UPLOAD_FOLDER, remove_if, &id, err);
}
