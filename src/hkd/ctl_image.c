/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hkd.sock: the API's questions about images. The helper checks the
 * arguments; what takes long tells how far it is, and ends with its asker. */
#include <stdlib.h>

#include "base/mem.h"
#include "hkd/garbage.h"
#include "hkd/ctl.h"
#include "json/json.h"

#define IMAGE_MS (2 * 60 * 60 * 1000)

struct relay {
	struct rpc_call *call;
	struct rpc_request *request;
	struct garbage *garbage;
	struct node *exported_to; /* NULL: it is no export */
};

static void
on_answer(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct relay *relay = arg;

	if (relay->exported_to != NULL && err == NULL)
		garbage_exported(relay->exported_to);
	if (err != NULL) {
		closep(&fd);
		rpc_fail(relay->call, err);
	} else {
		rpc_reply(relay->call, json_deep_copy(result), fd);
	}
	free(relay);
}

static void
on_progress(const json_t *info, void *arg)
{
	struct relay *relay = arg;

	rpc_progress(relay->call, json_deep_copy(info));
}

static void
on_cancel(void *arg)
{
	struct relay *relay = arg;

	if (relay->request != NULL)
		rpc_request_cancel(relay->request);
	if (relay->garbage != NULL)
		garbage_forget(relay->garbage);
	rpc_reply(relay->call, NULL, -1);
	free(relay);
}

static struct relay *
begin(struct rpc_call *call, struct ctl_peer *peer, int fd)
{
	struct relay *relay;
	struct err err;

	closep(&fd);
	if (!ctl_may_images(peer)) {
		err_set(&err, ERR_FORBIDDEN,
		    "only qvd-api may ask about the image store");
		rpc_fail(call, &err);
		return NULL;
	}
	relay = new0(struct relay);
	relay->call = call;
	return relay;
}

static struct relay *
ask_helper(struct rpc_call *call, const json_t *args, int fd, void *arg,
    const char *op)
{
	struct relay *relay = begin(call, arg, fd);

	if (relay == NULL)
		return NULL;
	relay->request = rpc_ask(ctl_node(arg)->helper, op,
	    json_deep_copy(args), -1, IMAGE_MS, on_answer, relay);
	rpc_request_on_progress(relay->request, on_progress);
	rpc_call_on_cancel(call, on_cancel, relay);
	return relay;
}

void
ctl_image_diff(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	ask_helper(call, args, fd, arg, "image.diff");
}

void
ctl_image_export(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct relay *relay = ask_helper(call, args, fd, arg, "image.export");

	if (relay != NULL)
		relay->exported_to = ctl_node(arg);
}

void
ctl_image_verify(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	ask_helper(call, args, fd, arg, "image.verify");
}

static void
on_collected(const json_t *result, const struct err *err, void *arg)
{
	on_answer(result, -1, err, arg);
}

void
ctl_image_gc(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct relay *relay = begin(call, arg, fd);

	if (relay == NULL)
		return;
	rpc_call_on_cancel(call, on_cancel, relay);
	relay->garbage = garbage_start(ctl_node(arg),
	    json_get_bool(args, "dry_run", false),
	    json_object_get(args, "also"), on_collected, on_progress, relay);
}
