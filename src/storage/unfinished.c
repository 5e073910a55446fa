/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "storage/unfinished.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "storage/home_priv.h"
#include "storage/root.h"

#define NEW ".new"

struct walk {
	const char *data_dir;
	const char *dir; /* below that; what is looked at now */
	int levels;      /* of directories below it */
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

static bool
is_old_changes(const char *name)
{
	return str_starts(name, "vms/") && str_ends(name, ROOT_OLD);
}

static int look(const struct walk *above, const char *dir, bool *ret_ended,
    struct err *err);

static int
on_entry(const struct fs_entry *e, void *arg, struct err *err)
{
	struct walk *w = arg;
	_cleanup_(freep)
	char *name = xasprintf("%s/%s", w->dir, e->name);
	struct stat st;

	if (w->ended || owner(name) == 0)
		return 0;
	if (str_ends(name, NEW) || is_old_changes(name))
		w->ended = !w->cb(owner(name), name, w->arg);
	else if (w->levels > 0 &&
		 fstatat(e->dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		 S_ISDIR(st.st_mode))
		return look(w, name, &w->ended, err);
	return 0;
}

/* In the directory, and one level less below it than above. */
static int
look(
    const struct walk *above, const char *dir, bool *ret_ended, struct err *err)
{
	struct walk w = *above;
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", w.data_dir, dir);
	int r;

	w.dir = dir;
	w.levels--;
	r = fs_each_entry(path, on_entry, &w, err);
	*ret_ended = w.ended;
	return r;
}

int
unfinished_each(
    const char *data_dir, unfinished_cb cb, void *arg, struct err *err)
{
	/* vms/<id>/<checksum>/...: what is below that is the desktop's. */
	static const struct {
		const char *dir;
		int levels;
	} places[] = { { "homes", 0 }, { "snapshots", 1 }, { "vms", 2 } };
	struct walk w = { .data_dir = data_dir, .cb = cb, .arg = arg };
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && !w.ended && i < ARRAY_SIZE(places); i++) {
		w.levels = places[i].levels + 1;
		r = look(&w, places[i].dir, &w.ended, err);
	}
	return r;
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
	return is_old_changes(name) ? root_remove_changes(path, err)
				    : home_remove(path, err);
}
