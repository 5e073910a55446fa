/* SPDX-License-Identifier: GPL-3.0-or-later */
/* After a stop: changes that a VM made to versions of its image which it
 * hasn't started from for long are removed, and its timeline says so. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/node.h"
#include "json/json.h"

#define COLLECT_MS (4 * 3600 * 1000)

struct collect {
	struct list link;
	struct node *node;
	int64_t vm_id, since_ms;
	struct rpc_request *request;
};

static void
collect_free(struct collect *c)
{
	list_del(&c->link);
	if (c->request != NULL)
		rpc_request_cancel(c->request);
	free(c);
}

static void
on_collected(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct collect *c = arg;
	const struct event event = { .name = "vm.changes-removed",
		.vm_id = c->vm_id,
		.duration_ms = time_now_ms() - c->since_ms };
	int64_t n = json_get_int(result, "removed", 0);

	closep(&fd);
	c->request = NULL;
	if (err != NULL)
		log_err(LOG_LEVEL_WARN, err,
		    "remove old changes of VM %lld (tried again after its "
		    "next run)",
		    (long long)c->vm_id);
	else if (n > 0)
		store_event(c->node, &event,
		    "its changes to %lld version%s of its image were removed, "
		    "which it hasn't started from for %lld days",
		    (long long)n, n == 1 ? "" : "s",
		    (long long)(c->node->settings.root_keep_ms / 86400000));
	collect_free(c);
}

void
collect_begin(struct node *node, int64_t vm_id, const char *checksum)
{
	struct collect *c = new0(struct collect);

	c->node = node;
	c->vm_id = vm_id;
	c->since_ms = time_now_ms();
	list_init(&c->link);
	list_add(&node->collects, &c->link);
	c->request = rpc_ask(node->helper, "storage.collect",
	    json_pack("{sI ss sI}", "vm_id", (json_int_t)vm_id, "keep",
		checksum, "keep_ms", (json_int_t)node->settings.root_keep_ms),
	    -1, COLLECT_MS, on_collected, c);
}

void
collects_done(struct node *node)
{
	struct collect *c;

	LIST_EACH (&node->collects, c, struct collect, link)
		collect_free(c);
}
