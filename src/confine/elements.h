/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What one VM has in the node's ruleset, as text of nft commands, apart from
 * what runs it, so that tests can look at it: elements that say who it is,
 * its rate, and the chain of its egress policy. Owns nothing. HKD's root
 * helper.
 */
#ifndef CONFINE_ELEMENTS_H
#define CONFINE_ELEMENTS_H

#include "base/buf.h"
#include "confine/confine.h"
#include "model/egress.h"

/* Who has elements: as much as is needed to take them away. */
struct port {
	int64_t vm_id;
	char address[CONFINE_ADDR_MAX];
	char address6[CONFINE_ADDR6_MAX]; /* "": none */
};

/* The chain is made when missing and filled anew. */
void elements_add(struct buf *buf, const struct port *port,
    const struct egress *egress, int64_t rate_kbit);
/* Success also for what isn't there. The chain stays unless with_chain. */
void elements_delete(struct buf *buf, const struct port *port, bool with_chain);

#endif
