/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd session: who is in which desktop. */
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct column columns[] = {
	{ "VM", "vm_id", COLUMN_NUMBER },
	{ "NAME", "path", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "SINCE", "state_at", COLUMN_AGE },
	{ "HOST", "host", COLUMN_TEXT },
	{ "FROM", "client_address", COLUMN_TEXT },
	{ "CLIENT", "client", COLUMN_TEXT },
	COLUMN_END,
};

static const struct arg list_args[] = {
	{ "--all", ARG_FLAG, 0, "all",
	    .doc = "also those that nobody is in now" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED | ARG_MANY,
	    .doc = "the VM of the session: an id or alice/desk" },
	ARG_END,
};

static int
run_disconnect(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/disconnect", err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists who is connected" },
	{ "disconnect", run_disconnect, one_args,
	    "Closes the clients of sessions",
	    "What runs in the desktop goes on, and the user may come back." },
	{ .verb = NULL },
};

const struct noun noun_session = { "session", "/v1/sessions", columns, commands,
	"who is connected to which VM" };
