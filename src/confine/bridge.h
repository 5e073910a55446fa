/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The bridge of the desktops and the sysctls around it, by libnl-route: what
 * confine.c needs of rtnetlink. Nothing is owned; it works in the network
 * namespace of the caller, HKD's root helper.
 */
#ifndef CONFINE_BRIDGE_H
#define CONFINE_BRIDGE_H

#include "confine/confine.h"

/* The bridge exists, is up, has the gateway's address and a MAC of its own. */
int bridge_setup(const struct confine_net *net, struct err *err);

#endif
