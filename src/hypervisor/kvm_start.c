/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The start of a virtual machine, in this order: what it is, its disks, its
 * port, its sockets, its jail, its limits, QEMU with the guest's CPUs halted,
 * the limits looked at, and only then the guest's first instruction.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "confine/confine.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define CPUS_UNLIMITED 4 /* of a guest without a quota */

/* Whether KVM is to be used. auto: only where it is certain to work: a device
 * alone may belong to a host that is a guest itself and emulates it badly. */
static int
choose_accel(const struct hv_vm *vm, bool *ret_kvm, struct err *err)
{
	_cleanup_(freep)
	char *cpuinfo = NULL;
	_cleanup_(closep)
	int fd = -1;

	*ret_kvm = false;
	if (str_eq(vm->accel, "tcg"))
		return 0;
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (str_eq(vm->accel, "kvm")) {
		*ret_kvm = true;
		return fd >= 0 ? 0
			       : err_errno(err, ERR_CONFIG, errno,
				     "open /dev/kvm (its OSF's accel, or "
				     "vm.kvm.accel, is kvm: load the module "
				     "kvm_intel or kvm_amd, or set it to auto "
				     "or tcg)");
	}
	*ret_kvm =
	    fd >= 0 &&
	    fs_read_file("/proc/cpuinfo", 8 << 20, &cpuinfo, NULL, NULL) == 0 &&
	    kvm_cpu_can(cpuinfo);
	return 0;
}

int
kvm_choose(struct kvm_machine *m, struct err *err)
{
	const struct hv_vm *vm = m->vm;
	int have = get_nprocs();
	int r;

	if (!str_eq(vm->accel, "auto") && !str_eq(vm->accel, "kvm") &&
	    !str_eq(vm->accel, "tcg"))
		return err_set(err, ERR_PARAMETER,
		    "accel: '%s' is none of auto, kvm and tcg", vm->accel);
	m->microvm = str_eq(vm->machine, "microvm");
	if (!m->microvm && !str_eq(vm->machine, "q35"))
		return err_set(err, ERR_PARAMETER,
		    "machine: '%s' is neither q35 nor microvm", vm->machine);
	/* The user of its QEMU is made of its id. */
	if (vm->vm_id > INT32_MAX)
		return err_set(err, ERR_PARAMETER,
		    "vm_id: virtual machines have ids up to %d", INT32_MAX);
	if ((r = choose_accel(vm, &m->kvm, err)) < 0)
		return r;
	m->cpus =
	    vm->cpu_percent > 0 ? (vm->cpu_percent + 99) / 100 : CPUS_UNLIMITED;
	if (m->cpus > have)
		m->cpus = have;
	if (m->kvm)
		m->fds[KVM_FD_VHOST] =
		    open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	str_random(m->secret, VM_SECRET_LEN);
	return 0;
}

int
kvm_open_disks(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	struct storage_disk_vm st = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.checksum = op->vm->checksum,
		.is_volatile = op->vm->is_volatile,
		.uid = kvm_uid(op->vm_id),
		.home_mb = op->vm->home_mb,
		.root_mb = op->vm->root_mb };
	_cleanup_(freep)
	char *tree = xasprintf(
	    "%s/images/trees/%s", op->node->data_dir, op->vm->checksum);
	int r;

	m->of_tree = st.of_tree = !storage_disk_is(tree);
	if ((r = m->of_tree ? storage_disk_open_tree(&st, &m->image, err)
			    : storage_disk_open(tree, &m->image, err)) < 0)
		return r;
	m->fds[KVM_FD_IMAGE] = m->image.fd;
	if ((r = storage_disk_root(&st, &m->image, &m->root, err)) < 0)
		return r;
	m->fds[KVM_FD_ROOT] = m->root.fd;
	if (m->pack)
		return 0;
	if ((r = storage_disk_home(&st, &m->home, err)) < 0)
		return r;
	m->fds[KVM_FD_HOME] = m->home.fd;
	return kvm_state_look(op, m, err);
}

static int
listen_at(char *path, int *ret_fd, struct err *err)
{
	_cleanup_(freep)
	char *owned = path;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), owned))
		return err_set(
		    err, ERR_CONFIG, "'%s' is too long for a socket", owned);
	unlink(owned);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    chmod(owned, 0600) < 0 || listen(fd, 1) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "listen at %s", owned);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int
set_limit(const struct hv_limit *limit, void *arg, struct err *err)
{
	const struct hv_op *op = arg;

	if (cgroup_write(&op->cg, limit->controller, CGROUP_CT, op->vm_id,
		limit->file, limit->value))
		return 0;
	return err_errno(err, ERR_VM_START, errno, "set its %s to %s",
	    limit->file, limit->value);
}

int
kvm_make_place(struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	int r;

	if ((r = hv_mounts_begin(op, err)) < 0 ||
	    (!m->pack && (r = confine_tap_open(op->vm_id, op->node->bridge,
			      &m->fds[KVM_FD_TAP], err)) < 0) ||
	    (r = listen_at(
		 kvm_qmp_path(op->vm_dir), &m->fds[KVM_FD_QMP], err)) < 0 ||
	    (r = listen_at(
		 kvm_console_path(op), &m->fds[KVM_FD_CONSOLE], err)) < 0 ||
	    (r = kvm_jail_make(op, m, err)) < 0 ||
	    (r = cgroup_make(&op->cg, CGROUP_CT, op->vm_id, err)) < 0 ||
	    (r = hv_io_weigh(op, err)) < 0)
		return r;
	return hv_limits_each(op, set_limit, op, err);
}

