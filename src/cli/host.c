/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd host: the nodes of the farm. */
#include "cli/cli.h"
#include "cli/nouns.h"

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

static const struct command commands[] = {
	{ "list", run_list, NULL, .summary = "Lists the hosts" },
	{ "show", run_show, one_args, .summary = "Shows hosts" },
	{ "add", run_add, add_args, .summary = "Adds a host" },
	{ "set", run_set, set_args, .summary = "Changes a host" },
	{ "block", run_block, one_args, "Starts no further VMs on hosts",
	    "What runs there goes on." },
	{ "unblock", run_unblock, one_args,
	    .summary = "Starts VMs on hosts again" },
	{ "del", run_del, one_args, "Deletes hosts",
	    "A host that still has VMs is not deleted." },
	{ .verb = NULL },
};

const struct noun noun_host = { "host", "/v1/hosts", columns, commands,
	"the nodes that run VMs" };
