/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Operations on a VM's storage, in the operation process. A home that is
 * mounted is reached through the VM's monitor; one that isn't is locked in a
 * mount namespace of our own for as long as we live.
 */
#include "hkd/storage_op.h"

#include "base/mem.h"
#include "base/time.h"
#include "hkd/hv_request.h"
#include "hkd/op.h"
#include "hypervisor/cgroup.h"
#include "json/json.h"
#include "storage/storage.h"

#define LOCK_WAIT_MS 3000 /* for a VM that has just ended */

/* What an operation works with. */
struct home_op {
	const struct hv_request *q;
	struct storage_args args;
	struct home home;
	char *mnt;
	int fd; /* of the mounted volume; -1: it isn't */
};

static void
home_op_done(struct home_op *op)
{
	closep(&op->fd);
	free(op->mnt);
}

/* Nobody mounts it, so that nothing but its QEMU can have it; and memory that
 * is to go on knows what is on it. The jobs of a VM follow each other, so
 * none starts meanwhile. */
static int
check_machine_rests(const struct home_op *op, struct err *err)
{
	struct cgroup cg;
	bool runs;
	int r;

	if ((r = cgroup_init(&cg, op->q->node.cgroup, err)) < 0)
		return r;
	runs = cgroup_populated(&cg, CGROUP_CT, op->q->vm_id);
	cgroup_done(&cg);
	if (runs)
		return err_set(err, ERR_CONFLICT,
		    "the home of VM %lld is in use; stop the VM first",
		    (long long)op->q->vm_id);
	if (hv_state_is_saved(&op->q->node, op->q->vm_id))
		return err_set(err, ERR_CONFLICT,
		    "VM %lld is suspended, and a part of its home is in its "
		    "memory: start it, and stop it",
		    (long long)op->q->vm_id);
	return 0;
}

static int
lock(struct home_op *op, struct err *err)
{
	int r;

	if (op->args.machine)
		return check_machine_rests(op, err);
	if ((r = storage_namespace(op->mnt, err)) < 0)
		return r;
	return home_lock(&op->home, op->mnt, LOCK_WAIT_MS, err);
}

static int
find_mounted(const struct hv_request *q, int *ret_fd, struct err *err)
{
	struct cgroup cg;
	int r = cgroup_init(&cg, q->node.cgroup, err);

	if (r < 0)
		return r;
	/* Not found: it doesn't run. */
	hv_lxc_open_home(&cg, q->node.run_dir, q->vm_id, ret_fd, NULL);
	cgroup_done(&cg);
	return 0;
}

static int
home_op_init(struct home_op *op, const struct hv_request *q, struct err *err)
{
	int r;

	*op = (struct home_op){ .q = q, .fd = -1 };
	if ((r = json_decode(q->args, storage_args_fields, &op->args, q->arena,
		 NULL, err)) < 0)
		return r;
	op->home = (struct home){ .data_dir = q->node.data_dir,
		.vm_id = q->vm_id,
		.store = op->args.home_store,
		.size_mb = op->args.size_mb,
		.machine = op->args.machine };
	op->mnt = xasprintf("%s/mnt", q->node.run_dir);
	return op->args.machine ? 0 : find_mounted(q, &op->fd, err);
}

static void
add_snapshot(const char *name, int64_t made_us, void *arg)
{
	char at[TIME_TEXT_MAX];

	json_array_append_new(arg,
	    json_pack("{ss ss}", "name", name, "at", time_format(at, made_us)));
}

/* Every operation answers with what the home is now. */
static int
answer(struct home_op *op, struct err *err)
{
	json_t *snapshots = json_array(), *facts;
	struct home_info info = { 0 };
	int r;

	if ((r = home_look(&op->home, op->fd, &info, err)) < 0 ||
	    (r = home_each_snapshot(&op->home, add_snapshot, snapshots, err)) <
		0) {
		json_decref(snapshots);
		return r;
	}
	facts = json_encode(home_info_fields, &info);
	json_object_set_new(facts, "snapshots", snapshots);
	return op_send_result(facts, -1);
}

static int
need_name(const struct home_op *op, struct err *err)
{
	return op->args.name == NULL
		   ? err_set(err, ERR_PARAMETER, "name: of the snapshot")
		   : 0;
}

static int
look(struct home_op *op, struct err *err)
{
	return 0;
}

static int
snapshot(struct home_op *op, struct err *err)
{
	int r = need_name(op, err);

	if (r == 0 && op->fd < 0)
		r = lock(op, err);
	return r < 0 ? r : home_snapshot(&op->home, op->args.name, op->fd, err);
}

static int
restore(struct home_op *op, struct err *err)
{
	int r;

	if ((r = need_name(op, err)) < 0 || (r = lock(op, err)) < 0)
		return r;
	return home_restore(&op->home, op->args.name, err);
}

static int
forget(struct home_op *op, struct err *err)
{
	int r = need_name(op, err);

	return r < 0 ? r : home_forget(&op->home, op->args.name, err);
}

static int
grow(struct home_op *op, struct err *err)
{
	struct home_info info;
	int r;

	if (op->fd < 0 && (r = lock(op, err)) < 0)
		return r;
	return home_grow(&op->home, op->fd, &info, err);
}

static int
convert(struct home_op *op, struct err *err)
{
	int r = lock(op, err);

	return r < 0 ? r : home_convert(&op->home, op->mnt, err);
}

static int
perform(const struct hv_request *q,
    int (*fn)(struct home_op *op, struct err *err), struct err *err)
{
	_cleanup_(home_op_done)
	struct home_op op = { .fd = -1 };
	int r;

	if ((r = home_op_init(&op, q, err)) < 0 || (r = fn(&op, err)) < 0)
		return r;
	return answer(&op, err);
}

int
home_op_look(const struct hv_request *q, struct err *err)
{
	return perform(q, look, err);
}

int
home_op_snapshot(const struct hv_request *q, struct err *err)
{
	return perform(q, snapshot, err);
}

int
home_op_restore(const struct hv_request *q, struct err *err)
{
	return perform(q, restore, err);
}

int
home_op_forget(const struct hv_request *q, struct err *err)
{
	return perform(q, forget, err);
}

int
home_op_grow(const struct hv_request *q, struct err *err)
{
	return perform(q, grow, err);
}

int
home_op_convert(const struct hv_request *q, struct err *err)
{
	return perform(q, convert, err);
}

int
root_op_collect(const struct hv_request *q, struct err *err)
{
	struct storage_args args = { 0 };
	int r, removed;

	if ((r = json_decode(q->args, storage_args_fields, &args, q->arena,
		 NULL, err)) < 0 ||
	    (r = storage_root_collect(q->node.data_dir, q->vm_id,
		 args.keep != NULL ? args.keep : "", args.keep_ms, &removed,
		 err)) < 0)
		return r;
	return op_send_result(json_pack("{si}", "removed", removed), -1);
}
