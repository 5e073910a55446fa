/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/name.h"

#include <stddef.h>
#include <string.h>

#include "base/str.h"

/* Copies without spaces at both ends; false if empty, too long or no text. */
static bool
copy_trimmed(char *dst, const char *src, size_t len)
{
	while (len > 0 && *src == ' ') {
		src++;
		len--;
	}
	while (len > 0 && src[len - 1] == ' ')
		len--;
	if (len == 0 || len > AUTH_NAME_MAX)
		return false;
	memcpy(dst, src, len);
	dst[len] = '\0';
	return str_is_text(dst, AUTH_NAME_MAX);
}

int
auth_name_parse(const char *text, const char *separators,
    const char *def_tenant, struct auth_name *ret, struct err *err)
{
	struct auth_name name = { 0 };
	const char *tenant = def_tenant, *at = NULL, *p;
	size_t i, len = strlen(text), tenant_len = strlen(tenant);

	for (p = text; (p = strpbrk(p, separators)) != NULL; p++)
		at = p;
	if (at != NULL) {
		tenant = at + 1;
		tenant_len = strlen(tenant);
		len = (size_t)(at - text);
	}
	if (!copy_trimmed(name.login, text, len) ||
	    !copy_trimmed(name.tenant, tenant, tenant_len))
		return err_set(err, ERR_AUTH,
		    "the login is not of the form 'login' or 'login@tenant'");
	for (i = 0; name.login[i] != '\0'; i++)
		name.folded[i] = name.login[i] >= 'A' && name.login[i] <= 'Z'
				     ? (char)(name.login[i] - 'A' + 'a')
				     : name.login[i];
	*ret = name;
	return 0;
}
