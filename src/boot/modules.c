/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The node has put the modules into an order in which each finds what it
 * needs (storage/initrd.c). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/boot.h"

#define DIR_MODULES "/modules"
#define COMPRESSED  4 /* MODULE_INIT_COMPRESSED_FILE, linux/module.h of 5.17 */

static void
load(const char *name)
{
	char path[300];
	size_t len = strlen(name);
	int fd, flags;

	snprintf(path, sizeof(path), DIR_MODULES "/%s", name);
	flags = len > 3 && strcmp(name + len - 3, ".ko") == 0 ? 0 : COMPRESSED;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* One for a device that isn't there says so, and is no loss. */
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) < 0 &&
			  errno != EEXIST && errno != ENODEV))
		boot_say("load %s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	unlink(path);
}

void
boot_load_modules(void)
{
	struct dirent **list;
	int i, n = scandir(DIR_MODULES, &list, NULL, alphasort);

	for (i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.')
			load(list[i]->d_name);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	rmdir(DIR_MODULES);
}
