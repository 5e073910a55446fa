/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the lxc hypervisor share. lxc.c starts and stops,
 * lxc_config.c says what a container is, lxc_mounts.c makes its mount
 * namespace, lxc_limits.c knows limits, lxc_clean.c what is left behind.
 */
#ifndef HYPERVISOR_LXC_PRIV_H
#define HYPERVISOR_LXC_PRIV_H

#include "hypervisor/cgroup.h"
#include "hypervisor/hv.h"

struct lxc_container;

/* Everything that one operation works with. */
struct lxc_op {
	const struct hv_node *node;
	const struct hv_vm *vm; /* NULL unless starting */
	int64_t vm_id;
	struct cgroup cg;
	char *mnt;     /* <run>/mnt: the private mounts; same for every VM */
	char *vm_dir;  /* <run>/vms/<id> */
	char *lxcpath; /* <run>/lxc */
	char name[24]; /* decimal id */
};

int lxc_op_init(struct lxc_op *op, const struct hv_node *node, int64_t vm_id,
    struct err *err);
void lxc_op_done(struct lxc_op *op);

extern const char lxc_seccomp_profile[];

/* A mount namespace of our own with root, home, channel, agent, resolv.conf
 * and the seccomp profile under op->mnt. */
int lxc_mounts_make(const struct lxc_op *op, struct err *err);

int lxc_config_set(
    const struct lxc_op *op, struct lxc_container *c, struct err *err);
/* One `key = value`, with the key in the error. */
int lxc_config_item(struct lxc_container *c, struct err *err, const char *key,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

int lxc_limits_config(
    const struct lxc_op *op, struct lxc_container *c, struct err *err);
int lxc_limits_read(
    const struct lxc_op *op, struct hv_limits *ret, struct err *err);
/* What was asked for is what the kernel has. */
int lxc_limits_verify(const struct lxc_op *op, struct err *err);

/* Kills all processes of the VM and waits for their end. */
int lxc_kill_all(const struct lxc_op *op, struct err *err);
int lxc_clean(const struct hv_node *node, int64_t vm_id, json_t *removed,
    struct err *err);
int lxc_list(const struct hv_node *node, json_t *ids, struct err *err);

#endif
