/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local back-end: crypt(5) hashes of the table `users` (yescrypt for new
 * ones). Part of src/auth; the chain is auth/auth.h.
 */
#ifndef AUTH_LOCAL_H
#define AUTH_LOCAL_H

#include "auth/auth.h"

/* Makes the hash that an unknown user's password is checked against. */
int auth_local_init(struct err *err);

#endif
