/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd tenant: the companies or departments of a farm. */
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_TEXT },
	{ "USERS", "users", COLUMN_NUMBER },
	{ "VMS", "vms", COLUMN_NUMBER },
	{ "BLOCKED", "blocked", COLUMN_YES },
	{ "DESCRIPTION", "description", COLUMN_TEXT },
	COLUMN_END,
};

static const struct arg one_args[] = {
	{ "TENANT", ARG_TENANT, ARG_REQUIRED | ARG_MANY,
	    .doc = "the tenant, by id or name" },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "NAME", ARG_NAME, ARG_REQUIRED, "name", .doc = "its name" },
	{ "--description", ARG_TEXT, 0, "description",
	    .doc = "what it is for" },
	EGRESS_ARGS,
	ARG_END,
};

static const struct arg set_args[] = {
	{ "TENANT", ARG_TENANT, ARG_REQUIRED,
	    .doc = "the tenant, by id or name" },
	{ "--name", ARG_NAME, 0, "name", .doc = "its new name" },
	{ "--description", ARG_TEXT, 0, "description",
	    .doc = "what it is for" },
	EGRESS_ARGS,
	ARG_END,
};

static const struct command commands[] = {
	{ "list", run_list, NULL, .summary = "Lists the tenants" },
	{ "show", run_show, one_args, .summary = "Shows tenants" },
	{ "add", run_add, add_args, .summary = "Adds a tenant" },
	{ "set", run_set, set_args, "Changes a tenant",
	    "A new egress policy holds for VMs that run, too." },
	{ "del", run_del, one_args, "Deletes tenants",
	    "A tenant that still has users or OSFs is not deleted." },
	{ "block", run_block, one_args,
	    .summary = "Keeps all users of tenants from logging in" },
	{ "unblock", run_unblock, one_args,
	    .summary = "Lets the users of tenants log in again" },
	{ .verb = NULL },
};

const struct noun noun_tenant = { "tenant", "/v1/tenants", columns, commands,
	"the tenants that share the farm" };
