/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/image_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/op.h"
#include "json/json.h"
#include "storage/disk.h"
#include "storage/machine.h"
#include "storage/storage.h"

static void
on_progress(int percent, const char *text, void *arg)
{
	int from = (int)(intptr_t)arg; /* what came before took so much */

	op_send_progress(from + percent * (100 - from) / 100, text);
}

/* Of the conversion of a disk, the first half of its import. */
static void
on_converted(int percent)
{
	op_send_progress(percent / 2, "converting the disk");
}

int
image_op_imported(const struct image_op_node *node,
    const struct image_imported *done, struct err *err)
{
	int r = image_op_sign(node, done->checksum, err);

	if (r < 0)
		return r;
	return op_send_result(
	    json_pack("{ss ss sI sI ss}", "checksum", done->checksum, "content",
		done->content, "size_bytes", (json_int_t)done->bytes, "files",
		(json_int_t)done->files, "hypervisors", done->hypervisors),
	    -1);
}

void
image_op_import(const struct image_op_node *node, const json_t *args,
    struct image_import *ret)
{
	*ret = (struct image_import){
		.data_dir = node->data_dir,
		.image_id = json_get_int(args, "image_id", 0),
		.source = json_get_str(args, "source", ""),
		.author = json_get_str(args, "author", ""),
		.message = json_get_str(args, "message", ""),
		.version = json_get_str(args, "version", ""),
		.parent = json_get_str(args, "parent", ""),
		.login = "",
		.progress = on_progress,
	};
}

void
image_op_import_from(struct image_import *import, int percent)
{
	import->arg = (void *)(intptr_t)percent;
}

/* A bare disk is the only file of its image. A raw one becomes a qcow2 file in
 * `work`, a directory of this import's own. */
static int
take_disk(struct image_import *import, const char *work, char **ret_source,
    struct err *err)
{
	const char *format;
	int r;

	if ((r = storage_disk_file(import->source, &format, err)) < 0 ||
	    format == NULL)
		return r;
	import->file_as = "disk.qcow2";
	if (str_eq(format, "qcow2"))
		return 0;
	on_converted(0);
	image_op_import_from(import, 50);
	*ret_source = xasprintf("%s/disk.qcow2", work);
	if ((r = fs_mkdirs(work, 0700, err)) < 0 ||
	    (r = storage_disk_convert(
		 import->source, *ret_source, on_converted, err)) < 0)
		return r;
	import->source = *ret_source;
	return 0;
}

/* What imports of disks that were killed have left. They have the same turn
 * as collections of garbage, so none is under way. */
static int
drop_disks(const struct image_op_node *node, bool dry_run, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/images/disks", node->data_dir);

	return dry_run ? 0 : fs_remove_tree(dir, err);
}

static int
do_import(const struct image_op_node *node, const json_t *args, struct err *err)
{
	const char *sha256 = json_get_str(args, "sha256", NULL);
	struct image_import import;
	struct image_imported done;
	_cleanup_(freep)
	char *work = NULL;
	_cleanup_(freep)
	char *source = NULL;
	int r;

	image_op_import(node, args, &import);
	/* It came in pieces. */
	if (sha256 != NULL &&
	    (r = image_check_source(&import, sha256, err)) < 0)
		return r;
	work = xasprintf(
	    "%s/images/disks/%lld", node->data_dir, (long long)import.image_id);
	if ((r = take_disk(&import, work, &source, err)) < 0)
		err_wrap(err, r, "import '%s'", import.source);
	else
		r = image_import(&import, &done, err);
	fs_remove_tree(work, NULL);
	return r < 0 ? r : image_op_imported(node, &done, err);
}

static int
do_checkout(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	const char *checksum = json_get_str(args, "checksum", "");
	enum root_store store = ROOT_STORE_OVERLAY;
	int r;

	root_store_from_str(json_get_str(args, "root_store", ""), &store);
	if ((r = image_checkout(node->data_dir, checksum, err)) < 0 ||
	    (r = storage_root_prepare(node->data_dir, checksum, store, err)) <
		0 ||
	    (json_get_bool(args, "machine", false) &&
		(r = storage_machine_prepare(
		     node->data_dir, node->programs_dir, checksum, err)) < 0))
		return r;
	return op_send_result(json_object(), -1);
}

