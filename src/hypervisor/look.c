/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The disks of all VMs that are awake, in one go: one process a look, whatever
 * their number. What is frozen writes nothing, and is left alone.
 */
#include "base/log.h"
#include "base/mem.h"
#include "hypervisor/hv_priv.h"

struct look_all {
	struct hv_op op; /* but for the VM, the same for all */
	bool go_on;
	json_t *list;
};

static void
append_facts(json_t *row, const struct fill_facts *f)
{
	json_array_append_new(row, json_integer(f->used_kb));
	json_array_append_new(row, json_integer(f->size_kb));
	json_array_append_new(row, json_integer(f->files_permille));
}

static void
append_look(json_t *list, int64_t vm_id, const struct hv_look *look)
{
	json_t *row = json_array();

	json_array_append_new(row, json_integer(vm_id));
	append_facts(row, &look->system);
	append_facts(row, &look->home);
	json_array_append_new(row, json_integer(look->paused));
	json_array_append_new(list, row);
}

static void
look_at(int64_t vm_id, void *arg)
{
	struct look_all *all = arg;
	const struct hv_ops *ops = hv_of_vm(all->op.node, vm_id);
	_cleanup_(freep)
	char *dir = hv_vm_dir(all->op.node, vm_id);
	struct hv_op op = all->op;
	struct hv_look look = { .paused = false };
	struct err err = { 0 };

	if (cgroup_is_frozen(&op.cg, vm_id))
		return;
	op.vm_id = vm_id;
	op.vm_dir = dir;
	/* It may be starting, or ending; if it is neither, the next look is
	 * as good. */
	if (ops->look(&op, all->go_on, &look, &err) < 0)
		log_err(LOG_LEVEL_DEBUG, &err, "look at the disks of VM %lld",
		    (long long)vm_id);
	else
		append_look(all->list, vm_id, &look);
}

int
hv_look_all(
    const struct hv_node *node, bool go_on, json_t *list, struct err *err)
{
	struct look_all all = {
		.op = { .node = node }, .go_on = go_on, .list = list
	};
	int r = cgroup_init(&all.op.cg, node->cgroup, err);

	if (r < 0)
		return r;
	cgroup_each_running(&all.op.cg, look_at, &all);
	cgroup_done(&all.op.cg);
	return 0;
}
