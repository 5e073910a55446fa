/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files behind hkd.sock share: ctl.c (the socket, streams into VMs)
 * and ctl_image.c (the image store). A peer is one connection of another
 * daemon of this node; handlers get it as their argument. Main role of
 * qvd-hkd.
 */
#ifndef HKD_CTL_H
#define HKD_CTL_H

#include "hkd/node.h"

struct ctl_peer;
struct node *ctl_node(const struct ctl_peer *peer);
bool ctl_may_images(const struct ctl_peer *peer);

void ctl_image_diff(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void ctl_image_export(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void ctl_image_verify(
    struct rpc_call *call, const json_t *args, int fd, void *arg);
void ctl_image_gc(struct rpc_call *call, const json_t *args, int fd, void *arg);

#endif
