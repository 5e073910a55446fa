/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A certificate authority of the farm's own: it does nothing but say which
 * nodes are the farm's. ECDSA P-256, PEM text. Keys must be wiped.
 */
#ifndef NET_TLS_CA_H
#define NET_TLS_CA_H

#include "base/err.h"

int tls_ca_new(const char *name, int days, char **ret_cert, char **ret_key,
    struct err *err);
/* A certificate for both directions of a node of that name (a DNS name, or an
 * address). */
int tls_ca_issue(const char *ca_cert, const char *ca_key, const char *name,
    int days, char **ret_cert, char **ret_key, struct err *err);
/* How many days it is good for still; negative: it isn't any more. */
int tls_days_left(const char *cert, int *ret_days, struct err *err);

#endif
