/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Builds a recipe by images/build, which keeps what it made (recipe.c). Runs
 * as the caller, who must be root.
 */
#ifndef CLI_RECIPE_H
#define CLI_RECIPE_H

#include "cli/cli.h"

struct recipe {
	const char *builder; /* images/build, beside the recipe */
	const char *name;
	const char *out; /* where what is made is kept */
	bool fresh;      /* also what was built before */
};

/* The path of the tar. Steps go to standard error; ended by a signal, nothing
 * of it stays but the log. */
int recipe_build(struct cli *cli, const struct recipe *recipe, char *ret_tar,
    size_t size, struct err *err);

#endif
