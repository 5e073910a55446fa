/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What `qvd upload` and `qvd image import --upload` share: sending a file to
 * the API's node. What it gives is the caller's. Runs as the caller.
 */
#ifndef CLI_UPLOAD_H
#define CLI_UPLOAD_H

#include "cli/cli.h"

/* Sends the file, or what has not arrived of it yet, through the API; *ret is
 * the whole upload as the API shows it, the caller's. */
int upload_send(
    struct cli *cli, const char *file, json_t **ret, struct err *err);

#endif
