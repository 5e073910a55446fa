/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a desktop may reach outside of its node: a list of rules, of which the
 * first that fits decides; what none fits is denied. As text, in rows and on
 * the command line:
 *
 *	allow 10.1.2.3 tcp/445 udp/137-139, deny private, allow any
 *
 * A rule is `allow` or `deny`, a target (an address, a prefix, `private`, or
 * `any`) and what of it: `tcp`, `udp` or `icmp`, with a port or a range of
 * them; nothing means everything. Rules end at a comma or a line's end. A
 * struct egress holds no pointers. Pure; API, HKD and its root helper.
 */
#ifndef MODEL_EGRESS_H
#define MODEL_EGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/enum.h"
#include "base/err.h"

#define EGRESS_TEXT_MAX  4096
#define EGRESS_RULES_MAX 100

/* Of OSF, tenant and farm none says anything. */
#define EGRESS_DEFAULT "deny private, allow any"

#define EGRESS_TARGET_TABLE(X) \
	X(ANY, "any")          \
	X(PRIVATE, "private")  \
	X(NET4, "net4")        \
	X(NET6, "net6")

#define EGRESS_PROTOCOL_TABLE(X) \
	X(ANY, "any")            \
	X(TCP, "tcp")            \
	X(UDP, "udp")            \
	X(ICMP, "icmp")

#define X(name, word) EGRESS_TARGET_##name,
enum egress_target { EGRESS_TARGET_TABLE(X) EGRESS_TARGET_COUNT_ };
#undef X
#define X(name, word) EGRESS_PROTOCOL_##name,
enum egress_protocol { EGRESS_PROTOCOL_TABLE(X) EGRESS_PROTOCOL_COUNT_ };
#undef X
ENUM_FUNCTIONS(egress_protocol);

#define EGRESS_NET_MAX 50 /* "<IPv6 address>/128" */

struct egress_rule {
	bool allow;
	enum egress_target target;
	char net[EGRESS_NET_MAX]; /* NET4, NET6: in canonical form */
	enum egress_protocol protocol;
	uint16_t first, last; /* ports; 0: all */
};

struct egress {
	struct egress_rule rules[EGRESS_RULES_MAX];
	int n;
};

/* ERR_PARAMETER names the rule that is wrong; also for a text without any. */
int egress_parse(const char *text, struct egress *ret, struct err *err);
/* For field tables: empty (none of its own) or right. */
int egress_check(const char *text, struct err *err);

#endif
