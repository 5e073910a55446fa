/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The authenticator chain: is this password that user's? Back-ends are asked
 * in the order of a const table; the first that accepts wins. They may block
 * (a directory, a slow hash), so the chain runs in processes of its own (the
 * L7R's role `auth`), one question at a time. A back-end is one row of the
 * table: the place where LDAP and loaded plug-ins come in.
 */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define AUTH_PASSWORD_MAX 512

/* Borrowed during the call. */
struct auth_query {
	const char *tenant;
	const char *login;
	const char *password; /* NUL-ended */
	const char *hash;     /* crypt(5) of the local user; NULL: no such
			       * user, or one without a local password */
};

enum auth_verdict {
	AUTH_PASS, /* not one of mine */
	AUTH_DENY,
	AUTH_ACCEPT
};

struct auth_backend {
	const char *name;
	/* 0 with a verdict, or negative if it could not be found out (the
	 * directory is down): the chain goes on, and if nobody accepts, that
	 * error is the answer. */
	int (*verify)(const struct auth_query *query,
	    enum auth_verdict *ret_verdict, struct err *err);
};

extern const struct auth_backend auth_local;

/* Once per process, before privileges are given up: prepares what the
 * back-ends need. */
int auth_init(struct err *err);
int auth_verify(
    const struct auth_query *query, bool *ret_accepted, struct err *err);

/* A new yescrypt hash of the password, heap; for whoever sets passwords. */
int auth_hash(const char *password, char **ret_hash, struct err *err);

#endif
