/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What all hypervisors do alike around a run of a VM: what an operation works
 * with, the record of the run on the node, and the process that it names.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/time.h"
#include "hypervisor/hv_priv.h"
#include "json/json.h"

int
hv_op_init(struct hv_op *op, const struct hv_node *node, int64_t vm_id,
    struct err *err)
{
	int r;

	*op = (struct hv_op){ .node = node, .vm_id = vm_id };
	if ((r = cgroup_init(&op->cg, node->cgroup, err)) < 0)
		return r;
	op->mnt = xasprintf("%s/mnt", node->run_dir);
	op->vm_dir = hv_vm_dir(node, vm_id);
	op->lxcpath = xasprintf("%s/lxc", node->run_dir);
	snprintf(op->name, sizeof(op->name), "%lld", (long long)vm_id);
	return 0;
}

void
hv_op_done(struct hv_op *op)
{
	cgroup_done(&op->cg);
	free(op->mnt);
	free(op->vm_dir);
	free(op->lxcpath);
}

int
hv_check_not_there(const struct hv_op *op, struct err *err)
{
	if (cgroup_populated(&op->cg, CGROUP_CT, op->vm_id) ||
	    cgroup_populated(&op->cg, CGROUP_MON, op->vm_id))
		return err_set(err, ERR_CONFLICT,
		    "VM %lld is already running on this node",
		    (long long)op->vm_id);
	if (cgroup_exists(&op->cg, CGROUP_CT, op->vm_id))
		return err_set(err, ERR_CONFLICT,
		    "VM %lld has not been cleaned since its last run",
		    (long long)op->vm_id);
	return 0;
}

int
hv_record_write(const struct hv_op *op, const char *hypervisor,
    const struct hv_run *run, json_t *more, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = json_pack("{ss sI sI si sI ss ss si}", "hypervisor",
	    hypervisor, "vm_id", (json_int_t)op->vm_id, "epoch",
	    (json_int_t)run->epoch, "pid", (int)run->pid, "start_time",
	    (json_int_t)run->start_time, "checksum", op->vm->checksum,
	    "address", op->vm->address, "idmap_slot", op->vm->idmap_slot);
	_cleanup_(freep)
	char *path = xasprintf("%s/run.json", op->vm_dir);
	_cleanup_(wipe_strp)
	char *text = NULL;

	json_object_update(record, more);
	text = json_text(record);
	return fs_write_file(path, text, strlen(text), 0600, err);
}

json_t *
hv_record_json(const struct hv_node *node, int64_t vm_id)
{
	_cleanup_(freep)
	char *dir = hv_vm_dir(node, vm_id);
	_cleanup_(freep)
	char *path = xasprintf("%s/run.json", dir);
	_cleanup_(freep)
	char *text = NULL;
	json_t *record = NULL;
	size_t len;

	if (fs_read_file(path, 64 * 1024, &text, &len, NULL) < 0 ||
	    json_parse(text, len, &record, NULL) < 0)
		return NULL;
	return record;
}

int
hv_record_read(const struct hv_op *op, struct hv_run *run)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);

	run->epoch = json_get_int(record, "epoch", -1);
	run->pid = (pid_t)json_get_int(record, "pid", 0);
	run->start_time =
	    (unsigned long long)json_get_int(record, "start_time", 0);
	return run->pid > 0 && run->start_time > 0 &&
		       proc_start_time(run->pid) == run->start_time
		   ? 0
		   : -1;
}

/* The pidfd first, then the check that it is still that process. */
int
hv_run_open(struct hv_run *run)
{
	_cleanup_(closep)
	int fd = (int)syscall(SYS_pidfd_open, run->pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0 || proc_start_time(run->pid) != run->start_time ||
	    poll(&p, 1, 0) != 0)
		return -1;
	run->pidfd = take_fd(&fd);
	return 0;
}

bool
hv_wait_end(int pidfd, int timeout_ms)
{
	int64_t end = time_now_ms() + timeout_ms, left;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do {
		left = end - time_now_ms();
		n = poll(&p, 1, left < 0 ? 0 : (int)left);
	} while (n < 0 && errno == EINTR);
	return n != 0;
}

int
hv_limits(const struct hv_node *node, int64_t vm_id, struct hv_limits *ret,
    struct err *err)
{
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	r = hv_limits_read(&op, ret, err);
	hv_op_done(&op);
	return r;
}
