/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/auth.h"

#include <string.h>

#include "auth/local.h"
#include "base/mem.h"

static const struct auth_backend *const chain[] = {
	&auth_local,
};

int
auth_init(struct err *err)
{
	return auth_local_init(err);
}

int
auth_verify(const struct auth_query *query, bool *ret_accepted, struct err *err)
{
	enum auth_verdict verdict;
	struct err failure = { 0 };
	bool unknown = false;
	size_t i;

	if (strlen(query->password) > AUTH_PASSWORD_MAX)
		return err_set(err, ERR_AUTH,
		    "the password is longer than %d bytes", AUTH_PASSWORD_MAX);
	for (i = 0; i < ARRAY_SIZE(chain); i++) {
		verdict = AUTH_PASS;
		if (chain[i]->verify(query, &verdict, &failure) < 0) {
			err_wrap(
			    &failure, -1, "authenticator '%s'", chain[i]->name);
			unknown = true;
		} else if (verdict == AUTH_ACCEPT) {
			*ret_accepted = true;
			return 0;
		}
	}
	if (unknown) {
		if (err != NULL)
			*err = failure;
		return -(int)failure.code;
	}
	*ret_accepted = false;
	return 0;
}
