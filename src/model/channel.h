/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How a node reaches the agent of a virtual machine, which has no directory
 * in common with it: TCP on the confined bridge. The node says the secret of
 * this run (VM_SECRET_LEN characters and a newline), then HTTP begins. The
 * port is one of root's, so that no user of the guest can stand there in the
 * agent's place and hear the secret.
 */
#ifndef MODEL_CHANNEL_H
#define MODEL_CHANNEL_H

#define VM_CHANNEL_PORT 823
#define VM_SECRET_LEN   32

#endif