static int
do_verify(const struct image_op_node *node, const json_t *args, struct err *err)
{
	int r = image_verify_telling(node->data_dir,
	    json_get_str(args, "checksum", ""), on_progress, err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

static int
do_tidy(const struct image_op_node *node, const json_t *args, struct err *err)
{
	int r = image_tidy(node->data_dir, err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

/* A long answer: JSON in a file of memory that nobody can change any more. */
static int
send_document(json_t *doc, struct err *err)
{
	_cleanup_(freep)
	char *text = json_text(doc);
	_cleanup_(closep)
	int fd = memfd_create("answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t len = strlen(text), at;
	ssize_t n;

	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "memfd_create");
	for (at = 0; at < len; at += (size_t)n)
		if ((n = write(fd, text + at, len - at)) < 0)
			return err_errno(
			    err, ERR_SYSTEM, errno, "write the answer");
	if (fcntl(fd, F_ADD_SEALS,
		F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "seal the answer");
	return op_send_result(json_pack("{sI}", "bytes", (json_int_t)len), fd);
}

static int
do_diff(const struct image_op_node *node, const json_t *args, struct err *err)
{
	json_t *doc = NULL;
	int r;

	r = image_diff(node->data_dir, json_get_str(args, "from", ""),
	    json_get_str(args, "to", ""), &doc, err);
	if (r == 0)
		r = send_document(doc, err);
	json_decref(doc);
	return r;
}

static int
do_export(const struct image_op_node *node, const json_t *args, struct err *err)
{
	const char *name = json_get_str(args, "name", "");
	_cleanup_(freep)
	char *path = xasprintf("%s/images/exports/%s", node->data_dir, name);
	int r = image_export(node->data_dir, json_get_str(args, "checksum", ""),
	    name, on_progress, err);

	return r < 0 ? r : op_send_result(json_pack("{ss}", "path", path), -1);
}

static int
do_refs(const struct image_op_node *node, const json_t *args, struct err *err)
{
	json_t *list = json_array();
	int64_t *ids = NULL;
	size_t n = 0, i;
	int r = image_ids(node->data_dir, &ids, &n, err);

	for (i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	free(ids);
	if (r < 0) {
		json_decref(list);
		return r;
	}
	return op_send_result(json_pack("{so}", "images", list), -1);
}

static int
do_gc(const struct image_op_node *node, const json_t *args, struct err *err)
{
	const json_t *gone = json_object_get(args, "gone");
	size_t n = json_array_size(gone), i;
	_cleanup_(freep)
	char *ids = xcalloc(n + 1, sizeof(int64_t));
	int64_t *id = (int64_t *)(void *)ids;
	struct image_garbage found = { .bytes = 0 };
	char **used = NULL;
	struct image_gc gc = { .gone = id, .n_gone = n, .tell = on_progress };
	int r;

	for (i = 0; i < n; i++)
		id[i] = json_integer_value(json_array_get(gone, i));
	gc.dry_run = json_get_bool(args, "dry_run", false);
	r = image_desktops_use(node, &used, &gc.n_used, err);
	gc.used = (const char *const *)used;
	if (r == 0)
		r = image_collect(node->data_dir, &gc, &found, err);
	if (r == 0)
		r = storage_machine_collect(
		    node->data_dir, gc.dry_run, &found.bytes, err);
	if (r == 0)
		r = drop_disks(node, gc.dry_run, err);
	if (r == 0 && !gc.dry_run)
		r = storage_root_forget_images(node->data_dir, err);
	for (i = 0; i < gc.n_used; i++)
		free(used[i]);
	free(used);
	if (r < 0)
		return r;
	return op_send_result(
	    json_pack("{sI sI sI sI}", "images", (json_int_t)found.images,
		"trees", (json_int_t)found.trees, "objects",
		(json_int_t)found.objects, "bytes", (json_int_t)found.bytes),
	    -1);
}

const struct image_op image_ops[] = {
	{ "import", do_import, false },
	{ "commit", image_op_commit, true },
	{ "checkout", do_checkout, false },
	{ "verify", do_verify, false },
	{ "tidy", do_tidy, false },
	{ "diff", do_diff, false },
	{ "export", do_export, false },
	{ "refs", do_refs, false },
	{ "gc", do_gc, false },
	{ "pull", image_op_pull, false },
	{ "serve", image_op_serve, false },
	{ .name = NULL },
};
