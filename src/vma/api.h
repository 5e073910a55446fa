/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The agent's HTTP interface on its unix socket (docs/internals.md, "VMA").
 * Only the node and the VM's root can reach the socket: the directory is
 * root's alone. VMA.
 */
#ifndef VMA_API_H
#define VMA_API_H

#include <jansson.h>

#include "vma/session.h"

int api_start(struct vma *vma, struct err *err);

#endif
