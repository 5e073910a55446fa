/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#define SKEL_DEPTH   32
#define SKEL_ENTRIES 20000
/* Every file system and partition table leaves a mark in one of these. */
#define PROBE_BYTES (1024 * 1024)

struct copy {
	uid_t uid;
	gid_t gid;
	int entries;
	int depth;
};

static int copy_dir(int from, int to, struct copy *c, struct err *err);

static int
copy_bytes(int from, int to)
{
	char chunk[65536];
	ssize_t n, w, done;

	while ((n = read(from, chunk, sizeof(chunk))) != 0) {
		if (n < 0)
			return -1;
		for (done = 0; done < n; done += w) {
			w = write(to, chunk + done, (size_t)(n - done));
			if (w < 0)
				return -1;
		}
	}
	return 0;
}

static int
copy_file(int from, int to, const char *name, const struct stat *st,
    const struct copy *c)
{
	_cleanup_(closep)
	int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(closep)
	int out = openat(to, name,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	/* The owner first: a change of owner clears mode bits. */
	return in < 0 || out < 0 || copy_bytes(in, out) < 0 ||
		       fchown(out, c->uid, c->gid) < 0 ||
		       fchmod(out, st->st_mode & 0777) < 0
		   ? -1
		   : 0;
}

static int
copy_link(int from, int to, const char *name, const struct copy *c)
{
	char target[4096];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ||
		       fchownat(to, name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW) <
			   0
		   ? -1
		   : 0;
}

static int
copy_subdir(int from, int to, const char *name, const struct stat *st,
    struct copy *c, struct err *err)
{
	_cleanup_(closep)
	int in =
	    openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(closep)
	int out = -1;
	int r;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "copy '%s'", name);
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return err_errno(err, ERR_SYSTEM, errno, "copy '%s'", name);
	if (++c->depth > SKEL_DEPTH)
		return err_set(err, ERR_TOO_LARGE,
		    "'%s' is deeper than %d directories", name, SKEL_DEPTH);
	r = copy_dir(in, out, c, err);
	c->depth--;
	if (r == 0 && (fchown(out, c->uid, c->gid) < 0 ||
			  fchmod(out, st->st_mode & 0777) < 0))
		r = err_errno(err, ERR_SYSTEM, errno, "copy '%s'", name);
	return r;
}

static int
copy_entry(int from, int to, const char *name, struct copy *c, struct err *err)
{
	struct stat st;
	int r = 0;

	if (++c->entries > SKEL_ENTRIES)
		return err_set(err, ERR_TOO_LARGE,
		    "the skeleton has more than %d files", SKEL_ENTRIES);
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "copy '%s'", name);
	if (S_ISDIR(st.st_mode))
		return copy_subdir(from, to, name, &st, c, err);
	if (S_ISREG(st.st_mode))
		r = copy_file(from, to, name, &st, c);
	else if (S_ISLNK(st.st_mode))
		r = copy_link(from, to, name, c);
	/* Sockets, pipes and devices have no place in a home. */
	if (r < 0)
		return err_errno(err, ERR_SYSTEM, errno, "copy '%s'", name);
	return 0;
}

/* from stays the caller's. */
static int
copy_dir(int from, int to, struct copy *c, struct err *err)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (dir == NULL) {
		closep(&fd);
		return err_errno(err, ERR_SYSTEM, errno, "read the skeleton");
	}
	while (r == 0 && (e = readdir(dir)) != NULL) {
		if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
			r = copy_entry(from, to, e->d_name, c, err);
	}
	closedir(dir);
	return r;
}

static int
check_existing(int base, const char *name, const struct user_account *user,
    struct err *err)
{
	struct stat st;

