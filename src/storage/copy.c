/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* One stretch of data, [*at, end). */
static int
copy_range(int in, int out, off_t at, off_t end)
{
	off_t to = at;

	while (at < end) {
		ssize_t n =
		    copy_file_range(in, &at, out, &to, (size_t)(end - at), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter */
	}
	return 0;
}

static int
copy_sparse(int in, int out, off_t size)
{
	off_t at = 0, end;
	int r;

	while (at < size) {
		at = lseek(in, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0
					      : -errno; /* a hole, the rest */
		end = lseek(in, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		if ((r = copy_range(in, out, at, end)) < 0)
			return r;
		at = end;
	}
	return 0;
}

static int
copy_content(int in, int out, bool in_use, const char *from, struct err *err)
{
	struct stat st;
	int r;

	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	if (in_use)
		return err_set(err, ERR_CONFLICT,
		    "%s is in use, and its disk can't share extents (XFS and "
		    "btrfs can), so a copy would not be of one moment; stop "
		    "the VM first",
		    from);
	if (fstat(in, &st) < 0 || ftruncate(out, st.st_size) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "copy %s", from);
	r = copy_sparse(in, out, st.st_size);
	return r < 0 ? err_errno(err, ERR_SYSTEM, -r, "copy %s", from) : 0;
}

int
copy_file(const char *from, const char *to, bool in_use, struct err *err)
{
	_cleanup_(closep)
	int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_(closep)
	int out = -1;
	int r;

	if (in < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", from);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", to);
	r = copy_content(in, out, in_use, from, err);
	if (r == 0 && fsync(out) < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "write %s", to);
	if (r < 0)
		unlink(to);
	return r;
}
