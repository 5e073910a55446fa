/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/unfinished.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "storage/home_priv.h"

#define NEW ".new"
#define OLD ".old" /* changes to an image that are being removed (root.c) */

struct walk {
	const char *data_dir;
	unfinished_cb cb;
	void *arg;
	bool ended;
};

/* Of homes/7.img, or of vms/7 and what is in it: the number there. */
static int64_t
owner(const char *name)
{
	long long id = strtoll(strchr(name, '/') + 1, NULL, 10);

	return id > 0 ? id : 0;
}

/* A snapshot may be called whatever.old. */
static bool
is_rest(const char *name)
{
	return str_ends(name, NEW) ||
	       (str_starts(name, "vms/") && str_ends(name, OLD));
}

/* In the directory `name`, and as many levels of directories below it. */
static int
look(struct walk *w, const char *name, int levels, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", w->data_dir, name);
	DIR *dir = opendir(path);
	struct dirent *e;
	int r = 0;

	/* ENOTDIR: also for what is a file, or a link to somewhere. */
	if (dir == NULL && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (dir == NULL)
		return err_errno(err, ERR_SYSTEM, errno, "list %s", path);
	while (r == 0 && !w->ended && (e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *sub = xasprintf("%s/%s", name, e->d_name);

		if (e->d_name[0] == '.' || owner(sub) == 0)
			continue;
		if (is_rest(sub))
			w->ended = !w->cb(owner(sub), sub, w->arg);
		else if (levels > 0 && e->d_type == DT_DIR)
			r = look(w, sub, levels - 1, err);
	}
	closedir(dir);
	return r;
}

/* vms/<id>/<checksum>/...: what is below that is the desktop's. */
static int
walk(struct walk *w, struct err *err)
{
	int r;

	if ((r = look(w, "homes", 0, err)) < 0 ||
	    (r = look(w, "snapshots", 1, err)) < 0)
		return r;
	return look(w, "vms", 2, err);
}

int
unfinished_each(
    const char *data_dir, unfinished_cb cb, void *arg, struct err *err)
{
	struct walk w = { .data_dir = data_dir, .cb = cb, .arg = arg };

	return walk(&w, err);
}

struct wanted {
	int64_t vm_id;
	const char *name;
	bool found;
};

static bool
compare(int64_t vm_id, const char *name, void *arg)
{
	struct wanted *wanted = arg;

	wanted->found = vm_id == wanted->vm_id && str_eq(name, wanted->name);
	return !wanted->found;
}

int
unfinished_remove(
    const char *data_dir, int64_t vm_id, const char *name, struct err *err)
{
	struct wanted wanted = { .vm_id = vm_id, .name = name };
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", data_dir, name);
	int r = unfinished_each(data_dir, compare, &wanted, err);

	if (r < 0 || !wanted.found)
		return r;
	return home_remove(path, err);
}
