/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Questions of requests to this node's house-keeper on hkd.sock: a
 * connection each, gone with the question. */
#include <stdio.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "net/rpc.h"

struct node_ask {
	struct request *req;
	struct rpc *rpc;
	struct rpc_request *request;
	node_cb cb;
	bool of_store; /* it asks for work on the image store */
};

static void
ask_free(struct node_ask *ask)
{
	ask->req->ask = NULL;
	if (ask->rpc != NULL)
		rpc_free(ask->rpc);
	free(ask);
}

static void
on_answer(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node_ask *ask = arg;
	struct request *req = ask->req;
	node_cb cb = ask->cb;
	bool of_store = ask->of_store;
	struct err said;

	ask->request = NULL;
	ask_free(ask);
	request_step_done(req);
	if (req->answered) {
		closep(&fd);
	} else if (err != NULL) {
		closep(&fd);
		said = *err;
		/* Its helper, or itself: such work has no row. */
		if (of_store && err->code == ERR_UNAVAILABLE)
			err_wrap(&said, -(int)err->code,
			    "this node's house-keeper (qvd-hkd) ended before "
			    "it "
			    "was done, and leaves nothing of it; repeat it "
			    "when "
			    "that runs again");
		respond_err(req, &said);
	} else {
		cb(req, result, fd);
	}
	request_check(req);
}

static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
	/* The question has been answered with that error. */
}

static void
on_progress(const json_t *info, void *arg)
{
	struct node_ask *ask = arg;
	char text[160], clean[200];

	snprintf(text, sizeof(text), "%s %lld %%",
	    json_get_str(info, "text", ""),
	    (long long)json_get_int(info, "percent", 0));
	str_escape(clean, sizeof(clean), text, strlen(text));
	await_tell(ask->req, clean);
}

void
node_ask(struct request *req, const char *op, json_t *args, int64_t deadline_ms,
    node_cb cb)
{
	static const struct rpc_op none[] = { { .name = NULL } };
	_cleanup_(freep)
	char *path = node_conf_run_path(&req->api->conf, "hkd.sock");
	struct node_ask *ask = new0(struct node_ask);
	struct err err;

	ask->req = req;
	ask->cb = cb;
	ask->of_store = str_starts(op, "image.");
	ask->rpc =
	    rpc_connect(req->api->loop, path, none, on_closed, ask, &err);
	if (ask->rpc == NULL) {
		json_decref(args);
		free(ask);
		respond_fail(req, ERR_UNAVAILABLE,
		    "the house-keeper of this node (qvd-hkd) doesn't answer: "
		    "%s",
		    err.msg);
		return;
	}
	req->ask = ask;
	request_step_begun(req);
	ask->request =
	    rpc_ask(ask->rpc, op, args, -1, deadline_ms, on_answer, ask);
	rpc_request_on_progress(ask->request, on_progress);
}

void
node_ask_cancel(struct request *req)
{
	struct node_ask *ask = req->ask;

	if (ask == NULL)
		return;
	rpc_request_cancel(ask->request);
	ask_free(ask);
	request_step_done(req);
}
