/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

int
image_gerr(
    struct err *err, enum err_code code, GError *error, const char *fmt, ...)
{
	char what[256];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* libostree refuses a nearly full disk before it is full, and only
	 * its words say so. */
	if (error != NULL &&
	    (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE) ||
		strstr(error->message, "min-free-space") != NULL ||
		strstr(error->message, strerror(ENOSPC)) != NULL))
		code = ERR_NO_SPACE;
	r = err_set(err, code, "%s: %s", what,
	    error == NULL ? "unknown error" : error->message);
	if (error != NULL)
		g_error_free(error);
	return r;
}

void
image_unref(void *pp)
{
	g_clear_object((GObject **)pp);
}

int
image_open_file(const char *path, int flags, int *ret_fd, struct stat *ret_st,
    struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);

	if (fd < 0 || fstat(fd, ret_st) < 0)
		return err_errno(err, ERR_NOT_FOUND, errno, "open %s", path);
	if (!S_ISREG(ret_st->st_mode))
		return err_set(err, ERR_IMAGE, "%s is no file", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int
image_repo_open(const char *data_dir, OstreeRepo **ret, struct err *err)
{
	_cleanup_(freep)
	char *images = xasprintf("%s/images", data_dir);
	_cleanup_(freep)
	char *path = xasprintf("%s/repo", images);
	GError *error = NULL;
	OstreeRepo *repo;
	int r;

	if ((r = fs_mkdirs(images, 0755, err)) < 0)
		return r;
	repo = ostree_repo_create_at(
	    AT_FDCWD, path, OSTREE_REPO_MODE_BARE, NULL, NULL, &error);
	if (repo == NULL)
		return image_gerr(err, ERR_SYSTEM, error,
		    "open the image repository %s", path);
	*ret = repo;
	return 0;
}

static int
remove_other(const struct fs_entry *e, void *arg, struct err *err)
{
	return e->name[0] == '.' ? 0 : fs_remove_tree(e->path, err);
}

int
image_tmp_open(const char *data_dir, bool wait, bool make,
    struct image_tmp *ret, struct err *err)
{
	struct image_tmp tmp = { .lock = -1 };
	_cleanup_(freep)
	char *dir = xasprintf("%s/images/tmp", data_dir);
	char name[9];
	int r;

	if ((r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	tmp.lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tmp.lock < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open %s", dir);
	if (flock(tmp.lock, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0) {
		r = err_errno(err, ERR_CONFLICT, errno, "lock %s", dir);
		image_tmp_done(&tmp);
		return r;
	}
	if ((r = fs_each_entry(dir, remove_other, NULL, err)) < 0) {
		image_tmp_done(&tmp);
		return r;
	}
	if (make) {
		str_random(name, sizeof(name) - 1);
		tmp.path = xasprintf("%s/%s", dir, name);
		if (mkdir(tmp.path, 0700) < 0) {
			r = err_errno(
			    err, ERR_SYSTEM, errno, "make %s", tmp.path);
			image_tmp_done(&tmp);
			return r;
		}
	}
	*ret = tmp;
	return 0;
}

void
image_tmp_done(struct image_tmp *tmp)
{
	if (tmp->path != NULL)
		fs_remove_tree(tmp->path, NULL);
	free(tmp->path);
	closep(&tmp->lock);
	*tmp = (struct image_tmp){ .lock = -1 };
}

int
image_work_clear(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/images/import", data_dir);

	return fs_exists(dir) ? fs_remove_tree(dir, err) : 0;
}

int
image_work_make(const char *data_dir, char **ret_path, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/images/import", data_dir);
	int r;

	if ((r = image_work_clear(data_dir, err)) < 0 ||
	    (r = fs_mkdirs(dir, 0700, err)) < 0)
		return r;
	*ret_path = take_ptr(dir);
	return 0;
}

int
image_tidy(const char *data_dir, struct err *err)
{
	struct image_tmp tmp;
	_cleanup_(closep)
	int lock = -1;
	int r;

	r = image_tmp_open(data_dir, false, false, &tmp, err);
	if (r == 0)
		image_tmp_done(&tmp);
	else if (r != -(int)ERR_CONFLICT)
		return r;
	if (image_lock(data_dir, IMAGE_LOCK_MAKE, false, &lock, NULL) == 0 &&
	    (r = image_work_clear(data_dir, err)) < 0)
		return r;
	if ((r = image_staging_clear(data_dir, err)) < 0)
		return r;
	return image_exports_collect(
	    data_dir, false, &(struct image_garbage){ .bytes = 0 }, err);
}

void
image_progress(struct image_tree *tree, double part, int to, const char *text)
{
	int percent = (int)(to * (part > 1 ? 1 : part));

	if (percent < tree->percent)
		percent = tree->percent;
	if (percent == tree->percent && text == tree->step)
		return;
	tree->percent = percent;
	tree->step = text;
	if (tree->import->progress != NULL)
		tree->import->progress(percent, text, tree->import->arg);
}
