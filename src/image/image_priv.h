/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of src/image share: store.c (repository, temporary files,
 * progress), lock.c (who may do what beside whom), tree.c (a tree that grows in
 * the repository), entry.c (what it may hold), digest.c, xattrs.c, desktop.c,
 * archive.c, directory.c and oci.c (its sources), import.c, checkout.c, diff.c,
 * export.c, gc.c. Objects belong to the function that opened them. Only in
 * qvd-hkd-image and tests; not for other folders.
 */
#ifndef IMAGE_IMAGE_PRIV_H
#define IMAGE_IMAGE_PRIV_H

#include <ostree.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "image/image.h"

/* Sets *err from a GError and frees it; a full disk is ERR_NO_SPACE. */
int image_gerr(struct err *err, enum err_code code, GError *error,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void image_unref(void *pp); /* cleanup of any GObject pointer */

/* Opens the repository, makes it when missing. */
int image_repo_open(const char *data_dir, OstreeRepo **ret, struct err *err);

/* ERR_IMAGE unless the repository has that commit, whole. */
int image_has_commit(OstreeRepo *repo, const char *checksum, struct err *err);

/*
 * Locks of the store, taken in this order, each an open descriptor. What is
 * added harms nobody: an object's name is its checksum. But who finds one that
 * he needs must have it until something keeps it, a ref that leads there.
 *
 * An import holds MAKE and KEEP from its first byte to its ref. A pull takes
 * KEEP only for the moment in which a batch of objects becomes the store's, so
 * that a slow line holds up nobody: what it finds there is named by
 * a folder that it has kept already, and only its commit by nothing.
 * A collection of garbage holds REMOVE.
 */
enum image_lock {
	IMAGE_LOCK_MAKE, /* one import at a time: they share a work directory */
	IMAGE_LOCK_KEEP, /* what is there stays there; shared */
	IMAGE_LOCK_REMOVE, /* nobody has KEEP */
	IMAGE_LOCK_COMMIT, /* of image_transaction_end() */
};
/* wait false: ERR_CONFLICT if somebody has it. */
int image_lock(const char *data_dir, enum image_lock lock, bool wait,
    int *ret_fd, struct err *err);
/* Ends the transaction, instead of libostree's own: with what is in the store
 * by now it leaves that alone. The caller has KEEP. */
int image_transaction_end(
    OstreeRepo *repo, const char *data_dir, struct err *err);
/* libostree keeps what a transaction that failed or was killed has staged, for
 * the next one. It may be gigabytes, and there may be no next one: removes
 * what is in nobody's use. */
int image_staging_clear(const char *data_dir, struct err *err);

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
	/* Checksums of the files with more rights than who starts them. */
	GHashTable *privileged;
	uint64_t entries; /* seen so far */
	uint64_t headers; /* of archives: layers are read twice */
	uint64_t bytes;   /* of files' contents */
	uint64_t bytes_max;
	uint64_t skipped; /* device nodes and such */
	bool layered;     /* an entry may take the place of another kind */
	/* A disk at its top; a kernel, and modules of one. */
	bool has_disk, has_kernel, has_modules;
	/* Of an archive: where its source begins and ends, in bytes of all that
	 * is read. */
	off_t source_from, source_total;
	int percent;      /* last told */
	const char *step; /* the same; a constant */
};
/* Empty, or with what import->base has. */
int image_tree_init(struct image_tree *tree, OstreeRepo *repo,
    const struct image_import *import, struct err *err);
void image_tree_done(struct image_tree *tree);

/* Tells progress if the percent (of this step) grew, or the text is another:
 * a constant. */
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
/* A file of that path is there: notes what that says of its kind. */
void image_note_kind(struct image_tree *tree, const char *path);
/* What can run it, of what was seen in it (model/states.h). */
const char *image_hypervisors(const struct image_tree *tree);

/* Gives the next bytes of a file: their number, 0: end, negative: error. */
typedef ssize_t (*image_read_cb)(
    void *buf, size_t size, void *arg, struct err *err);

/* A stream of exactly size bytes; *err is filled when read fails. */
GInputStream *image_stream_new(
    image_read_cb read, void *arg, uint64_t size, struct err *err);

/* Adds a directory, a link or a file; leaves out (and counts) others. */
int image_tree_add(struct image_tree *tree, const struct image_entry *entry,
    image_read_cb read, void *arg, struct err *err);
/* Takes a file, or a directory with all below it, out again; nothing there is
 * no error. children: only what is in that directory. */
int image_tree_remove(
    struct image_tree *tree, const char *path, bool children, struct err *err);
/* What an image may not have, whatever it comes from: names that are not
 * UTF-8, set-user-id programs in places for data, more bytes than the source
 * can honestly hold. */
