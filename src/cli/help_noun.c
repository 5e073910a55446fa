/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd help and qvd completion, as commands. */
#include "cli/cli.h"
#include "cli/nouns.h"

static const struct arg help_args[] = {
	{ "NOUN", ARG_TEXT, 0, .doc = "what to tell more about" },
	{ "VERB", ARG_TEXT, 0, .doc = "the command to tell all about" },
	{ "--man", ARG_TEXT, 0, .meta = "PART",
	    .doc = "prints a part of the manual: commands, node.conf or "
		   "settings" },
	ARG_END,
};

static const struct command help_commands[] = {
	{ "", run_help, help_args,
	    .summary = "Tells how the commands are used" },
	{ .verb = NULL },
};

const struct noun noun_help = { "help", NULL, NULL, help_commands,
	"how the commands are used" };

static const struct command completion_commands[] = {
	{ "bash", run_completion, NULL,
	    "Prints what bash must read to complete commands of qvd",
	    "For one shell: eval \"$(qvd completion bash)\". For all: write "
	    "it to /usr/share/bash-completion/completions/qvd." },
	{ .verb = NULL },
};

const struct noun noun_completion = { "completion", NULL, NULL,
	completion_commands, "completion of commands in a shell" };
