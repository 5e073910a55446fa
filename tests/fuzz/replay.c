/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Feeds files, or every file of directories, to a fuzzing harness, so that
 * the corpus is a regression test of any build. Each input is copied to an
 * allocation of exactly its size: the sanitizer sees a read past its end.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"

#define INPUT_MAX ((size_t)16 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(freep)
	uint8_t *exact = NULL;
	struct err err;
	size_t n;

	if (fs_read_file(path, INPUT_MAX, &text, &n, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	exact = xcalloc(n > 0 ? n : 1, 1);
	memcpy(exact, text, n);
	printf("%s\n", path);
	fflush(stdout); /* the last line names the input that crashed */
	LLVMFuzzerTestOneInput(exact, n);
	return 1;
}

static int
replay(const char *path)
{
	struct dirent *e;
	struct stat st;
	DIR *dir;
	int n = 0;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return replay_file(path);
	if ((dir = opendir(path)) == NULL)
		return 0;
	while ((e = readdir(dir)) != NULL) {
		_cleanup_(freep)
		char *file = xasprintf("%s/%s", path, e->d_name);

		if (e->d_name[0] != '.')
			n += replay_file(file);
	}
	closedir(dir);
	return n;
}

int
main(int argc, char **argv)
{
	int i, n = 0;

	for (i = 1; i < argc; i++)
		n += replay(argv[i]);
	printf("%d inputs\n", n);
	return n > 0 ? 0 : 1;
}