void
kvm_close_ours(struct kvm_machine *m)
{
	int i;

	for (i = 0; i < KVM_FD_COUNT_; i++)
		if (i != KVM_FD_LOG)
			closep(&m->fds[i]);
}

static int
let_go(const struct hv_op *op, const struct kvm_machine *m, struct qmp *q,
    struct err *err)
{
	int r;

	if ((r = hv_limits_verify(op, err)) < 0 ||
	    (m->restore && (r = kvm_state_load(op, q, err)) < 0))
		return r;
	/* Its disk is wanted, not what it does. */
	if (m->pack && !m->of_tree)
		return 0;
	return qmp_run(q, "cont", NULL, -1, KVM_QMP_MS, NULL, err);
}

int
kvm_run(struct hv_op *op, struct kvm_machine *m, struct hv_run *run,
    struct err *err)
{
	_cleanup_(freep)
	char *path = kvm_qmp_path(op->vm_dir);
	struct err why;
	char said[300];
	struct qmp q;
	int r;

	if ((r = kvm_jail_run(op, m, &run->pid, err)) < 0)
		return r;
	kvm_close_ours(m);
	run->start_time = proc_start_time(run->pid);
	if ((r = qmp_open(&q, path, KVM_QMP_MS, err)) == 0) {
		r = let_go(op, m, &q, err);
		qmp_done(&q);
	}
	if (r == 0 && hv_run_open(run) < 0)
		r = err_set(err, ERR_VM_LOST, "QEMU has ended");
	if (r != -ERR_VM_LOST)
		return r;
	kvm_jail_said(m, said, sizeof(said));
	why = *err;
	return err_set(err, ERR_VM_START, "its QEMU: %s (%s)", why.msg, said);
}

static int
write_record(const struct hv_op *op, const struct kvm_machine *m,
    const struct hv_run *run, struct err *err)
{
	_cleanup_(freep)
	char *described = kvm_describe(m);
	_cleanup_(json_decrefp)
	json_t *more = json_pack("{ss ss sb}", "secret", m->secret, "described",
	    described, "volatile", (int)op->vm->is_volatile);

	return hv_record_write(op, "kvm", run, more, err);
}

static int
look_home(const struct hv_op *op, struct hv_run *run, struct err *err)
{
	const struct home home = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.machine = true };

	return home_look(&home, -1, &run->home, err);
}

static int
start_op(struct hv_op *op, struct kvm_machine *m, struct hv_run *run,
    struct err *err)
{
	int64_t since = time_now_us();
	int r;

	if ((r = hv_check_not_there(op, err)) < 0 ||
	    (r = cgroup_enter_op(&op->cg, op->vm_id, err)) < 0 ||
	    (r = fs_mkdirs(op->vm_dir, 0700, err)) < 0 ||
	    (r = kvm_open_disks(op, m, err)) < 0)
		return r;
	hv_phase(run, "disks", &since);
	if ((r = kvm_make_place(op, m, err)) < 0)
		return r;
	hv_phase(run, "place", &since);
	if ((r = kvm_run(op, m, run, err)) < 0 ||
	    (r = write_record(op, m, run, err)) < 0)
		return r;
	hv_phase(run, "machine", &since);
	return look_home(op, run, err);
}

struct hv_vm
kvm_box(const struct kvm_machine *m)
{
	struct hv_vm box = *m->vm;

	box.memory_mb += KVM_OVERHEAD_MB + (m->kvm ? 0 : KVM_TRANSLATION_MB);
	box.pids_max = KVM_PIDS;
	return box;
}

int
kvm_start(const struct hv_node *node, const struct hv_vm *vm,
    struct hv_run *ret, struct err *err)
{
	struct hv_run run = { .pidfd = -1, .epoch = vm->epoch };
	struct kvm_machine m = { .node = node, .vm = vm };
	struct hv_vm box;
	struct hv_op op;
	int i, r;

	for (i = 0; i < KVM_FD_COUNT_; i++)
		m.fds[i] = -1;
	if ((r = hv_node_check(node, err)) < 0 ||
	    (r = hv_vm_check(vm, err)) < 0 || (r = kvm_choose(&m, err)) < 0 ||
	    (r = hv_op_init(&op, node, vm->vm_id, err)) < 0)
		return err_wrap(err, r, "start VM %lld", (long long)vm->vm_id);
	box = kvm_box(&m);
	op.vm = &box;
	r = start_op(&op, &m, &run, err);
	hv_op_done(&op);
	kvm_close_ours(&m);
	closep(&m.fds[KVM_FD_LOG]);
	explicit_bzero(m.secret, sizeof(m.secret));
	if (r < 0) {
		closep(&run.pidfd);
		return err_wrap(err, r, "start VM %lld", (long long)vm->vm_id);
	}
	*ret = run;
	return 0;
}
