/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is left when all desktops have stopped: the farm's network namespace
 * with the bridge in it, and its empty cgroups. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/up.h"

#define CGROUPS       "/sys/fs/cgroup"
#define OPEN_DIRS_MAX 16

/* A cgroup with a process in it stays, as rmdir says. */
static int
remove_folder(
    const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_DP)
		rmdir(path);
	return 0;
}

static void
clean_cgroup(const char *root, const char *name)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", root, name);

	nftw(path, remove_folder, OPEN_DIRS_MAX,
	    FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* The one hierarchy of cgroups v2, or those of v1, each a folder. */
static void
clean_cgroups(const char *name)
{
	DIR *dir = opendir(CGROUPS);
	struct dirent *e;

	if (dir == NULL)
		return;
	clean_cgroup(CGROUPS, name);
	while ((e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *root = NULL;

		if (e->d_name[0] == '.' || e->d_type != DT_DIR)
			continue;
		root = xasprintf(CGROUPS "/%s", e->d_name);
		clean_cgroup(root, name);
	}
	closedir(dir);
}

void
up_clean(struct up *up)
{
	_cleanup_(freep)
	char *netns = node_conf_run_path(&up->conf, "netns");

	if (up->conf.netns[0] != '\0' && umount2(netns, MNT_DETACH) == 0)
		unlink(netns);
	clean_cgroups(up->conf.cgroup);
}
