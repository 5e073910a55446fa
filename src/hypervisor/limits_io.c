/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VM's share of the disk where it is short. What a kernel has for it is
 * seen only in the group itself: a file each for the two things that share a
 * disk by weight, the scheduler bfq and the controller of I/O cost. Both are
 * written where both are, because which of them a disk uses is the
 * administrator's choice and may change. (v1's blkio.weight went with Linux
 * 5.0.)
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/hv_priv.h"

#define NORMAL 100 /* the kernel's own default in each of them */

static const struct weight_file {
	const char *controller; /* its name in v2, or in v1 */
	const char *file;
	int32_t max;
} files[] = {
	{ "io", "io.weight", 10000 },
	{ "io", "io.bfq.weight", 1000 },
	{ "blkio", "blkio.bfq.weight", 1000 },
};

/* False: there is no such file. "100", or "default 100" and a line for each
 * disk that has another. */
static bool
read_weight(const struct hv_op *op, const struct weight_file *f, int64_t *ret)
{
	char text[256];
	const char *p = text;

	if (!cgroup_read(&op->cg, f->controller, CGROUP_CT, op->vm_id, f->file,
		text, sizeof(text)))
		return false;
	text[strcspn(text, "\n")] = '\0';
	if (str_starts(p, "default "))
		p += strlen("default ");
	return str_to_i64(p, 0, INT32_MAX, ret);
}

static int
none_there(const struct hv_op *op, struct err *err)
{
	if (op->vm->io_weight == NORMAL || op->node->limits_optional)
		return 0;
	return err_set(err, ERR_CONFIG,
	    "the kernel can't weigh a desktop's disk I/O: it has neither "
	    "io.weight nor a bfq.weight. Load the scheduler ('modprobe bfq') "
	    "and give it the disk (/sys/block/DISK/queue/scheduler), or set "
	    "the OSF's weight back ('qvd osf set OSF --io-weight %d')",
	    NORMAL);
}

int
hv_io_weigh(const struct hv_op *op, struct err *err)
{
	int32_t weight = op->vm->io_weight;
	bool found = false;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		const struct weight_file *f = &files[i];
		int64_t want = weight < f->max ? weight : f->max, have = -1;
		char text[16];

		if (!read_weight(op, f, &have))
			continue;
		found = true;
		snprintf(text, sizeof(text), "%lld", (long long)want);
		if (have != want &&
		    (!cgroup_write(&op->cg, f->controller, CGROUP_CT, op->vm_id,
			 f->file, text) ||
			!read_weight(op, f, &have) || have != want))
			return err_set(err, ERR_VM_START,
			    "its weight of disk I/O is %lld, not the %lld "
			    "that was set (file %s of its cgroup)",
			    (long long)have, (long long)want, f->file);
	}
	return found ? 0 : none_there(op, err);
}

int32_t
hv_io_weight_read(const struct hv_op *op)
{
	int64_t weight;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		if (read_weight(op, &files[i], &weight))
			return (int32_t)weight;
	return -1;
}
