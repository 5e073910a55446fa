/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * OCI images as source of a tree: a layout directory, or a tar of one. Every
 * blob is compared with the digest by which it was named before anything of
 * it is used, from the index down to the layers. A layer is read twice: its
 * whiteouts first, because they speak of the layers below only, wherever in
 * the layer they stand.
 *
 * A tar of a layout is unpacked into <data>/images/import: only files whose
 * name is a digest and the two documents, each under a name of our making.
 */
#include "image/oci.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/image_priv.h"

static void
read_freep(struct archive **a)
{
	if (*a != NULL)
		archive_read_free(*a);
}

static char *
blob_path(const char *dir, const char *digest)
{
	return xasprintf("%s/blobs/sha256/%s", dir, digest);
}

/* Opens the blob, and reads it once to see that it is what it is called. */
static int
open_blob(
    const char *dir, const struct oci_blob *blob, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *path = blob_path(dir, blob->digest);
	char sum[IMAGE_CHECKSUM_LEN + 1];
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if (image_open_file(path, O_NOFOLLOW, &fd, &st, NULL) < 0)
		return err_set(err, ERR_IMAGE,
		    "it lacks the blob %.12s, which it names", blob->digest);
	if ((uint64_t)st.st_size != blob->size)
		return err_set(err, ERR_IMAGE,
		    "its blob %.12s has not the size that it says",
		    blob->digest);
	if ((r = image_digest(fd, sum, NULL, NULL, err)) < 0)
		return err_wrap(err, r, "%s", path);
	if (!str_eq(sum, blob->digest))
		return err_set(err, ERR_IMAGE,
		    "its blob %.12s is damaged: its digest is %.12s",
		    blob->digest, sum);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int
read_document(const char *dir, const struct oci_blob *blob, char **ret,
    size_t *ret_len, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = open_blob(dir, blob, &fd, err)) < 0)
		return r;
	if (blob->size > OCI_DOCUMENT_MAX)
		return err_set(err, ERR_TOO_LARGE,
		    "its manifest is larger than %zu bytes", OCI_DOCUMENT_MAX);
	return fs_read_fd(
	    fd, blob->digest, OCI_DOCUMENT_MAX, ret, ret_len, err);
}

/* A document of the layout itself, which nothing gives a digest for. */
static int
read_top(const char *dir, const char *name, char **ret, size_t *ret_len,
    struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", dir, name);
	_cleanup_(closep)
	int fd = -1;
	struct stat st;
	int r;

	if ((r = image_open_file(path, O_NOFOLLOW, &fd, &st, NULL)) == 0)
		r = fs_read_fd(fd, name, OCI_DOCUMENT_MAX, ret, ret_len, NULL);
	return r < 0 ? err_set(err, ERR_IMAGE,
			   "it has no readable %s, so it is no OCI image", name)
		     : 0;
}

static int
add_layer(struct image_tree *tree, const char *dir,
    const struct oci_blob *layer, enum image_pass pass, off_t from, off_t total,
    struct err *err)
{
	_cleanup_(read_freep)
	struct archive *in = NULL;
	_cleanup_(closep)
	int fd = -1;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "layer %.12s", layer->digest);
	if ((r = open_blob(dir, layer, &fd, err)) < 0)
		return r;
	if ((in = image_archive_open(fd, name, err)) == NULL)
		return -(int)err->code;
	return image_archive_add(tree, in, pass, name, from, total, err);
}

static int
add_layers(struct image_tree *tree, const char *dir,
    const struct oci_manifest *m, struct err *err)
{
	uint64_t total = 0, from = 0;
	size_t i;
	int r;

	for (i = 0; i < m->n_layers; i++)
		total += m->layers[i].size;
	tree->layered = true;
	tree->bytes_max = image_budget(total);
	for (i = 0; i < m->n_layers; i++) {
		const struct oci_blob *l = &m->layers[i];

		if ((r = add_layer(tree, dir, l, IMAGE_PASS_WHITEOUTS,
			 (off_t)from, (off_t)total, err)) < 0 ||
		    (r = add_layer(tree, dir, l, IMAGE_PASS_FILES, (off_t)from,
			 (off_t)total, err)) < 0)
			return r;
		from += l->size;
	}
	return 0;
}

