/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A VM's rows: what is wanted is read, what is is written, guarded by the
 * epoch. Writes of one VM follow each other; what changes while one is under
 * way, or while the database is down, is in the next. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/vm.h"
#include "model/config.h"

#define ROW_COLUMNS                                                       \
	"v.id, v.name, v.desired, v.desired_at::text AS desired_at, "     \
	"v.epoch, v.tag, v.user_id, v.osf_id, "                           \
	"host(v.address) AS address, v.host_id, o.name AS osf, "          \
	"(SELECT value FROM configs c WHERE c.key = 'vm.kvm.merge' AND "  \
	"c.tenant_id IN (0, t.id) ORDER BY c.tenant_id DESC LIMIT 1) AS " \
	"merge, "                                                         \
	"to_char(v.expire_soft_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "    \
	"AS expire_soft, "                                                \
	"to_char(v.expire_hard_at, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "    \
	"AS expire_hard, "                                                \
	"(extract(epoch FROM coalesce(v.expire_soft_at, now()) - "        \
	"clock_timestamp()) * 1000)::bigint AS expire_in_ms, "            \
	"o.hypervisor, o.root, o.memory_mb, o.swap_mb, o.cpu_percent, "   \
	"o.cpu_weight, o.io_weight, o.pids_max, "                         \
	"coalesce(v.home_mb, o.home_mb) AS home_mb, t.idmap_slot, "       \
	"o.devices, o.machine, o.accel, coalesce(o.egress, t.egress) AS " \
	"egress, "                                                        \
	"coalesce(o.egress_kbit, t.egress_kbit, 0) AS rate_kbit, "        \
	"o.idle_after_s, r.hibernated_at IS NOT NULL AS hibernated, "     \
	"u.login || '@' || t.name AS owner, r.epoch AS run_epoch, "       \
	"r.state AS run_state, r.host_id AS run_host_id, r.image_id, "    \
	"r.session, r.error_id, r.error, r.error_ref, r.system_fill, "    \
	"r.home_fill, r.paused_at IS NOT NULL AS paused "                 \
	"FROM vms v JOIN osfs o ON o.id = v.osf_id "                      \
	"JOIN users u ON u.id = v.user_id "                               \
	"JOIN tenants t ON t.id = u.tenant_id "                           \
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "

const struct db_stmt vm_rows_stmt = { "vm_rows",
	"SELECT " ROW_COLUMNS "WHERE v.host_id = $1 OR "
	"(r.host_id = $1 AND r.state <> 'stopped')",
	1 };
const struct db_stmt vm_row_stmt = { "vm_row",
	"SELECT " ROW_COLUMNS "WHERE v.id = $1", 1 };

/* A state keeps its time when only other columns change. */
static const struct db_stmt save_stmt = { "vm_save",
	"INSERT INTO vm_runtimes AS r (vm_id, epoch, state, host_id, "
	"image_id, pid, session, started_at, step, error_id, error, "
	"error_ref, hibernated_at, system_fill, home_fill, paused_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, "
	"CASE WHEN $3 = 'running' THEN now() END, $8, $9, $10, $11, "
	"CASE WHEN $12 THEN now() END, $13, $14, "
	"CASE WHEN $15 THEN now() END) "
	"ON CONFLICT (vm_id) DO UPDATE SET epoch = $2, state = $3, "
	"state_at = CASE WHEN r.state = $3 AND r.epoch = $2 "
	"THEN r.state_at ELSE now() END, "
	"host_id = $4, image_id = $5, pid = $6, session = $7, "
	"session_at = CASE WHEN r.session = $7 AND r.epoch = $2 "
	"THEN r.session_at ELSE now() END, "
	"started_at = CASE WHEN r.epoch = $2 THEN "
	"coalesce(r.started_at, excluded.started_at) "
	"ELSE excluded.started_at END, "
	"step = $8, error_id = $9, error = $10, error_ref = $11, "
	"hibernated_at = CASE WHEN $12 THEN "
	"coalesce(r.hibernated_at, now()) END, "
	"system_fill = $13, home_fill = $14, "
	"paused_at = CASE WHEN $15 THEN coalesce(r.paused_at, now()) END "
	"WHERE r.epoch <= $2",
	15 };

/* Reading */

