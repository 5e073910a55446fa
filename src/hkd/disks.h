/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How full disks are: the node's own, and those of the VMs that run and are
 * awake, looked at once in node.storage.look, all in one go. Words of
 * model/fill.h, which become events and columns of the VM's row when they
 * change. Role main.
 */
#ifndef HKD_DISKS_H
#define HKD_DISKS_H

#include <sys/types.h>

#include "loop/loop.h"
#include "model/fill.h"

/* Of a VM, as it was at the last look. */
struct vm_disks {
	struct fill_facts facts[VM_DISK_COUNT_];
	enum fill fill[VM_DISK_COUNT_];
	/* The worst that its user was told in this run, since it was better. */
	enum fill told[VM_DISK_COUNT_];
	enum vm_disk telling; /* of which, while there is a call */
	struct agent_call *call;
	bool paused; /* its QEMU waits for room on the node's disk */
	int64_t paused_ms;
};

/* The data directory and what may be a file system of its own in it. */
#define NODE_DISKS 4

struct node_disk {
	char *path;
	dev_t dev;
	bool shown; /* there, and no other's file system */
	struct fill_facts facts;
	enum fill fill;
};

struct node_disks {
	struct timer timer;
	int64_t every_ms; /* as the timer runs */
	struct node_disk v[NODE_DISKS];
	struct rpc_request *request;
};

struct node;
void disks_init(struct node *node);
void disks_done(struct node *node);
/* Looks now, and from now on; at another pace if the setting has changed. */
void disks_begin(struct node *node);

#endif
