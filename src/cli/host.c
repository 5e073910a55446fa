/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd host: the nodes of the farm. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "json/json.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_TEXT },
	{ "ADDRESS", "address", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "SINCE", "state_at", COLUMN_AGE },
	{ "VMS", "vms", COLUMN_NUMBER },
	{ "RUNNING", "running", COLUMN_NUMBER },
	{ "CPUS", "cpus", COLUMN_NUMBER },
	{ "MEMORY", "memory_bytes", COLUMN_BYTES },
	{ "VERSION", "version", COLUMN_TEXT },
	{ "BLOCKED", "blocked", COLUMN_YES },
	COLUMN_END,
};

static const struct arg one_args[] = {
	{ "HOST", ARG_HOST, ARG_REQUIRED | ARG_MANY,
	    .doc = "the host, by id or name" },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "NAME", ARG_NAME, ARG_REQUIRED, "name",
	    .doc = "its name, as [node] name in its node.conf" },
	{ "--address", ARG_TEXT, ARG_REQUIRED, "address",
	    .doc = "where the other hosts reach it" },
	ARG_END,
};

static const struct arg set_args[] = {
	{ "HOST", ARG_HOST, ARG_REQUIRED, .doc = "the host, by id or name" },
	{ "--address", ARG_TEXT, 0, "address",
	    .doc = "where the other hosts reach it" },
	ARG_END,
};

static const struct arg repair_args[] = {
	{ "HOST", ARG_HOST, ARG_REQUIRED,
	    .doc = "the host, by id or name: this one" },
	{ "--dry-run", ARG_FLAG, 0, .doc = "only say what would be removed" },
	ARG_END,
};

static const struct column repair_columns[] = {
	{ "WHAT", "what", COLUMN_TEXT },
	{ "OF VM", "vm_id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_TEXT },
	{ "ERROR", "error", COLUMN_TEXT },
	COLUMN_END,
};

static int
run_repair(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	bool dry = value_flag(values, "--dry-run");
	const json_t *items, *item;
	size_t i, failed = 0;
	int64_t id;
	int r;

	if ((r = api_id(cli, ARG_HOST, value_get(values, "HOST"), &id, err)) <
		0 ||
	    (r = api_call(cli, "POST",
		 api_path(cli, values->noun, id,
		     dry ? "/repair?dry_run=1" : "/repair"),
		 NULL, &answer, err)) < 0)
		return r;
	items = json_object_get(answer, "items");
	json_array_foreach (items, i, item)
		failed += json_object_get(item, "error") != NULL;
	if (cli->json)
		print_json(items);
	else if (json_array_size(items) > 0)
		print_table(cli, repair_columns, items);
	else if (!cli->quiet)
		printf("Nothing was left behind.\n");
	if (failed == 0)
		return 0;
	return err_set(err, ERR_SYSTEM,
	    "%zu of %zu could not be removed; the errors above say why", failed,
	    json_array_size(items));
}

static const struct command commands[] = {
	{ "list", run_list, NULL, .summary = "Lists the hosts" },
	{ "show", run_show, one_args, .summary = "Shows hosts" },
	{ "top", run_host_top, host_top_args,
	    "Shows what the VMs of a host use, and what it has room for",
	    "PSS is a VM's share of memory, ANON and KERNEL are its own "
	    "alone, SWAP is what of it has been swapped out; CPU%, MEM% and "
	    "IO% are the share of the last 10 s in which something in it "
	    "waited for that." },
	{ "add", run_add, add_args, .summary = "Adds a host" },
	{ "set", run_set, set_args, .summary = "Changes a host" },
	{ "block", run_block, one_args, "Starts no further VMs on hosts",
	    "What runs there goes on. Other nodes serve it no images." },
	{ "unblock", run_unblock, one_args,
	    .summary = "Starts VMs on hosts again" },
	{ "repair", run_repair, repair_args,
	    "Removes what a crash left on the host",
	    "Mounts, links, cgroups, firewall elements, loop devices, and the "
	    "changes to images of VMs that were deleted. What runs is not "
	    "touched." },
	{ "del", run_del, one_args, "Deletes hosts",
	    "A host that still has VMs is not deleted." },
	{ .verb = NULL },
};

const struct noun noun_host = { "host", "/v1/hosts", columns, commands,
	"the nodes that run VMs" };