/* Whether it is another than before. */
static bool
take_text(char **at, const struct db_result *res, int row, const char *col)
{
	const char *s = db_str(res, row, col);

	if (s == NULL)
		s = "";
	if (*at != NULL && str_eq(*at, s))
		return false;
	free(*at);
	*at = xstrdup(s);
	return true;
}

static void
take_wanted(struct vm *vm, const struct db_result *res, int row)
{
	struct vm_wanted *w = &vm->want;

	w->exists = true;
	w->here = db_i64(res, row, "host_id") == vm->node->host_id;
	if (!vm_desired_from_str(db_str(res, row, "desired"), &w->desired))
		w->desired = VM_DESIRED_STOPPED;
	take_text(&w->desired_at, res, row, "desired_at");
	w->epoch = db_i64(res, row, "epoch");
	w->user_id = db_i64(res, row, "user_id");
	w->osf_id = db_i64(res, row, "osf_id");
	take_text(&w->name, res, row, "name");
	take_text(&w->owner, res, row, "owner");
	take_text(&w->osf, res, row, "osf");
	take_text(&w->tag, res, row, "tag");
	take_text(&w->address, res, row, "address");
	if (take_text(&w->expire_soft, res, row, "expire_soft") |
	    take_text(&w->expire_hard, res, row, "expire_hard"))
		vm_expiry_forget(vm);
	w->expire_due_ms = time_now_ms() + db_i64(res, row, "expire_in_ms");
	w->idmap_slot = (int32_t)db_i64(res, row, "idmap_slot");
	w->is_volatile = str_eq(db_str(res, row, "root"), "volatile");
	w->memory_merge =
	    config_bool(config_find("vm.kvm.merge"), db_str(res, row, "merge"));
	if (!hypervisor_from_str(
		db_str(res, row, "hypervisor"), &w->hypervisor))
		w->hypervisor = HYPERVISOR_LXC;
	if (!osf_machine_from_str(db_str(res, row, "machine"), &w->machine))
		w->machine = OSF_MACHINE_NODE;
	if (!osf_accel_from_str(db_str(res, row, "accel"), &w->accel))
		w->accel = OSF_ACCEL_NODE;
	w->memory_mb = db_i64(res, row, "memory_mb");
	w->swap_mb = db_i64(res, row, "swap_mb");
	w->cpu_percent = db_i64(res, row, "cpu_percent");
	w->cpu_weight = db_i64(res, row, "cpu_weight");
	w->io_weight = db_i64(res, row, "io_weight");
	w->pids_max = db_i64(res, row, "pids_max");
	w->home_mb = db_i64(res, row, "home_mb");
	take_text(&w->devices, res, row, "devices");
	take_text(&w->egress, res, row, "egress");
	w->rate_kbit = db_i64(res, row, "rate_kbit");
	w->idle_after_s = db_i64(res, row, "idle_after_s");
	vm_idle_update(vm);
}

/* What an earlier daemon of this node, or another node, has written. */
static void
take_run(struct vm *vm, const struct db_result *res, int row)
{
	const char *state = db_str(res, row, "run_state");
	const char *session = db_str(res, row, "session");
	const char *error_id = db_str(res, row, "error_id");
	struct err *err;
	bool bad;

	vm->epoch = db_i64(res, row, "run_epoch");
	vm->image_id = db_i64(res, row, "image_id");
	if (state == NULL ||
	    db_i64(res, row, "run_host_id") != vm->node->host_id)
		return;
	if (!vm_state_from_str(state, &vm->state))
		vm->state = VM_STATE_STOPPED;
	if (session != NULL)
		session_state_from_str(session, &vm->session);
	fill_from_str(
	    db_str(res, row, "system_fill"), &vm->disks.fill[VM_DISK_SYSTEM]);
	fill_from_str(
	    db_str(res, row, "home_fill"), &vm->disks.fill[VM_DISK_HOME]);
	vm->disks.paused = db_bool(res, row, "paused");
	vm->disks.paused_ms = time_now_ms();
	if (error_id == NULL)
		return;
	/* What runs has an error only if it could not be suspended. */
	bad = vm->state == VM_STATE_RUNNING;
	err = bad ? &vm->suspend_err : &vm->err;
	if (bad)
		vm->suspend_tried = xstrdup(vm->want.desired_at);
	err->code = err_from_id(error_id);
	str_copy(err->msg, sizeof(err->msg), db_str(res, row, "error"));
	str_copy(bad ? vm->suspend_ref : vm->ref, REF_LEN + 1,
	    db_str(res, row, "error_ref"));
}

