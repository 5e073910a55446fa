/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Listening stream sockets: TCP addresses ("*:8443", "127.0.0.1:8443",
 * "[::]:8443") and unix paths; accepting with a limit on connections. On
 * EMFILE and at the limit accepting stops and goes on when one closes.
 */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include <sys/types.h>

#include "net/io.h"

/* Bound and listening, non-blocking, close-on-exec, SO_REUSEADDR; reuseport:
 * one of several sockets that share the port. */
int listen_tcp(
    const char *address, bool reuseport, int *ret_fd, struct err *err);
int listen_unix(
    const char *path, mode_t mode, gid_t gid, int *ret_fd, struct err *err);

struct listener;
/* fd is the callee's. */
typedef void (*listener_cb)(int fd, void *arg);
/* Takes fd. max: connections at once (0: no limit); the owner reports each
 * end. */
struct listener *listener_new(
    struct loop *loop, int fd, int max, listener_cb cb, void *arg);
void listener_closed_one(struct listener *l);
void listener_free(struct listener *l);

#endif
