/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A store for harnesses of src/image: made at the first input, used by all
 * that follow, removed at the process's end. As another user than root
 * libostree can't give files their owners; those harnesses see names and
 * contents all the same.
 */
#ifndef FUZZ_STORE_H
#define FUZZ_STORE_H

#include <ostree.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/image_priv.h"

/* In memory: on a disk every input would wait for it. */
static char fuzz_store_dir[] = "/dev/shm/qvd-fuzz-XXXXXX";
static OstreeRepo *fuzz_store;

static void
fuzz_store_remove(void)
{
	g_clear_object(&fuzz_store);
	fs_remove_tree(fuzz_store_dir, NULL);
}

static inline OstreeRepo *
fuzz_store_repo(void)
{
	struct err err;

	if (fuzz_store != NULL)
		return fuzz_store;
	if (mkdtemp(fuzz_store_dir) == NULL)
		abort();
	atexit(fuzz_store_remove);
	if (image_repo_open(fuzz_store_dir, &fuzz_store, &err) < 0)
		abort();
	ostree_repo_set_disable_fsync(fuzz_store, TRUE);
	return fuzz_store;
}

#endif