	if (fstatat(base, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 1
				       : err_errno(err, ERR_SYSTEM, errno,
					     "look at '%s'", user->home);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_CONFLICT,
		    "the home '%s' is no directory: move it away", user->home);
	if (st.st_uid != user->uid)
		return err_set(err, ERR_CONFLICT,
		    "the home '%s' belongs to uid %u, not to '%s' (%u): give "
		    "it to its user with chown, or give the user its uid",
		    user->home, (unsigned)st.st_uid, user->name,
		    (unsigned)user->uid);
	return 0;
}

static int
fill(int home, const char *skel, const struct user_account *user,
    struct err *err)
{
	struct copy c = { .uid = user->uid, .gid = user->gid };
	_cleanup_(closep)
	int from = open(skel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (from < 0 && errno != ENOENT)
		return err_errno(err, ERR_SYSTEM, errno, "read '%s'", skel);
	if (from >= 0 && (r = copy_dir(from, home, &c, err)) < 0)
		return r;
	if (fchown(home, user->uid, user->gid) < 0 || fchmod(home, 0700) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "give away '%s'", user->home);
	return 0;
}

int
home_make(const struct user_account *user, const char *skel, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrdup(user->home);
	_cleanup_(freep)
	char *tmp = NULL;
	_cleanup_(freep)
	char *tmp_path = NULL;
	_cleanup_(closep)
	int base = -1;
	_cleanup_(closep)
	int home = -1;
	char *name = strrchr(dir, '/');
	int r;

	if (name == NULL || name[1] == '\0')
		return err_set(err, ERR_IMAGE,
		    "the user '%s' has no home in the image's passwd",
		    user->name);
	*name++ = '\0';
	if ((r = fs_mkdirs(dir[0] == '\0' ? "/" : dir, 0755, err)) < 0)
		return r;
	base = open(dir[0] == '\0' ? "/" : dir,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (base < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", dir);
	if ((r = check_existing(base, name, user, err)) <= 0)
		return r;
	/* What an interrupted try left goes first. */
	tmp = xasprintf(".%s.new", name);
	tmp_path = xasprintf("%s/%s", dir, tmp);
	if ((r = fs_remove_tree(tmp_path, err)) < 0)
		return r;
	if (mkdirat(base, tmp, 0700) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make the home '%s'", user->home);
	home =
	    openat(base, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (home < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "open '%s'", tmp);
	else if ((r = fill(home, skel, user, err)) == 0 &&
		 renameat(base, tmp, base, name) < 0)
		r = err_errno(err, ERR_SYSTEM, errno, "name it");
	if (r < 0) {
		fs_remove_tree(tmp_path, NULL);
		return err_wrap(err, r, "make the home '%s'", user->home);
	}
	return 1;
}

static bool
is_mount_point(const char *path)
{
	_cleanup_(freep)
	char *up = xasprintf("%s/..", path);
	struct stat a, b;

	return stat(path, &a) == 0 && stat(up, &b) == 0 && a.st_dev != b.st_dev;
}

static int
region_blank(int fd, off_t at, bool *blank)
{
	static const char zero[4096];
	char chunk[4096];
	off_t end = at + PROBE_BYTES;
	ssize_t n = 0;

	for (; *blank && at < end; at += n) {
		n = pread(fd, chunk, sizeof(chunk), at);
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		*blank = memcmp(chunk, zero, (size_t)n) == 0;
	}
	return 0;
}

static int
device_blank(const char *device, struct err *err)
{
	_cleanup_(closep)
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	bool blank = true;
	off_t size;

	if (fd < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "open the homes' device '%s'", device);
	size = lseek(fd, 0, SEEK_END);
	if (size < 0 || region_blank(fd, 0, &blank) < 0 ||
	    (size > PROBE_BYTES &&
		region_blank(fd, size - PROBE_BYTES, &blank) < 0))
		return err_errno(err, ERR_SYSTEM, errno,
		    "read the homes' device '%s'", device);
	return blank;
}

static int
run_mkfs(const char *device, const char *fs, struct err *err)
{
	_cleanup_(freep)
	char *program = xasprintf("/sbin/mkfs.%s", fs);
	int status = -1;
	pid_t pid;

	if (!str_is_name(fs, 16))
		return err_set(err, ERR_CONFIG, "home.fs is no file system");
	pid = fork();
	if (pid < 0)
		return err_errno(err, ERR_SYSTEM, errno, "fork");
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execl(program, program, "-q", device, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(err, ERR_IMAGE,
		    "the image has no %s to format the homes' device '%s'",
		    program, device);
	if (status != 0)
		return err_set(
		    err, ERR_SYSTEM, "%s failed on '%s'", program, device);
	return 0;
}

int
home_mount(
    const char *device, const char *fs, const char *path, struct err *err)
{
	int r = fs_mkdirs(path, 0755, err);

	if (r < 0 || is_mount_point(path))
		return r;
	if ((r = device_blank(device, err)) < 0 ||
	    (r > 0 && (r = run_mkfs(device, fs, err)) < 0))
		return r;
	if (mount(device, path, fs, MS_NOSUID | MS_NODEV, NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "mount the homes' device '%s' at '%s' as %s", device, path,
		    fs);
	return 0;
}
