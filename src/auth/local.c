/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/local.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Of a random password that nobody knows; made at start, so that it costs
 * what the hashes of this node's library cost. */
static char dummy[CRYPT_OUTPUT_SIZE];

static void
wipe_cryptp(struct crypt_data **data)
{
	if (*data == NULL)
		return;
	explicit_bzero(*data, sizeof(**data));
	free(*data);
}

/* crypt_r() into data; NULL if the setting is no hash that it knows. */
static const char *
run_crypt(struct crypt_data *data, const char *password, const char *setting)
{
	const char *hash = crypt_r(password, setting, data);

	return hash == NULL || hash[0] == '*' ? NULL : hash;
}

int
auth_hash(const char *password, char **ret_hash, struct err *err)
{
	_cleanup_(wipe_cryptp)
	struct crypt_data *data = new0(struct crypt_data);
	char salt[CRYPT_GENSALT_OUTPUT_SIZE];
	const char *hash;

	if (password[0] == '\0')
		return err_set(err, ERR_PARAMETER,
		    "an empty password can't be used to log in");
	if (strlen(password) > AUTH_PASSWORD_MAX)
		return err_set(err, ERR_PARAMETER,
		    "the password is longer than %d bytes", AUTH_PASSWORD_MAX);
	if (crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof(salt)) == NULL)
		return err_errno(err, ERR_SYSTEM, errno, "make a salt");
	if ((hash = run_crypt(data, password, salt)) == NULL)
		return err_errno(err, ERR_SYSTEM, errno, "hash a password");
	*ret_hash = xstrdup(hash);
	return 0;
}

int
auth_local_init(struct err *err)
{
	_cleanup_(wipe_strp)
	char *password = xcalloc(1, 33);
	_cleanup_(freep)
	char *hash = NULL;
	int r;

	str_random(password, 32);
	if ((r = auth_hash(password, &hash, err)) < 0)
		return r;
	str_copy(dummy, sizeof(dummy), hash);
	return 0;
}

/*
 * An unknown user, and one whose hash can't be used, cost the same time as a
 * wrong password, so that logins can't be found by the clock.
 */
static int
local_verify(const struct auth_query *query, enum auth_verdict *ret_verdict,
    struct err *err)
{
	_cleanup_(wipe_cryptp)
	struct crypt_data *data = new0(struct crypt_data);
	const char *hash = NULL;
	bool ok = false;

	if (query->hash != NULL && query->password[0] != '\0')
		hash = run_crypt(data, query->password, query->hash);
	if (hash != NULL)
		ok = str_eq_secret(hash, query->hash);
	else
		run_crypt(data, query->password, dummy);
	*ret_verdict = ok                    ? AUTH_ACCEPT
		       : query->hash == NULL ? AUTH_PASS
					     : AUTH_DENY;
	return 0;
}

const struct auth_backend auth_local = {
	.name = "local",
	.verify = local_verify,
};
