/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The two short-lived roles of the program beside the agent itself. Both
 * get their order as JSON on a descriptor and end. VMA.
 *
 * "provision" (root): mounts the homes' device, finds or makes the user, the
 * home and the session's directories. Prints JSON objects, one a line:
 * {"info": text} as it goes; last {"account": {...}} or {"unknown": true},
 * or {"error": ...} with exit status 1.
 *
 * "run-as": becomes the user with a clean environment and executes a
 * program (agent, session).
 */
#ifndef VMA_PROVISION_H
#define VMA_PROVISION_H

#include <jansson.h>

#include "vma/user.h"

/* Order of "provision", on descriptor 0. */
#define PROVISION_MOUNT 1 /* mount the device and end */
#define PROVISION_FIND  2 /* only look the user up */
#define PROVISION_MAKE  4 /* make what is missing */

/* The two roles; each returns the exit status. */
int provision_main(void);
int run_as_main(void);

json_t *account_encode(const struct user_account *account);
int account_decode(
    const json_t *obj, struct user_account *ret, struct err *err);

#endif
