/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "l7r/broker.h"

#define CHANNEL_MS 20000
#define RETRY_MS   200

struct hkd {
	struct loop *loop;
	char *path;
	struct rpc *rpc; /* NULL: not connected */
	struct list asks;
	struct timer retry;
};

static const struct rpc_op no_ops[] = { { .name = NULL } };

static void send_all(struct hkd *hkd);

static void
on_retry(void *arg)
{
	send_all(arg);
}

struct hkd *
hkd_new(struct loop *loop, const char *path)
{
	struct hkd *hkd = new0(struct hkd);

	hkd->loop = loop;
	hkd->path = xstrdup(path);
	list_init(&hkd->asks);
	timer_init(&hkd->retry, loop, on_retry, hkd);
	return hkd;
}

void
hkd_free(struct hkd *hkd)
{
	struct hkd_ask *ask;

	if (hkd == NULL)
		return;
	LIST_EACH (&hkd->asks, ask, struct hkd_ask, link)
		hkd_ask_done(ask);
	if (hkd->rpc != NULL)
		rpc_free(hkd->rpc);
	timer_done(&hkd->retry);
	free(hkd->path);
	free(hkd);
}

void
hkd_ask_done(struct hkd_ask *ask)
{
	if (ask->hkd == NULL)
		return;
	list_del(&ask->link);
	if (ask->request != NULL)
		rpc_request_cancel(take_ptr(ask->request));
	ask->hkd = NULL;
}

static void
answer(struct hkd_ask *ask, int fd, const struct err *err)
{
	hkd_ask_done(ask);
	ask->cb(fd, err, ask->arg);
}

static void
on_channel(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct hkd_ask *ask = arg;
	struct err bad = { 0 };

	ask->request = NULL;
	if (err != NULL && err->code == ERR_UNAVAILABLE) {
		/* The daemon went away: it is being restarted. */
		timer_start(&ask->hkd->retry, RETRY_MS);
	} else if (err == NULL && fd < 0) {
		err_set(&bad, ERR_INTERNAL,
		    "qvd-hkd answered without a descriptor");
		answer(ask, -1, &bad);
	} else {
		answer(ask, fd, err);
	}
}

static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
	struct hkd *hkd = arg;

	rpc_free(rpc);
	hkd->rpc = NULL;
	if (!list_empty(&hkd->asks))
		timer_start(&hkd->retry, RETRY_MS);
}

static void
send_one(struct hkd_ask *ask)
{
	struct hkd *hkd = ask->hkd;
	int64_t left = ask->deadline_ms - time_now_ms();
	struct err err = { 0 };

	if (hkd->rpc != NULL && left > 0) {
		ask->request = rpc_ask(hkd->rpc, "vm.channel",
		    json_pack("{s:I, s:I}", "vm_id", (json_int_t)ask->vm_id,
			"epoch", (json_int_t)ask->epoch),
		    -1, left, on_channel, ask);
	} else if (left <= 0) {
		err_set(&err, ERR_UNAVAILABLE,
		    "the house-keeping daemon of this node (qvd-hkd) does not "
		    "answer on '%s'",
		    hkd->path);
		answer(ask, -1, &err);
	}
}

static void
send_all(struct hkd *hkd)
{
	struct err err = { 0 };
	struct hkd_ask *ask;

	if (hkd->rpc == NULL && !list_empty(&hkd->asks)) {
		hkd->rpc = rpc_connect(
		    hkd->loop, hkd->path, no_ops, on_closed, hkd, &err);
		if (hkd->rpc == NULL)
			log_err(LOG_LEVEL_DEBUG, &err, "qvd-hkd");
	}
	LIST_EACH (&hkd->asks, ask, struct hkd_ask, link)
		if (ask->request == NULL)
			send_one(ask);
	if (hkd->rpc == NULL && !list_empty(&hkd->asks))
		timer_start(&hkd->retry, RETRY_MS);
}

void
hkd_channel(struct hkd_ask *ask, struct hkd *hkd, int64_t vm_id, int64_t epoch,
    void (*cb)(int fd, const struct err *err, void *arg), void *arg)
{
	*ask = (struct hkd_ask){
		.hkd = hkd,
		.vm_id = vm_id,
		.epoch = epoch,
		.deadline_ms = time_now_ms() + CHANNEL_MS,
		.cb = cb,
		.arg = arg,
	};
	list_init(&ask->link);
	list_add(&hkd->asks, &ask->link);
	send_all(hkd);
}
