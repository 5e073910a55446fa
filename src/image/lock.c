/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who may do what to the store beside whom (image_priv.h), and what libostree
 * leaves to its callers there: the end of a transaction beside another one,
 * and what transactions that were killed have staged.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define STAGING      "staging-" /* libostree's, in <repo>/tmp */
#define STAGING_LOCK "-lock"

int
image_lock(const char *data_dir, enum image_lock lock, bool wait, int *ret_fd,
    struct err *err)
{
	static const struct {
		const char *dir;
		int how;
	} locks[] = {
		[IMAGE_LOCK_MAKE] = { "images", LOCK_EX },
		[IMAGE_LOCK_KEEP] = { "images/repo", LOCK_SH },
		[IMAGE_LOCK_REMOVE] = { "images/repo", LOCK_EX },
		[IMAGE_LOCK_COMMIT] = { "images/repo/objects", LOCK_EX },
	};
	_cleanup_(freep)
	char *dir = xasprintf("%s/%s", data_dir, locks[lock].dir);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0 || flock(fd, locks[lock].how | (wait ? 0 : LOCK_NB)) < 0) {
		r = err_errno(err, ERR_CONFLICT, errno, "lock %s", dir);
		closep(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* NULL: it can't be read, errno says why. */
static DIR *
open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL)
		closep(&fd);
	return d;
}

/* Is what the descriptor shows a directory of a transaction in tmp? */
static bool
is_staging(const char *fd, const struct stat *tmp)
{
	_cleanup_(freep)
	char *link = xasprintf("/proc/self/fd/%s", fd);
	_cleanup_(freep)
	char *above = xasprintf("%s/..", link);
	char path[4096];
	const char *name;
	struct stat st;
	ssize_t n = readlink(link, path, sizeof(path) - 1);

	if (n <= 0)
		return false;
	path[n] = '\0';
	name = strrchr(path, '/');
	return name != NULL && str_starts(name + 1, STAGING) &&
	       stat(above, &st) == 0 && st.st_dev == tmp->st_dev &&
	       st.st_ino == tmp->st_ino;
}

/* The directory in which this process's transaction collects its objects.
 * libostree doesn't tell, but holds it open. */
static int
find_staging(const char *data_dir, DIR **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/repo/tmp", data_dir);
	DIR *fds = opendir("/proc/self/fd"), *found = NULL;
	struct dirent *e;
	struct stat tmp;

	if (fds == NULL || stat(path, &tmp) < 0) {
		if (fds != NULL)
			closedir(fds);
		return err_errno(err, ERR_SYSTEM, errno, "look at %s", path);
	}
	while (found == NULL && (e = readdir(fds)) != NULL)
		if (is_staging(e->d_name, &tmp))
			found = open_dir(dirfd(fds), e->d_name);
	closedir(fds);
	if (found == NULL)
		return err_set(err, ERR_INTERNAL,
		    "this transaction's directory isn't in %s", path);
	*ret = found;
	return 0;
}

/* One of the 256 folders of objects. */
static int
drop_known(int staging, int objects, const char *name, struct err *err)
{
	DIR *d = open_dir(staging, name);
	struct dirent *e;
	int r = 0;

	if (d == NULL)
		return err_errno(
		    err, ERR_SYSTEM, errno, "read staged objects %s", name);
	while (r == 0 && (e = readdir(d)) != NULL) {
		char object[300];

		if (e->d_name[0] == '.')
			continue;
		snprintf(object, sizeof(object), "%s/%s", name, e->d_name);
		if (faccessat(objects, object, F_OK, AT_SYMLINK_NOFOLLOW) ==
			0 &&
		    unlinkat(staging, object, 0) < 0)
			r = err_errno(err, ERR_SYSTEM, errno,
			    "drop staged object %s", object);
	}
	closedir(d);
	return r;
}

/* What somebody else has brought since this transaction looked for it:
 * libostree would put ours in its place, and the checkouts that have it would
 * share its file with no other one any more. */
static int
drop_all_known(const char *data_dir, int objects, struct err *err)
{
	struct dirent *e;
	DIR *staging = NULL;
	int r = find_staging(data_dir, &staging, err);

	if (r < 0)
		return r;
	while (r == 0 && (e = readdir(staging)) != NULL)
		if (e->d_name[0] != '.' && strlen(e->d_name) == 2)
			r = drop_known(dirfd(staging), objects, e->d_name, err);
	closedir(staging);
	return r;
}

int
image_transaction_end(OstreeRepo *repo, const char *data_dir, struct err *err)
{
	_cleanup_(closep)
	int objects = -1;
	GError *error = NULL;
	int r;

	if ((r = image_lock(data_dir, IMAGE_LOCK_COMMIT, true, &objects, err)) <
		0 ||
	    (r = drop_all_known(data_dir, objects, err)) < 0)
		return r;
	return ostree_repo_commit_transaction(repo, NULL, NULL, &error)
		   ? 0
		   : image_gerr(err, ERR_SYSTEM, error, "end the transaction");
}

/* Takes the lock that libostree takes for a transaction that uses the
 * directory: 1, 0 if it is in use. */
static int
lock_staging(int tmp, const char *lock, int *ret_fd, struct err *err)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd =
	    openat(tmp, lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", lock);
	/* One without a name was left by who held it until now. */
	if (fcntl(fd, F_OFD_SETLK, &whole) < 0 || fstat(fd, &st) < 0 ||
	    st.st_nlink == 0) {
		closep(&fd);
		return 0;
	}
	*ret_fd = fd;
	return 1;
}

static int
drop_one_staging(const struct fs_entry *e, void *arg, struct err *err)
{
	_cleanup_(freep)
	char *lock = xasprintf("%s" STAGING_LOCK, e->name);
	_cleanup_(closep)
	int fd = -1;
	int r;

	if (!str_starts(e->name, STAGING) || str_ends(e->name, STAGING_LOCK))
		return 0;
	if ((r = lock_staging(e->dirfd, lock, &fd, err)) <= 0)
		return r;
	r = fs_remove_tree(e->path, err);
	unlinkat(e->dirfd, lock, 0);
	return r;
}

int
image_staging_clear(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/images/repo/tmp", data_dir);

	return fs_each_entry(path, drop_one_staging, NULL, err);
}
