/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files that say beforehand which SHA-256 they have. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

#define BLOCK     (128 * 1024)
#define TELL_STEP 10 /* percent */

static void
checksum_freep(GChecksum **c)
{
	g_checksum_free(*c);
}

int
image_digest(int fd, char ret[static IMAGE_CHECKSUM_LEN + 1],
    image_read_told_cb told, void *arg, struct err *err)
{
	_cleanup_(freep)
	char *data = xcalloc(1, BLOCK);
	_cleanup_(checksum_freep)
	GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
	uint64_t all = 0;
	ssize_t n;

	while ((n = read(fd, data, BLOCK)) > 0) {
		g_checksum_update(sum, (const guchar *)data, (gssize)n);
		all += (uint64_t)n;
		if (told != NULL)
			told(all, arg);
	}
	if (n < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read a file");
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "read a file again");
	str_copy(ret, IMAGE_CHECKSUM_LEN + 1, g_checksum_get_string(sum));
	return 0;
}

struct told {
	const struct image_import *import;
	uint64_t size;
	int percent; /* last told */
};

static void
on_read(uint64_t bytes, void *arg)
{
	struct told *t = arg;
	int percent = t->size == 0 ? 100 : (int)(bytes * 100 / t->size);
	char text[80];

	if (percent < t->percent + TELL_STEP || t->import->progress == NULL)
		return;
	t->percent = percent - percent % TELL_STEP;
	snprintf(text, sizeof(text), "comparing with its SHA-256, %d %%",
	    t->percent);
	t->import->progress(0, text, t->import->arg);
}

int
image_check_source(
    const struct image_import *import, const char *sha256, struct err *err)
{
	char sum[IMAGE_CHECKSUM_LEN + 1];
	_cleanup_(closep)
	int fd = -1;
	struct told told = { .import = import };
	struct stat st;
	int r;

	r = image_open_file(import->source, O_NOFOLLOW, &fd, &st, err);
	if (r < 0)
		return r;
	told.size = (uint64_t)st.st_size;
	if ((r = image_digest(fd, sum, on_read, &told, err)) < 0)
		return r;
	if (str_eq(sum, sha256))
		return 0;
	return err_set(err, ERR_IMAGE,
	    "what has arrived of it is not what was to be sent: its SHA-256 "
	    "begins with %.12s, not with %.12s; send it again",
	    sum, sha256);
}
