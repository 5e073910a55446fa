/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The root parent of qvd-hkd: it is the helper (helper.h), makes hkd.sock,
 * starts the unprivileged main role (qvd-hkd-main) and starts it again when it
 * ends. It reads no byte from the network or the database.
 */
#ifndef HKD_PARENT_H
#define HKD_PARENT_H

#include "model/node_conf.h"

#define HKD_RPC_FD 3 /* of main: rpc to the helper */
#define HKD_CTL_FD 4 /* of main: hkd.sock, listening */

/* conf_path: given on to main, NULL: as it finds it. Returns an exit code. */
int parent_run(const struct node_conf *conf, const char *conf_path);

#endif
