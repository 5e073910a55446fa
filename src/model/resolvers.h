/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The name servers of a farm's desktops: what they are told, and the only ones
 * that they can ask. A list of addresses as text, "10.88.0.1, 2001:db8::53",
 * at most as many as a C library looks at and one more. Pure; owns nothing.
 * Used by HKD, its helper and the API.
 */
#ifndef MODEL_RESOLVERS_H
#define MODEL_RESOLVERS_H

#include <stdbool.h>

#include "base/err.h"
#include "model/range.h"

#define RESOLVERS_MAX      4
#define RESOLVERS_TEXT_MAX (RESOLVERS_MAX * (IPV6_TEXT_MAX + 1))

struct resolvers {
	int n; /* 0: the node is the one */
	struct resolver {
		char address[IPV6_TEXT_MAX]; /* as inet_ntop(3) writes it */
		bool ipv6;
	} v[RESOLVERS_MAX];
};

int resolvers_parse(const char *text, struct resolvers *ret, struct err *err);
/* "10.88.0.1 2001:db8::53"; alone where there are none. Returns dst. */
char *resolvers_text(const struct resolvers *r, const char *alone,
    char dst[static RESOLVERS_TEXT_MAX]);
bool resolvers_have(const struct resolvers *r, const char *address);

#endif
