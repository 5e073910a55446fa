/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd-hkd-image: one operation on the image store, then it ends. Started by
 * the helper with the request on descriptor 0. It reads what others made, as
 * root; in its mount namespace everything but the store is read-only, so
 * that no archive and no mistake of a library can write on the node.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/op.h"
#include "image/image.h"
#include "json/json.h"
#include "storage/storage.h"

static void
on_progress(int percent, const char *text, void *arg)
{
	op_send_progress(percent, text);
}

static int
send_imported(const struct image_imported *done)
{
	return op_send_result(
	    json_pack("{ss ss sI sI sb}", "checksum", done->checksum, "content",
		done->content, "size_bytes", (json_int_t)done->bytes, "files",
		(json_int_t)done->files, "has_kernel", (int)done->has_kernel),
	    -1);
}

static int
do_import(const char *data_dir, const json_t *args, struct err *err)
{
	struct image_import import = {
		.data_dir = data_dir,
		.image_id = json_get_int(args, "image_id", 0),
		.source = json_get_str(args, "source", ""),
		.author = json_get_str(args, "author", ""),
		.message = json_get_str(args, "message", ""),
		.version = json_get_str(args, "version", ""),
		.parent = json_get_str(args, "parent", ""),
		.login = "",
		.progress = on_progress,
	};
	struct image_imported done;
	int r;

	if ((r = image_import(&import, &done, err)) < 0)
		return r;
	return send_imported(&done);
}

static int
do_checkout(const char *data_dir, const json_t *args, struct err *err)
{
	const char *checksum = json_get_str(args, "checksum", "");
	enum root_store store = ROOT_STORE_OVERLAY;
	int r;

	root_store_from_str(json_get_str(args, "root_store", ""), &store);
	if ((r = image_checkout(data_dir, checksum, err)) < 0 ||
	    (r = storage_root_prepare(data_dir, checksum, store, err)) < 0)
		return r;
	return op_send_result(json_object(), -1);
}

static int
do_verify(const char *data_dir, const json_t *args, struct err *err)
{
	int r = image_verify(data_dir, json_get_str(args, "checksum", ""), err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

static int
do_tidy(const char *data_dir, const json_t *args, struct err *err)
{
	int r = image_tidy(data_dir, err);

	return r < 0 ? r : op_send_result(json_object(), -1);
}

static const struct {
	const char *name;
	int (*fn)(const char *data_dir, const json_t *args, struct err *err);
} operations[] = {
	{ "import", do_import },
	{ "checkout", do_checkout },
	{ "verify", do_verify },
	{ "tidy", do_tidy },
};

static int
confine_writes(const char *data_dir, struct err *err)
{
	_cleanup_(freep)
	char *images = xasprintf("%s/images", data_dir);
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	struct mount_attr rw = { .attr_clr = MOUNT_ATTR_RDONLY };
	int r;

	if ((r = fs_mkdirs(images, 0755, err)) < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount(images, images, NULL, MS_BIND, NULL) < 0 ||
	    mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &ro, sizeof(ro)) < 0 ||
	    mount_setattr(AT_FDCWD, images, 0, &rw, sizeof(rw)) < 0)
		return err_errno(err, ERR_SYSTEM, errno,
		    "make all but %s read-only", images);
	return 0;
}

static int
perform(const json_t *request, struct err *err)
{
	const json_t *args = json_object_get(request, "args");
	const char *name = json_get_str(request, "op", "");
	const char *data_dir =
	    json_get_str(json_object_get(request, "node"), "data_dir", "");
	size_t i;
	int r;

	if (data_dir[0] != '/')
		return err_set(err, ERR_PARAMETER, "data_dir: not a path");
	if ((r = confine_writes(data_dir, err)) < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (str_eq(name, operations[i].name))
			return operations[i].fn(data_dir, args, err);
	return err_set(err, ERR_INTERNAL, "no operation '%s'", name);
}

int
main(void)
{
	struct err err = { 0 };
	json_t *request;
	int r;

	log_init("hkd/image");
	umask(022);
	/* Names in archives are UTF-8, whatever the daemon was started with. */
	setlocale(LC_CTYPE, "C.UTF-8");
	if ((request = op_recv(&err)) == NULL) {
		log_err(LOG_LEVEL_ERROR, &err, "qvd-hkd-image");
		return err_exit_code(err.code);
	}
	r = perform(request, &err);
	json_decref(request);
	return r < 0 ? op_send_error(&err) : r;
}