/* From the index, through indexes in it, to the manifest. */
static int
find_manifest(const char *dir, struct oci_manifest *ret, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	struct oci_blob blob;
	size_t len;
	int r, depth;

	if ((r = read_top(dir, "index.json", &text, &len, err)) < 0 ||
	    (r = oci_parse_index(text, len, &blob, err)) < 0)
		return r;
	for (depth = 0; depth < OCI_NESTING_MAX; depth++) {
		freep(&text);
		text = NULL;
		if ((r = read_document(dir, &blob, &text, &len, err)) < 0)
			return r;
		if (blob.kind == OCI_MANIFEST)
			return oci_parse_manifest(text, len, ret, err);
		if ((r = oci_parse_index(text, len, &blob, err)) < 0)
			return r;
	}
	return err_set(err, ERR_IMAGE,
	    "its indexes are nested more than %d deep", OCI_NESTING_MAX);
}

int
image_add_oci_layout(struct image_tree *tree, const char *dir, struct err *err)
{
	struct oci_manifest manifest = { .n_layers = 0 };
	_cleanup_(freep)
	char *text = NULL;
	_cleanup_(closep)
	int config = -1;
	size_t len;
	int r;

	image_progress(tree, 0, 0, "comparing the blobs with their digests");
	if ((r = read_top(dir, "oci-layout", &text, &len, err)) < 0 ||
	    (r = oci_parse_layout(text, len, err)) < 0 ||
	    (r = find_manifest(dir, &manifest, err)) < 0)
		return r;
	/* Nothing in the configuration matters to a desktop; a damaged one
	 * says that the image is. */
	if ((r = open_blob(dir, &manifest.config, &config, err)) == 0)
		r = add_layers(tree, dir, &manifest, err);
	oci_manifest_done(&manifest);
	return r;
}

bool
image_is_oci_layout(const char *dir)
{
	_cleanup_(freep)
	char *layout = xasprintf("%s/oci-layout", dir);
	_cleanup_(freep)
	char *index = xasprintf("%s/index.json", dir);

	return fs_exists(layout) && fs_exists(index);
}

int
image_whiteout(
    struct image_tree *tree, const char *name, bool apply, struct err *err)
{
	static const char mark[] = ".wh.", opaque[] = ".wh..wh..opq";
	const char *slash = strrchr(name, '/');
	const char *base = slash == NULL ? name : slash + 1;
	_cleanup_(freep)
	char *dir = xstrndup(name, (size_t)(base - name));
	_cleanup_(freep)
	char *path = NULL;
	int r = 0;

	if (!str_starts(base, mark))
		return 0;
	if (apply && str_eq(base, opaque)) {
		r = image_tree_remove(tree, dir, true, err);
	} else if (apply && !str_starts(base, ".wh..wh.")) {
		path = xasprintf("%s%s", dir, base + sizeof(mark) - 1);
		if (str_eq(base, mark) || str_eq(base, ".wh.."))
			return err_set(err, ERR_IMAGE,
			    "it has a whiteout of nothing or of a directory "
			    "itself");
		r = image_tree_remove(tree, path, false, err);
	}
	return r < 0 ? r : 1;
}

/* Archives */

/* Where a member of the archive goes below the work directory; NULL: it is
 * not wanted. known: its name is one that OCI archives have. */
static char *
place_of(const char *work, const char *name, bool *ret_known)
{
	static const char blobs[] = "blobs/sha256/";
	const char *p = name;
	size_t n;

	while (p[0] == '/' || (p[0] == '.' && p[1] == '/'))
		p++;
	n = strlen(p);
	*ret_known = true;
	if (str_eq(p, "oci-layout") || str_eq(p, "index.json"))
		return xasprintf("%s/%s", work, p);
	if (str_starts(p, blobs) && n == sizeof(blobs) - 1 + OCI_DIGEST_LEN &&
	    strspn(p + sizeof(blobs) - 1, "0123456789abcdef") == OCI_DIGEST_LEN)
		return xasprintf("%s/%s", work, p);
	/* Docker's own documents beside them, and the directories. */
	*ret_known = n == 0 || str_eq(p, ".") || str_starts(p, "blobs/") ||
		     str_eq(p, "blobs") || str_eq(p, "manifest.json") ||
		     str_eq(p, "repositories");
	return NULL;
}

