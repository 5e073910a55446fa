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
#include "hkd/image_ops.h"
#include "hkd/op.h"
#include "json/json.h"
#include "storage/storage.h"

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

static const struct image_op *
find_op(const char *name)
{
	const struct image_op *op;

	for (op = image_ops; op->name != NULL; op++)
		if (str_eq(name, op->name))
			return op;
	return NULL;
}

static int
perform(const json_t *request, struct err *err)
{
	const json_t *args = json_object_get(request, "args");
	const json_t *conf = json_object_get(request, "node");
	const char *name = json_get_str(request, "op", "");
	const struct image_op *op = find_op(name);
	struct image_op_node node = {
		.data_dir = json_get_str(conf, "data_dir", ""),
		.run_dir = json_get_str(conf, "run_dir", ""),
		.programs_dir = json_get_str(conf, "programs_dir", ""),
		.userns = -1,
	};
	int r, slot = (int)json_get_int(args, "idmap_slot", 0);

	if (op == NULL)
		return err_set(err, ERR_INTERNAL, "no operation '%s'", name);
	if (node.data_dir[0] != '/' || node.run_dir[0] != '/')
		return err_set(err, ERR_PARAMETER, "node: not a path");
	/* While /proc and the desktop's file system can be written. */
	if (op->of_desktop && ((r = storage_userns(storage_id_base(slot),
				    &node.userns, err)) < 0 ||
				  (r = image_op_show(&node, args, err)) < 0))
		return r;
	if ((r = confine_writes(node.data_dir, err)) < 0)
		return r;
	return op->fn(&node, args, err);
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
