/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/image share: store.c (repository, temporary files,
 * progress), tree.c (a tree that grows in the repository), archive.c and
 * directory.c (its sources), import.c, checkout.c. Objects belong to the
 * function that opened them. Only in qvd-hkd-image and tests; not for other
 * folders.
 */
#ifndef IMAGE_IMAGE_PRIV_H
#define IMAGE_IMAGE_PRIV_H

#include <ostree.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "image/image.h"

/* Sets *err from a GError and frees it; a full disk is ERR_NO_SPACE. */
int image_gerr(struct err *err, enum err_code code, GError *error,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void image_unref(void *pp); /* cleanup of any GObject pointer */

/* Opens the repository, makes it when missing. */
int image_repo_open(const char *data_dir, OstreeRepo **ret, struct err *err);

/* One import at a time: takes the repository's lock, an open descriptor.
 * wait false: ERR_CONFLICT if somebody has it. */
int image_repo_lock(
    const char *data_dir, bool wait, int *ret_fd, struct err *err);

/* Locks the directory of temporary checkouts (made when missing) for this
 * process and removes what others left in it. wait false: ERR_CONFLICT if
 * somebody has it. make: a new directory in it, path (heap). */
struct image_tmp {
	int lock;
	char *path; /* NULL: none was made */
};
int image_tmp_open(const char *data_dir, bool wait, bool make,
    struct image_tmp *ret, struct err *err);
void image_tmp_done(struct image_tmp *tmp); /* removes it */

/*
 * A tree that is written file by file into the repository, inside of a
 * transaction. Names are only looked up in the tree itself, so none can lead
 * anywhere else; those with ".." and those that go through a link or a file
 * are refused all the same.
 */
struct image_tree {
	OstreeRepo *repo;
	OstreeMutableTree *root;
	char *dir_metadata; /* of directories that nobody described */
	const struct image_import *import;
	uint64_t entries; /* seen so far */
	uint64_t bytes;   /* of files' contents */
	uint64_t skipped; /* device nodes and such */
	int percent;      /* last told */
};
int image_tree_init(struct image_tree *tree, OstreeRepo *repo,
    const struct image_import *import, struct err *err);
void image_tree_done(struct image_tree *tree);

/* Tells progress if the percent (of this step) grew. */
void image_progress(
    struct image_tree *tree, double part, int to, const char *text);

/* What is known of an entry; xattrs NULL: none. */
struct image_entry {
	const char *path;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	uint64_t size;
	const char *target; /* of a symbolic link */
	GVariant *xattrs;   /* image_xattrs_end() */
};
/* Gives the next bytes of a file: their number, 0: end, negative: error. */
typedef ssize_t (*image_read_cb)(
    void *buf, size_t size, void *arg, struct err *err);

/* A stream of exactly size bytes; *err is filled when read fails. */
GInputStream *image_stream_new(
    image_read_cb read, void *arg, uint64_t size, struct err *err);

/* Adds a directory, a link or a file; leaves out (and counts) others. */
int image_tree_add(struct image_tree *tree, const struct image_entry *entry,
    image_read_cb read, void *arg, struct err *err);
/* Another name of a file that the tree has. */
int image_tree_link(struct image_tree *tree, const char *path,
    const char *target, struct err *err);
/* Writes the tree; *ret is the caller's. */
int image_tree_write(struct image_tree *tree, GFile **ret, struct err *err);

/* Collects xattrs, in any order; overlayfs's own are left out. */
struct image_xattrs {
	GPtrArray *list; /* NULL until the first */
};
void image_xattrs_add(struct image_xattrs *xattrs, const char *name,
    const void *value, size_t size);
GVariant *image_xattrs_end(struct image_xattrs *xattrs); /* NULL: none */

/* The sources. */
int image_add_archive(
    struct image_tree *tree, const char *source, struct err *err);
int image_add_directory(
    struct image_tree *tree, const char *source, struct err *err);

#endif
