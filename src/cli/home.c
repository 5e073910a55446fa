/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd home: the homes of VMs, their sizes and snapshots. */
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "VM", "path", COLUMN_TEXT },
	{ "HOST", "host", COLUMN_TEXT },
	{ "KIND", "store", COLUMN_TEXT },
	{ "SIZE", "size_mb", COLUMN_MB },
	{ "USED", "used_mb", COLUMN_MB },
	{ "SNAPSHOTS", "snapshot_count", COLUMN_NUMBER },
	{ "SEEN", "seen_at", COLUMN_AGE },
	COLUMN_END,
};

#define VM_DOC "the VM: an id, alice/desk, or alice@tenant/desk"

static const struct arg list_args[] = {
	{ "--user", ARG_USER, 0, "user_id", .doc = "only that user's" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "only those on that host" },
	ARG_END,
};

static const struct arg many_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED | ARG_MANY, .doc = VM_DOC },
	ARG_END,
};

static const struct arg snapshot_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED, .doc = VM_DOC },
	{ "NAME", ARG_NAME, ARG_REQUIRED, "name", .doc = "of the snapshot" },
	ARG_END,
};

static const struct arg grow_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED, .doc = VM_DOC },
	{ "SIZE", ARG_MB, 0, "size_mb",
	    .doc = "for this VM, whatever its OSF says; without it: what the "
		   "OSF says" },
	ARG_END,
};

/* POST <object>/<verb>?wait=1 with the arguments that have members. */
static int
run_act(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	const char *rest =
	    arena_printf(cli->arena, "/%s?wait=1", values->command->verb);
	json_t *body;
	int64_t id;
	int r;

	r = api_id(cli, ARG_VM, value_get(values, "VM"), &id, err);
	if (r < 0 || (r = values_body(cli, values, &body, err)) < 0)
		return r;
	r = api_call(cli, "POST", api_path(cli, values->noun, id, rest), body,
	    &answer, err);
	if (r == 0 && cli->json)
		print_json(answer);
	return r;
}

static int
run_each(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST",
	    arena_printf(cli->arena, "/%s?wait=1", values->command->verb), err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, "Lists homes",
	    "As their nodes last saw them: when the VM started, or when "
	    "something was done with the home." },
	{ "show", run_show, many_args,
	    .summary = "Shows homes and their snapshots" },
	{ "look", run_each, many_args,
	    .summary = "Has the node look at homes now" },
	{ "snapshot", run_act, snapshot_args, "Makes a snapshot of a home",
	    "Of a running VM only where the node's disk can (btrfs, XFS)." },
	{ "restore", run_act, snapshot_args,
	    "Makes a home what it was at a snapshot",
	    "The VM must be stopped. What the home is now is lost; the "
	    "snapshot stays." },
	{ "forget", run_act, snapshot_args,
	    .summary = "Removes a snapshot of a home" },
	{ "grow", run_act, grow_args, "Makes a home larger",
	    "Also while its VM runs. A home never becomes smaller." },
	{ "convert", run_each, many_args,
	    "Keeps homes as node.storage.home says",
	    "The VM must be stopped, and the home without snapshots. All "
	    "files are copied." },
	{ .verb = NULL },
};

const struct noun noun_home = { "home", "/v1/homes", columns, commands,
	"the homes of VMs" };
