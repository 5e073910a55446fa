/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/resolvers.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

#define BETWEEN ", "

static int
parse_one(const char *text, size_t len, struct resolver *ret, struct err *err)
{
	unsigned char address[sizeof(struct in6_addr)];
	char one[IPV6_TEXT_MAX];

	if (len < sizeof(one)) {
		memcpy(one, text, len);
		one[len] = '\0';
		ret->ipv6 = strchr(one, ':') != NULL;
		if (inet_pton(ret->ipv6 ? AF_INET6 : AF_INET, one, address) ==
			1 &&
		    inet_ntop(ret->ipv6 ? AF_INET6 : AF_INET, address,
			ret->address, sizeof(ret->address)) != NULL)
			return 0;
	}
	return err_set(err, ERR_PARAMETER,
	    "name server '%.*s' is no IPv4 or IPv6 address",
	    (int)(len < 64 ? len : 64), text);
}

int
resolvers_parse(const char *text, struct resolvers *ret, struct err *err)
{
	const char *p = text;
	size_t len;
	int r;

	*ret = (struct resolvers){ .n = 0 };
	if (strlen(text) >= RESOLVERS_TEXT_MAX)
		return err_set(err, ERR_PARAMETER,
		    "more than %d name servers, or spaces without end",
		    RESOLVERS_MAX);
	for (; *(p += strspn(p, BETWEEN)) != '\0'; p += len) {
		len = strcspn(p, BETWEEN);
		if (ret->n == RESOLVERS_MAX)
			return err_set(err, ERR_PARAMETER,
			    "more than %d name servers", RESOLVERS_MAX);
		if ((r = parse_one(p, len, &ret->v[ret->n], err)) < 0)
			return r;
		ret->n++;
	}
	return 0;
}

char *
resolvers_text(const struct resolvers *r, const char *alone,
    char dst[static RESOLVERS_TEXT_MAX])
{
	size_t len = 0;
	int i;

	snprintf(dst, RESOLVERS_TEXT_MAX, "%s", r->n == 0 ? alone : "");
	for (i = 0; i < r->n; i++)
		len += (size_t)snprintf(dst + len, RESOLVERS_TEXT_MAX - len,
		    "%s%s", i > 0 ? " " : "", r->v[i].address);
	return dst;
}

bool
resolvers_have(const struct resolvers *r, const char *address)
{
	int i;

	for (i = 0; i < r->n; i++)
		if (str_eq(r->v[i].address, address))
			return true;
	return false;
}
