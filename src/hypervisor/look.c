/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The disks of all VMs that are awake, in one go: one process a look, whatever
 * their number. What is frozen writes nothing, and is left alone. Machines are
 * asked last and together, so that those which don't answer keep nobody's
 * facts back.
 */
#include "base/log.h"
#include "base/mem.h"
#include "hypervisor/hv_priv.h"

struct look_all {
	struct hv_op op; /* but for the VM, the same for all */
	json_t *list;
	struct hv_looked *asked; /* by one hypervisor's ask_paused() */
	size_t n_asked, max_asked;
	const struct hv_ops *ops;
};

static void
append_facts(json_t *row, const struct fill_facts *f)
{
	json_array_append_new(row, json_integer(f->used_kb));
	json_array_append_new(row, json_integer(f->size_kb));
	json_array_append_new(row, json_integer(f->files_permille));
}

static void
append_look(json_t *list, const struct hv_looked *vm)
{
	json_t *row = json_array();

	json_array_append_new(row, json_integer(vm->vm_id));
	append_facts(row, &vm->look.system);
	append_facts(row, &vm->look.home);
	json_array_append_new(row, json_integer(vm->look.paused));
	json_array_append_new(list, row);
}

static void
ask_later(
    struct look_all *all, const struct hv_ops *ops, const struct hv_looked *vm)
{
	if (all->n_asked == all->max_asked) {
		all->max_asked = all->max_asked * 2 + 16;
		all->asked =
		    xrealloc(all->asked, all->max_asked, sizeof(*all->asked));
	}
	all->ops = ops;
	all->asked[all->n_asked] = *vm;
	all->asked[all->n_asked++].look.paused = HV_PAUSED_UNKNOWN;
}

static void
look_at(int64_t vm_id, void *arg)
{
	struct look_all *all = arg;
	const struct hv_ops *ops = hv_of_vm(all->op.node, vm_id);
	_cleanup_(freep)
	char *dir = hv_vm_dir(all->op.node, vm_id);
	struct hv_op op = all->op;
	struct hv_looked vm = { .vm_id = vm_id };
	struct err err = { 0 };

	if (cgroup_is_frozen(&op.cg, vm_id))
		return;
	op.vm_id = vm_id;
	op.vm_dir = dir;
	/* It may be starting, or ending; if it is neither, the next look is
	 * as good. */
	if (ops->look(&op, &vm.look, &err) < 0)
		log_err(LOG_LEVEL_DEBUG, &err, "look at the disks of VM %lld",
		    (long long)vm_id);
	else if (ops->ask_paused != NULL)
		ask_later(all, ops, &vm);
	else
		append_look(all->list, &vm);
}

int
hv_look_all(
    const struct hv_node *node, bool go_on, json_t *list, struct err *err)
{
	struct look_all all = { .op = { .node = node }, .list = list };
	size_t i;
	int r = cgroup_init(&all.op.cg, node->cgroup, err);

	if (r < 0)
		return r;
	cgroup_each_running(&all.op.cg, look_at, &all);
	cgroup_done(&all.op.cg);
	if (all.n_asked > 0)
		all.ops->ask_paused(node, all.asked, all.n_asked, go_on);
	for (i = 0; i < all.n_asked; i++)
		append_look(list, &all.asked[i]);
	free(all.asked);
	return 0;
}
