/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the hypervisors share: run.c (an operation, the record of a run),
 * limits.c and limits_io.c (what a VM may use), mounts.c (its mount namespace),
 * clean.c (what is left of one). Only in the
 * operation processes.
 */
#ifndef HYPERVISOR_HV_PRIV_H
#define HYPERVISOR_HV_PRIV_H

#include "hypervisor/cgroup.h"
#include "hypervisor/hv.h"

/* Everything that one operation works with. */
struct hv_op {
	const struct hv_node *node;
	const struct hv_vm *vm; /* NULL unless starting */
	int64_t vm_id;
	struct cgroup cg;
	char *mnt;     /* <run>/mnt: the private mounts; same for every VM */
	char *vm_dir;  /* <run>/vms/<id> */
	char *lxcpath; /* <run>/lxc */
	char name[24]; /* decimal id */
};

int hv_op_init(struct hv_op *op, const struct hv_node *node, int64_t vm_id,
    struct err *err);
void hv_op_done(struct hv_op *op);
/* ERR_CONFLICT if a run of it is alive, or was not cleaned. */
int hv_check_not_there(const struct hv_op *op, struct err *err);

/* <run>/vms/<id>/run.json; more (borrowed, may be NULL) is added. Reading gives
 * the run that it names, if that process is alive; -1 otherwise. */
int hv_record_write(const struct hv_op *op, const char *hypervisor,
    const struct hv_run *run, json_t *more, struct err *err);
int hv_record_read(const struct hv_op *op, struct hv_run *run);
/* Opens run->pidfd; -1 if the process is not there any more. */
int hv_run_open(struct hv_run *run);
/* True when it ended within the time. */
bool hv_wait_end(int pidfd, int timeout_ms);

/* A mount namespace of our own, in which op->mnt is an empty tmpfs and
 * /sys/class/net shows the links of our network namespace. */
int hv_mounts_begin(const struct hv_op *op, struct err *err);

/* A file of the VM's cgroup and what is to be in it. */
struct hv_limit {
	const char *controller;
	const char *file;
	bool unified; /* of cgroup v2 */
	char value[48];
};
typedef int (*hv_limit_cb)(
    const struct hv_limit *limit, void *arg, struct err *err);

/* Gives each limit to the callback, in the order in which they must be set.
 * ERR_CONFIG if the kernel can't limit something and that is not optional. */
int hv_limits_each(
    const struct hv_op *op, hv_limit_cb set, void *arg, struct err *err);
int hv_limits_read(
    const struct hv_op *op, struct hv_limits *ret, struct err *err);
/* What was asked for is what the kernel has. */
int hv_limits_verify(const struct hv_op *op, struct err *err);

/* Its share of the disk, set and looked at once its group is there. ERR_CONFIG
 * if the kernel can't weigh it and another than the normal one is asked for. */
int hv_io_weigh(const struct hv_op *op, struct err *err);
int32_t hv_io_weight_read(const struct hv_op *op); /* -1: nobody weighs */

/* Kills all processes of the VM and waits for their end. */
int hv_kill_all(const struct hv_op *op, struct err *err);

/* The operations that are the same for every hypervisor. */
int hv_clean(const struct hv_node *node, int64_t vm_id, json_t *removed,
    struct err *err);
int hv_list(const struct hv_node *node, json_t *ids, struct err *err);
int hv_limits(const struct hv_node *node, int64_t vm_id, struct hv_limits *ret,
    struct err *err);

#endif
