/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the lxc hypervisor share. lxc.c starts and stops,
 * lxc_config.c says what a container is, lxc_mounts.c makes its mount
 * namespace, lxc_sysctl.c sets what /proc/sys has for it,
 * lxc_devices.c gives it devices, lxc_init.c its process 1.
 */
#ifndef HYPERVISOR_LXC_PRIV_H
#define HYPERVISOR_LXC_PRIV_H

#include "hypervisor/hv_priv.h"

struct lxc_container;

extern const char lxc_seccomp_profile[];

/* A mount namespace of our own with root, home, channel, agent, resolv.conf
 * and the seccomp profile under op->mnt. */
int lxc_mounts_make(
    const struct hv_op *op, struct home_info *ret_home, struct err *err);

/* hv_ops.look */
int lxc_mounts_look(
    const struct hv_op *op, struct hv_look *ret, struct err *err);

/* Who is process 1. */
struct lxc_init {
	const char *name; /* in the record of the run, and to main */
	const char *command;
	const char *const *mounts; /* entries for liblxc; NULL ends them */
	bool groups;               /* it divides the desktop's cgroup */
};
/* What the root that is mounted under op->mnt asks for. */
int lxc_init_find(
    const struct hv_op *op, const struct lxc_init **ret, struct err *err);
int lxc_init_config(
    const struct lxc_init *init, struct lxc_container *c, struct err *err);
/* Once the container is there. */
int lxc_init_limit(
    const struct lxc_init *init, const struct hv_op *op, struct err *err);
/* By which the init of the VM's run ends everything in order. */
int lxc_init_signal(const struct hv_op *op);

int lxc_config_set(const struct hv_op *op, const struct lxc_init *init,
    struct lxc_container *c, struct err *err);
/* Makes what op->vm->devices names, under op->mnt; says where it goes. */
int lxc_devices_make(const struct hv_op *op, uid_t base, struct err *err);
int lxc_devices_config(
    const struct hv_op *op, struct lxc_container *c, struct err *err);
/* Limits of its users, and its network's settings; run->pidfd is its init. */
int lxc_sysctl_set(
    const struct hv_op *op, const struct hv_run *run, struct err *err);

/* One `key = value`, with the key in the error. */
int lxc_config_item(struct lxc_container *c, struct err *err, const char *key,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
