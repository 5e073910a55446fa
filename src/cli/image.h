/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The commands of `qvd image` beside those of all nouns: image.c has their
 * table, image_make.c those that make a version, image_look.c those that look
 * at versions and at the store. Runs as the caller.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/cli.h"

int run_image_import(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_commit(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_build(
    struct cli *cli, const struct values *values, struct err *err);

int run_image_log(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_diff(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_export(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_distribution(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_verify(
    struct cli *cli, const struct values *values, struct err *err);
int run_image_gc(struct cli *cli, const struct values *values, struct err *err);

#endif
