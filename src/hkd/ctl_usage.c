/* SPDX-License-Identifier: GPL-3.0-or-later */
/* host.usage: what the node has, and what each VM uses of it. The helper
 * looks at the VMs, for they are other users'; the rest anybody may read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/fs.h"
#include "base/mem.h"
#include "hkd/vm.h"
#include "model/usage.h"

#define USAGE_MS 60000

struct asked {
	struct node *node;
	struct rpc_call *call;
	struct rpc_request *request;
};

/* KiB of a line such as "MemAvailable:   123 kB"; 0: no such line. */
static int64_t
meminfo_kb(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p == NULL ? 0 : strtoll(p + strlen(key), NULL, 10);
}

static json_t *
disks_json(const struct node *node)
{
	json_t *list = json_array();
	int i;

	for (i = 0; i < NODE_DISKS; i++) {
		const struct node_disk *disk = &node->disks.v[i];

		if (disk->shown)
			json_array_append_new(list,
			    json_pack("{ss sI sI si ss}", "path", disk->path,
				"size_kb", (json_int_t)disk->facts.size_kb,
				"free_kb",
				(json_int_t)(disk->facts.size_kb -
					     disk->facts.used_kb),
				"percent", fill_percent(&disk->facts), "fill",
				fill_to_str(disk->fill)));
	}
	return list;
}

static json_t *
node_json(struct node *node)
{
	const struct pressure *p = pressure_read(&node->pressure);
	_cleanup_(freep)
	char *text = NULL;
	double load[1] = { 0 };
	int waiting = 0, turns;
	const char *shortage = NULL;
	struct list *l;
	json_t *info;

	if (fs_read_file("/proc/meminfo", 64 * 1024, &text, NULL, NULL) < 0)
		text = xstrdup("");
	if (getloadavg(load, 1) < 1)
		load[0] = 0;
	for (l = node->queue.next; l != &node->queue; l = l->next)
		waiting++;
	turns =
	    admission_turns(p, get_nprocs(), node->settings.starts, &shortage);
	info = json_pack("{ss si sf sI sI sI sI si si si ss?}", "name",
	    node->conf->name, "cpus", get_nprocs(), "load", load[0],
	    "memory_kb", (json_int_t)meminfo_kb(text, "MemTotal:"),
	    "available_kb", (json_int_t)meminfo_kb(text, "MemAvailable:"),
	    "swap_kb", (json_int_t)meminfo_kb(text, "SwapTotal:"),
	    "swap_free_kb", (json_int_t)meminfo_kb(text, "SwapFree:"),
	    "starting", node->n_starting, "waiting", waiting, "turns", turns,
	    "short_of", shortage);
	json_object_set_new(info, "disks", disks_json(node));
	if (p->has_psi)
		json_object_set_new(info, "pressure",
		    json_pack("{sf sf sf}", "cpu", p->percent[PRESSURE_CPU],
			"memory", p->percent[PRESSURE_MEMORY], "io",
			p->percent[PRESSURE_IO]));
	return info;
}

/* What the helper has measured, and beside it what was seen of its disks at
 * the last look, which is as good for what is hibernated. */
static json_t *
vms_json(struct node *node, const json_t *measured)
{
	json_t *vms = json_deep_copy(measured), *items;
	size_t i;

	json_array_foreach (vms, i, items) {
		const struct vm *vm = map_get(
		    &node->vms, (uint64_t)json_integer_value(
				    json_array_get(items, USAGE_VM_ID)));

		if (vm == NULL)
			continue;
		json_array_set_new(items, USAGE_SYSTEM_FILL,
		    json_integer(
			fill_percent(&vm->disks.facts[VM_DISK_SYSTEM])));
		json_array_set_new(items, USAGE_HOME_FILL,
		    json_integer(fill_percent(&vm->disks.facts[VM_DISK_HOME])));
	}
	return vms;
}

static void
on_usage(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct asked *asked = arg;

	closep(&fd);
	if (err != NULL)
		rpc_fail(asked->call, err);
	else
		rpc_reply(asked->call,
		    json_pack("{so so}", "node", node_json(asked->node), "vms",
			vms_json(asked->node, json_object_get(result, "vms"))),
		    -1);
	free(asked);
}

static void
on_cancel(void *arg)
{
	struct asked *asked = arg;

	rpc_request_cancel(asked->request);
	rpc_reply(asked->call, NULL, -1);
	free(asked);
}

void
ctl_usage(struct node *node, struct rpc_call *call)
{
	struct asked *asked = new0(struct asked);

	asked->node = node;
	asked->call = call;
	asked->request = rpc_ask(
	    node->helper, "vm.usage", NULL, -1, USAGE_MS, on_usage, asked);
	rpc_call_on_cancel(call, on_cancel, asked);
}
