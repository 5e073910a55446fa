/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The image store of a node: an OSTree repository in `bare` mode under
 * <data>/images/repo, and hard-linked checkouts under
 * <data>/images/trees/<commit>, made complete or not at all and never
 * modified. Files that two images share are one inode, and so one page cache
 * for all desktops. Synchronous, root, in a process of its own
 * (qvd-hkd-image): GLib and libarchive stay out of the daemons. A process
 * that is killed leaves only files under <data>/images/tmp, which the next
 * one removes.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define IMAGE_CHECKSUM_LEN 64
#define IMAGE_ENTRIES_MAX  5000000 /* files of one image */
#define IMAGE_DEPTH_MAX    128     /* directories below each other */
#define IMAGE_BYTES_MAX    (UINT64_C(1) << 40)
/* What a compressed archive may become: so many times its size, and at least
 * so much. System images stay below 20. */
#define IMAGE_RATIO_MAX 200
#define IMAGE_RATIO_MIN (UINT64_C(1) << 30)

/* percent never falls; text is a short sentence. */
typedef void (*image_progress_cb)(int percent, const char *text, void *arg);

struct image_import {
	const char *data_dir;
	int64_t image_id;
	/* A directory, a tar (.gz .xz .zst), an OCI layout (directory) or an
	 * OCI archive (tar). */
	const char *source;
	/* The source is one file, and the image's only one, of this name (a
	 * disk of a virtual machine). NULL: it is one of those above. */
	const char *file_as;
	/* A commit over which the source is laid; NULL: none. An archive is
	 * then the upper directory of an overlay, with its whiteouts (boot/
	 * pack.c), and file_as takes the place of the image's disk. */
	const char *base;
	const char *author; /* these may be "" */
	const char *message;
	const char *version;
	const char *parent; /* checksum of the commit it comes from */
	/* A desktop's root, merged: ids are shifted by id_base, what only
	 * lives while it runs is left out, and so is the account `login`. */
	bool is_desktop;
	/* Of a container's: the checkout that it ran from, with ids like the
	 * source's. What is the node's stays as it is there. */
	const char *under;
	uid_t id_base;
	const char *login;
	image_progress_cb progress; /* may be NULL */
	void *arg;
};

struct image_imported {
	char checksum[IMAGE_CHECKSUM_LEN + 1]; /* of the commit */
	/* Of the files alone: equal for equal trees, whoever made them when. */
	char content[IMAGE_CHECKSUM_LEN + 1];
	uint64_t bytes;
	uint64_t files;
	const char *hypervisors; /* that can run it: "lxc", "lxc kvm", "kvm" */
};

/* Commits the source's files: regular files, directories and links with
 * owner, mode and xattrs; device nodes, pipes and sockets are left out. The
 * commit is kept by the ref image/<image_id>. */
int image_import(const struct image_import *import, struct image_imported *ret,
    struct err *err);
/* Reads the source, a file, and compares: ERR_IMAGE if it is another. */
int image_check_source(
    const struct image_import *import, const char *sha256, struct err *err);
/* trees/<checksum> exists afterwards, complete. ERR_IMAGE if the repository
 * doesn't have the commit. */
int image_checkout(const char *data_dir, const char *checksum, struct err *err);
/* Reads every object of the commit, and the checkout if there is one, and
 * compares with the checksums. */
int image_verify_telling(const char *data_dir, const char *checksum,
    image_progress_cb tell, struct err *err);
static inline int
image_verify(const char *data_dir, const char *checksum, struct err *err)
{
	return image_verify_telling(data_dir, checksum, NULL, err);
}

/* What changed: {"files": [{path, change, kind, old_bytes, new_bytes}],
 * "packages": [{name, change, old_version, new_version, old_bytes,
 * new_bytes}], "added", "removed", "changed": how many files, "grown_bytes",
 * "cut": files has only the first IMAGE_DIFF_MAX}. */
#define IMAGE_DIFF_MAX 100000
int image_diff(const char *data_dir, const char *from, const char *to,
    json_t **ret, struct err *err);
/* Writes images/exports/<name>, a tar; compressed as the name says. Who asked
 * for it takes it away within IMAGE_EXPORT_KEEP_S. */
#define IMAGE_EXPORT_KEEP_S 3600
int image_export(const char *data_dir, const char *checksum, const char *name,
    image_progress_cb tell, struct err *err);

/* Ids of the images in the store; heap. */
int image_ids(
    const char *data_dir, int64_t **ret, size_t *ret_n, struct err *err);
struct image_gc {
	const int64_t *gone; /* images whose rows are gone for good */
	size_t n_gone;
	const char *const *used; /* commits that desktops run from */
	size_t n_used;
	bool dry_run;           /* only counts */
	image_progress_cb tell; /* may be NULL */
};
struct image_garbage {
	uint64_t images, trees, objects, bytes;
};
/* With archives that nobody has fetched (only in bytes). */
int image_collect(const char *data_dir, const struct image_gc *gc,
    struct image_garbage *ret, struct err *err);

/* Removes what killed imports, checkouts and exports left; does nothing while
 * one is running. */
int image_tidy(const char *data_dir, struct err *err);

#endif
