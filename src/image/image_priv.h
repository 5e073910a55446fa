/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/image share: store.c (repository, temporary files,
 * progress), archive.c and copy.c (writing a source's files to a directory),
 * import.c, checkout.c. Objects belong to the function that opened them.
 * Only in qvd-hkd-image and tests; not for other folders.
 */
#ifndef IMAGE_IMAGE_PRIV_H
#define IMAGE_IMAGE_PRIV_H

#include <ostree.h>
#include <sys/types.h>

#include "image/image.h"

/* Sets *err from a GError and frees it; a full disk is ERR_NO_SPACE. */
int image_gerr(struct err *err, enum err_code code, GError *error,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Opens the repository, makes it when missing. */
int image_repo_open(const char *data_dir, OstreeRepo **ret, struct err *err);

/* Locks a directory of temporary files (made when missing) for this process,
 * removes what others left in it, and makes a new one: *ret_path (heap).
 * wait false: ERR_CONFLICT if somebody has it. make false: only removes. */
struct image_tmp {
	int lock;
	char *path; /* NULL: none was made */
};
int image_tmp_open(const char *data_dir, const char *kind, bool wait, bool make,
    struct image_tmp *ret, struct err *err);
void image_tmp_done(struct image_tmp *tmp); /* removes it */

/* What an import counts; also keeps progress monotone. */
struct image_count {
	const struct image_import *import;
	uint64_t entries; /* seen so far */
	uint64_t total;   /* 0: unknown */
	uint64_t bytes;
	uint64_t skipped;
	int percent;
	int from, to; /* percents of the present phase */
	dev_t dev;    /* of the directory that is written to */
	ino_t ino;
};
void image_progress(struct image_count *count, double part, const char *text);

/* Unpacks the archive into the directory. */
int image_unpack(const char *source, const char *dir, struct image_count *count,
    struct err *err);
/* Copies what is below the directory `source`. */
int image_copy(const char *source, const char *dir, struct image_count *count,
    struct err *err);

/*
 * The writer that both use. enter: makes dir the current directory, into
 * which it writes. prepare: 1: write this entry, whose name was made safe;
 * 0: leave it out; negative: refused.
 */
struct archive;
struct archive_entry;
struct archive *image_writer_new(void);
int image_writer_enter(
    const char *dir, struct image_count *count, struct err *err);
int image_writer_leave(struct err *err);
int image_writer_prepare(
    struct archive_entry *entry, struct image_count *count, struct err *err);
int image_archive_err(
    struct err *err, struct archive *a, const char *what, const char *name);

#endif
