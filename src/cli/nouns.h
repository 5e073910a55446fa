/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The nouns of the command line: each is a const table in a file of its own,
 * and nouns.c lists them in the order of the help. Nothing to own. qvd only.
 */
#ifndef CLI_NOUNS_H
#define CLI_NOUNS_H

#include "cli/cli.h"

extern const struct noun noun_tenant, noun_user, noun_osf, noun_image, noun_vm,
    noun_host, noun_session, noun_config, noun_event, noun_why, noun_db,
    noun_up, noun_help, noun_completion, noun_rollout, noun_home, noun_farm,
    noun_upload;

/* Commands of `qvd image` that are about roll-outs: rollout.c. */
extern const struct arg image_rollout_args[], image_rollback_args[];
int run_image_rollout(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_rollback(
    struct cli *cli, const struct values *values, struct err *err);

/* top.c: a verb of host. */
extern const struct arg host_top_args[];
int run_host_top(struct cli *cli, const struct values *values, struct err *err);

#endif
