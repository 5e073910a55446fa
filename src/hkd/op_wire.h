/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packets between the helper and an operation process: one JSON object each,
 * with at most one descriptor. Both sides are ours, the sockets private.
 */
#ifndef HKD_OP_WIRE_H
#define HKD_OP_WIRE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Waits until it is sent. fd stays the caller's. */
int op_wire_send(int sock, const json_t *msg, int fd, struct err *err);
/* 1: *ret and *ret_fd (-1: none) are the caller's; 0: the other end closed
 * it, or nothing is there (MSG_DONTWAIT); negative: broken. */
int op_wire_recv(
    int sock, int flags, json_t **ret, int *ret_fd, struct err *err);
/* The other end is closed and everything was read. */
bool op_wire_ended(int sock);

#endif
