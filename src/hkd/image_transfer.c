/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Operations of qvd-hkd-image on a stream to another node, descriptor 1; and
 * the farm's signatures, whose keys are files that only root reads. */
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "hkd/image_ops.h"
#include "hkd/op.h"
#include "image/pull.h"
#include "json/json.h"

#define PEM_MAX (64 * 1024)

static void
on_progress(int percent, const char *text, void *arg)
{
	op_send_progress(percent, text);
}

/* *ret NULL: the node has no such file. */
static int
read_key(const struct image_op_node *node, const char *name, char **ret,
    struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/farm/%s", node->data_dir, name);

	*ret = NULL;
	return fs_exists(path) ? fs_read_file(path, PEM_MAX, ret, NULL, err)
			       : 0;
}

int
image_op_sign(
    const struct image_op_node *node, const char *checksum, struct err *err)
{
	_cleanup_(wipe_strp)
	char *key = NULL;
	int r;

	if ((r = read_key(node, "signing.key", &key, err)) < 0 || key == NULL)
		return r;
	return image_store_sign(node->data_dir, key, checksum, err);
}

int
image_op_pull(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	_cleanup_(freep)
	char *trusted = NULL;
	struct image_pulled done = { .bytes = 0 };
	struct image_pull pull = { .data_dir = node->data_dir,
		.image_id = json_get_int(args, "image_id", 0),
		.checksum = json_get_str(args, "checksum", ""),
		.base = json_get_str(args, "base", ""),
		.fd = STDOUT_FILENO,
		.rate = json_get_int(args, "rate_kbit", 0) * 125,
		.progress = on_progress };
	int r;

	if ((r = read_key(node, "signing.pub", &trusted, err)) < 0)
		return r;
	pull.trusted = trusted;
	if ((r = image_pull(&pull, &done, err)) < 0)
		return r;
	return op_send_result(
	    json_pack("{sI sI sI sI}", "objects", (json_int_t)done.objects,
		"bytes", (json_int_t)done.bytes, "received",
		(json_int_t)done.received, "sent", (json_int_t)done.sent),
	    -1);
}

/* Images that are older than the farm's key are signed before anybody is
 * listened to. */
int
image_op_serve(
    const struct image_op_node *node, const json_t *args, struct err *err)
{
	const char *checksum = json_get_str(args, "checksum", "");
	_cleanup_(freep)
	char *trusted = NULL;
	int r;

	if ((r = read_key(node, "signing.pub", &trusted, err)) < 0)
		return r;
	if (trusted != NULL &&
	    image_store_check_signature(
		node->data_dir, trusted, checksum, NULL) < 0 &&
	    (r = image_op_sign(node, checksum, err)) < 0)
		return r;
	if ((r = image_serve(node->data_dir, checksum, STDOUT_FILENO, err)) < 0)
		return r;
	return op_send_result(json_object(), -1);
}
