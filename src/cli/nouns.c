/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of all nouns. */
#include "cli/nouns.h"

#include "base/str.h"
#include "cli/cli.h"

const struct noun *const nouns[] = { &noun_tenant, &noun_user, &noun_osf,
	&noun_image, &noun_upload, &noun_rollout, &noun_vm, &noun_home,
	&noun_host, &noun_farm, &noun_session, &noun_config, &noun_event,
	&noun_why, &noun_db, &noun_up, &noun_help, &noun_completion, NULL };

const struct noun *
noun_find(const char *name)
{
	const struct noun *const *n;

	for (n = nouns; *n != NULL; n++)
		if (str_eq((*n)->name, name))
			return *n;
	return NULL;
}

const struct command *
command_find(const struct noun *noun, const char *verb)
{
	const struct command *c;

	for (c = noun->commands; c->verb != NULL; c++)
		if (str_eq(c->verb, verb))
			return c;
	return NULL;
}