/* Whether the row tells what we know. After an outage it may not. */
static bool
run_differs(const struct vm *vm, const struct db_result *res, int row)
{
	const char *state = db_str(res, row, "run_state");
	const char *session = db_str(res, row, "session");

	if (state == NULL)
		return vm->epoch > 0;
	return db_i64(res, row, "run_epoch") < vm->epoch ||
	       (db_i64(res, row, "run_epoch") == vm->epoch &&
		   (!str_eq(state, vm_state_to_str(vm->state)) ||
		       !str_eq(session, session_state_to_str(vm->session)) ||
		       db_bool(res, row, "hibernated") != vm->hibernated));
}

struct vm *
vm_take_row(struct node *node, const struct db_result *res, int row)
{
	uint64_t id = (uint64_t)db_i64(res, row, "id");
	struct vm *vm = map_get(&node->vms, id);
	bool is_new = vm == NULL;

	if (is_new)
		vm = vm_get(node, (int64_t)id);
	take_wanted(vm, res, row);
	vm_expiry_look(vm);
	if (!is_new) {
		if (!vm->saving && run_differs(vm, res, row))
			vm_save(vm);
		return vm;
	}
	take_run(vm, res, row);
	if (vm->state != VM_STATE_STOPPED && node_is_running(node)) {
		node->n_adopting++;
		vm_adopt(vm);
	}
	return vm;
}

/* Writing */

static void
on_saved(const struct db_result *res, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	vm->saving = false;
	if (err == NULL && db_affected(res) == 0) {
		/* Somebody knows of a later run. */
		log_warn("VM %lld: its run %lld is not the newest any more",
		    (long long)vm->id, (long long)vm->epoch);
		node_read_vm(vm->node, vm->id);
	} else if (err != NULL && err->code == ERR_DATABASE) {
		vm->dirty = true;
		node_retry_later(vm->node);
		return;
	} else if (db_violates(err, "vm_runtimes_vm_id_fkey")) {
		vm->want.exists = false;
	} else if (err != NULL) {
		log_err(LOG_LEVEL_ERROR, err, "write the state of VM %lld",
		    (long long)vm->id);
	}
	if (vm->dirty)
		vm_save(vm);
	else
		vm_reconcile(vm);
}

void
vm_save(struct vm *vm)
{
	struct db_params p = { 0 };
	bool bad = err_is_set(&vm->err);
	bool unsaved = !bad && vm->state == VM_STATE_RUNNING &&
		       err_is_set(&vm->suspend_err);
	const struct err *err = unsaved ? &vm->suspend_err : &vm->err;

	bad = bad || unsaved;
	if (!vm->want.exists || vm->epoch == 0)
		return;
	vm->dirty = vm->saving || !db_is_up(vm->node->db);
	if (vm->dirty)
		return;
	db_param_i64(&p, vm->id);
	db_param_i64(&p, vm->epoch);
	db_param_str(&p, vm_state_to_str(vm->state));
	db_param_i64(&p, vm->node->host_id);
	if (vm->image_id != 0)
		db_param_i64(&p, vm->image_id);
	else
		db_param_null(&p);
	if (vm->pid != 0)
		db_param_i64(&p, vm->pid);
	else
		db_param_null(&p);
	db_param_str(&p, session_state_to_str(vm->session));
	db_param_str(&p, vm->text);
	db_param_str(&p, bad ? err_id(err->code) : NULL);
	db_param_str(&p, bad ? err->msg : NULL);
	db_param_str(&p, !bad ? NULL : unsaved ? vm->suspend_ref : vm->ref);
	db_param_bool(&p, vm->hibernated);
	db_param_str(&p, fill_to_str(vm->disks.fill[VM_DISK_SYSTEM]));
	db_param_str(&p, fill_to_str(vm->disks.fill[VM_DISK_HOME]));
	db_param_bool(&p, vm->disks.paused);
	vm->saving = true;
	db_exec(vm->node->db, &save_stmt, &p, 0, on_saved, vm);
}
