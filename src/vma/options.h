/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The files that nxagent reads, as text: its options, its key bindings, the
 * cookie. Pure but for the random cookie. VMA.
 */
#ifndef VMA_OPTIONS_H
#define VMA_OPTIONS_H

#include "base/buf.h"
#include "vma/request.h"

#define OPTIONS_MAX    4096
#define XAUTHORITY_MAX 256

/* "nx/nx,client=...,listen=unix:SOCKET...:DISPLAY". Of the client's own
 * arguments (qvd.client.nxagent.extra_args) only known harmless ones get in;
 * ret_refused names the first other one (in req's arena, NULL: none). */
int options_build(const struct request *req, const char *socket_path,
    int display, struct buf *out, const char **ret_refused, struct err *err);

/* Bindings without those that end, suspend or debug a session. */
extern const char options_keystrokes[];

/* An Xauthority file with a new cookie for that display, for any host name;
 * ret has room for XAUTHORITY_MAX. Returns its length. */
size_t options_xauthority(int display, unsigned char *ret);

#endif
