/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The byte relay between the TLS connection and the viewer, for as long as
 * one connection lasts. One buffer a direction: while it is not empty
 * nothing more is read for it, so the slower side sets the pace. Owns
 * nothing. In the user's client.
 */
#ifndef CLIENT_RELAY_H
#define CLIENT_RELAY_H

#include "base/buf.h"
#include "base/err.h"
#include "client/conn.h"
#include "client/viewer.h"

enum relay_end {
	RELAY_ENDED, /* the session said good-bye */
	RELAY_LOST,  /* the link broke */
};

/* early: bytes that came together with the 101. Negative: cancelled, or the
 * viewer failed. on_started is called once the session draws. */
int relay_run(struct conn *conn, struct viewer *viewer, const struct buf *early,
    void (*on_started)(void *arg), void *arg, enum relay_end *ret,
    struct err *err);

#endif
