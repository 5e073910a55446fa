/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The node's static nftables ruleset as text, apart from what loads it, so
 * that tests can look at it. Owns nothing. HKD's root helper.
 */
#ifndef CONFINE_RULESET_H
#define CONFINE_RULESET_H

#include "confine/confine.h"

/* One transaction that replaces our rules and keeps the sets' elements;
 * heap. */
char *ruleset_text(const struct confine_net *net);

#endif