static int
unpack_member(struct image_tree *tree, struct archive *in,
    struct archive_entry *entry, const char *path, struct err *err)
{
	_cleanup_(closep)
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	const char *why;

	if (archive_entry_filetype(entry) != AE_IFREG)
		return err_set(err, ERR_IMAGE, "its '%.100s' is no file",
		    archive_entry_pathname(entry));
	if (fd < 0 && errno == EEXIST)
		return err_set(err, ERR_IMAGE, "it has '%.100s' twice",
		    archive_entry_pathname(entry));
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	tree->bytes += (uint64_t)archive_entry_size(entry);
	if (archive_entry_size(entry) < 0 || tree->bytes > tree->bytes_max)
		return err_set(err, ERR_TOO_LARGE,
		    "it would be larger than an image of its size can be");
	if (archive_read_data_into_fd(in, fd) == ARCHIVE_OK)
		return 0;
	why = archive_error_string(in);
	return err_errno(err,
	    archive_errno(in) == ENOSPC ? ERR_NO_SPACE : ERR_IMAGE,
	    archive_errno(in) > 0 ? archive_errno(in) : EIO, "unpack it: %s",
	    why == NULL ? "unknown error" : why);
}

/* 0: it is none, or 1. */
static int
unpack(struct image_tree *tree, struct archive *in, const char *work,
    off_t total, struct err *err)
{
	struct archive_entry *entry;
	bool found = false, known;
	int r, s;

	while ((r = archive_read_next_header(in, &entry)) == ARCHIVE_OK ||
	       r == ARCHIVE_WARN) {
		const char *name = archive_entry_pathname(entry);
		_cleanup_(freep)
		char *path = place_of(work, name == NULL ? "?" : name, &known);

		/* A root file system: the first names say it. */
		if (!known)
			return 0;
		if ((s = image_archive_check(tree, in, entry, err)) < 0)
			return s;
		if (path == NULL)
			continue;
		found = true;
		if ((s = unpack_member(tree, in, entry, path, err)) < 0)
			return s;
		image_progress(tree,
		    (double)archive_filter_bytes(in, -1) / (double)total, 20,
		    "unpacking the archive");
	}
	if (r != ARCHIVE_EOF && found)
		return err_set(err, ERR_IMAGE, "read the archive: %s",
		    archive_error_string(in) != NULL ? archive_error_string(in)
						     : "unknown error");
	return r == ARCHIVE_EOF && found;
}

int
image_try_oci_archive(
    struct image_tree *tree, const char *source, struct err *err)
{
	_cleanup_(freep)
	char *work = NULL;
	_cleanup_(freep)
	char *blobs = NULL;
	_cleanup_(closep)
	int fd = -1;
	_cleanup_(read_freep)
	struct archive *in = NULL;
	struct stat st;
	int r;

	if ((r = image_open_file(source, 0, &fd, &st, err)) < 0)
		return r;
	tree->bytes_max = image_budget((uint64_t)st.st_size);
	if ((r = image_work_make(tree->import->data_dir, &work, err)) < 0)
		return r;
	blobs = xasprintf("%s/blobs/sha256", work);
	if ((r = fs_mkdirs(blobs, 0700, err)) < 0)
		return r;
	/* What is no archive at all is said by who reads it as a tar. */
	if ((in = image_archive_open(fd, source, NULL)) == NULL)
		return 0;
	r = unpack(tree, in, work, st.st_size, err);
	tree->bytes = tree->headers = 0;
	if (r <= 0)
		return r;
	r = image_add_oci_layout(tree, work, err);
	return r < 0 ? r : 1;
}
