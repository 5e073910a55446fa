/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What listen.c does for other files of src/net: addresses and sockets of
 * unix listeners, whose descriptors the caller owns. Not for other folders.
 */
#ifndef NET_LISTEN_PRIV_H
#define NET_LISTEN_PRIV_H

#include <sys/un.h>

#include "net/listen.h"

int unix_address(const char *path, struct sockaddr_un *ret, socklen_t *ret_len,
    struct err *err);
/* type: SOCK_STREAM or SOCK_SEQPACKET. */
int listen_unix_type(int type, const char *path, mode_t mode, gid_t gid,
    int *ret_fd, struct err *err);

#endif
