/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who somebody says to be: "login", "login@tenant" or "login#tenant". Pure;
 * used by the L7R's broker.
 */
#ifndef AUTH_NAME_H
#define AUTH_NAME_H

#include "base/err.h"

#define AUTH_NAME_MAX 64 /* bytes of a login, and of a tenant */

struct auth_name {
	char login[AUTH_NAME_MAX + 1];  /* as typed, trimmed */
	char folded[AUTH_NAME_MAX + 1]; /* the same in lower case */
	char tenant[AUTH_NAME_MAX + 1];
};

/* The last of the separators ("@#") starts the tenant, so that logins of other
 * directories may hold one; without one it is def_tenant. ERR_AUTH for what
 * can't be a name of ours. */
int auth_name_parse(const char *text, const char *separators,
    const char *def_tenant, struct auth_name *ret, struct err *err);

#endif