int image_entry_check(
    struct image_tree *tree, const struct image_entry *entry, struct err *err);
/* Does it give more rights than those of who starts it? Such a file may have
 * names in places of programs only, each of its names. */
bool image_entry_is_privileged(const struct image_entry *entry);
int image_check_privileged_name(const char *path, struct err *err);
/* How many bytes may come out of a source of that size on disk. */
uint64_t image_budget(uint64_t source_bytes);
/* Another name of a file that the tree has. */
int image_tree_link(struct image_tree *tree, const char *path,
    const char *target, struct err *err);
/* Writes the tree; *ret is the caller's. */
int image_tree_write(struct image_tree *tree, GFile **ret, struct err *err);
/* Sets bytes, entries and what can run it to what is in there, also if only a
 * part was added here. */
int image_tree_count(struct image_tree *tree, GFile *root, struct err *err);

/* Collects xattrs, in any order; overlayfs's own are left out. */
struct image_xattrs {
	GPtrArray *list; /* NULL until the first */
};
void image_xattrs_add(struct image_xattrs *xattrs, const char *name,
    const void *value, size_t size);
GVariant *image_xattrs_end(struct image_xattrs *xattrs); /* NULL: none */

/* An empty directory for the import's own files, below <data>/images/import;
 * the caller holds IMAGE_LOCK_MAKE. path: heap. */
int image_work_make(const char *data_dir, char **ret_path, struct err *err);
int image_work_clear(const char *data_dir, struct err *err);

/* Opens a file that somebody else made, to be read: never waits for a pipe,
 * touches no device. flags: O_NOFOLLOW or 0. */
int image_open_file(const char *path, int flags, int *ret_fd,
    struct stat *ret_st, struct err *err);

/* The SHA-256 of the file, which is then read from its beginning again. told
 * (may be NULL): how many bytes were read. */
typedef void (*image_read_told_cb)(uint64_t bytes, void *arg);
int image_digest(int fd, char ret[static IMAGE_CHECKSUM_LEN + 1],
    image_read_told_cb told, void *arg, struct err *err);

/* The entries of a tar, one by one; in is read to its end. whiteouts: only
 * those of an OCI layer are applied, else these are passed over. */
enum image_pass { IMAGE_PASS_ALL, IMAGE_PASS_WHITEOUTS, IMAGE_PASS_FILES };
struct archive;
struct archive_entry;
struct archive *image_archive_open(int fd, const char *name, struct err *err);
/* To be asked for each entry: what is passed over costs time, too. */
int image_archive_check(struct image_tree *tree, struct archive *in,
    struct archive_entry *entry, struct err *err);
int image_archive_add(struct image_tree *tree, struct archive *in,
    enum image_pass pass, const char *name, off_t from, off_t total,
    struct err *err);
/* What overlayfs has instead, of the directory above an image: 1, it was a
 * whiteout; an opaque directory is one and an entry. */
int image_upper_whiteout(struct image_tree *tree, struct archive_entry *entry,
    bool apply, struct err *err);
/* Applies the whiteout that the name is (".wh.x", ".wh..wh..opq"): 1, 0 if it
 * is none, or an error. apply false: only says. */
int image_whiteout(
    struct image_tree *tree, const char *name, bool apply, struct err *err);

/* Removes archives that were never finished, or that nobody has fetched;
 * counts their bytes. */
int image_exports_collect(const char *data_dir, bool dry_run,
    struct image_garbage *ret, struct err *err);

/* Of a desktop: is that directory's content gone with its run? Is it in such
 * a directory, or made by the node for each run? Does that file list accounts?
 * image_strip_account() takes one out of the text. */
bool image_is_passing(const char *path);
bool image_is_of_run(const char *path);
bool image_is_of_node(const char *path); /* also the agent, in a container */
bool image_is_account_file(const char *path);
void image_strip_account(struct buf *text, const char *path, const char *login);
/* Adds such a file without the account of import->login. */
int image_add_accounts(struct image_tree *tree, const struct image_entry *entry,
    image_read_cb read, void *arg, struct err *err);

/* The sources. */
bool image_is_oci_layout(const char *dir);
int image_add_oci_layout(
    struct image_tree *tree, const char *dir, struct err *err);
/* 0: it is no OCI archive, 1: added. */
int image_try_oci_archive(
    struct image_tree *tree, const char *source, struct err *err);
int image_add_archive(
    struct image_tree *tree, const char *source, struct err *err);
int image_add_file(struct image_tree *tree, const char *source, const char *as,
    struct err *err);
int image_add_directory(
    struct image_tree *tree, const char *source, struct err *err);

#endif
