/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd event: the farm's timeline, newest last. */
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct column columns[] = {
	{ "AT", "at", COLUMN_TIME },
	{ "EVENT", "name", COLUMN_TEXT },
	{ "VM", "vm", COLUMN_TEXT },
	{ "USER", "user", COLUMN_TEXT },
	{ "MS", "duration_ms", COLUMN_NUMBER },
	{ "TEXT", "text", COLUMN_TEXT },
	{ "ERROR", "error_id", COLUMN_TEXT },
	{ "REF", "ref", COLUMN_TEXT },
	COLUMN_END,
};

static const struct arg list_args[] = {
	{ "--vm", ARG_VM, 0, "vm_id", .doc = "only those of that VM" },
	{ "--user", ARG_USER, 0, "user_id", .doc = "only that user's" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "only that host's" },
	{ "--image", ARG_IMAGE, 0, "image_id", .doc = "only that image's" },
	{ "--ref", ARG_TEXT, 0, "ref", .meta = "REFERENCE",
	    .doc = "only those with that reference" },
	{ "--limit", ARG_NUMBER, 0, "limit", .min = 1, .max = 10000,
	    .doc = "the newest so many (default 100)" },
	ARG_END,
};

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the newest events" },
	{ .verb = NULL },
};

const struct noun noun_event = { "event", "/v1/events", columns, commands,
	"what happened" };
