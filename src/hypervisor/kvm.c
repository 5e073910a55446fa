/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A virtual machine that runs: found again, stopped, suspended, watched. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define QUIT_MS 5000 /* for QEMU to end by itself */

char *
kvm_qmp_path(const char *vm_dir)
{
	return xasprintf("%s/qmp.sock", vm_dir);
}

char *
kvm_console_path(const struct hv_op *op)
{
	return xasprintf("%s/console.sock", op->vm_dir);
}

static int
open_qmp(const struct hv_op *op, struct qmp *q, struct err *err)
{
	_cleanup_(freep)
	char *path = kvm_qmp_path(op->vm_dir);

	return qmp_open(q, path, KVM_QMP_MS, err);
}

/* A saving that was cut short, by whatever ended its process: QEMU may be
 * paused, and a state that is whole must not outlive the run that goes on. */
static int
recover(const struct hv_op *op, struct err *err)
{
	struct qmp q;
	int r;

	if ((r = open_qmp(op, &q, err)) < 0)
		return r;
	r = kvm_state_recover(op, &q, err);
	qmp_done(&q);
	return r;
}

/* The image and kind of the run, as its record has them. */
void
kvm_vm_of_record(const json_t *record, struct hv_vm *ret)
{
	*ret = (struct hv_vm){ .checksum = json_get_str(record, "checksum", ""),
		.is_volatile = json_get_bool(record, "volatile", true) };
}

/* The run of it that is alive. */
static int
find_run(const struct hv_op *op, struct hv_run *run, struct err *err)
{
	if (cgroup_populated(&op->cg, CGROUP_CT, op->vm_id) &&
	    hv_record_read(op, run) == 0 && hv_run_open(run) == 0)
		return 0;
	return err_set(err, ERR_NOT_FOUND, "VM %lld isn't running on this node",
	    (long long)op->vm_id);
}

static int
kvm_adopt(const struct hv_node *node, int64_t vm_id, struct hv_run *ret,
    struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(node, vm_id);
	struct hv_run run = { .pidfd = -1 };
	struct hv_vm vm;
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	kvm_vm_of_record(record, &vm);
	op.vm = &vm;
	if ((r = find_run(&op, &run, err)) == 0 && !vm.is_volatile &&
	    hv_is_checksum(vm.checksum) && kvm_state_is_open(&op))
		r = recover(&op, err);
	hv_op_done(&op);
	if (r == 0)
		*ret = run;
	else
		closep(&run.pidfd);
	return r;
}

/* The power button, then QEMU's own end: what it has in hand is written. */
static void
ask_to_end(const struct hv_op *op, const struct hv_run *run, int grace_ms)
{
	struct qmp q;

	/* A frozen one would not answer. */
	cgroup_freeze(&op->cg, op->vm_id, false, NULL);
	if (open_qmp(op, &q, NULL) < 0)
		return;
	if (grace_ms > 0 && qmp_run(&q, "system_powerdown", NULL, -1,
				KVM_QMP_MS, NULL, NULL) == 0)
		hv_wait_end(run->pidfd, grace_ms);
	if (!hv_wait_end(run->pidfd, 0) &&
	    qmp_run(&q, "quit", NULL, -1, KVM_QMP_MS, NULL, NULL) == 0)
		hv_wait_end(run->pidfd, QUIT_MS);
	qmp_done(&q);
}

static int
kvm_stop(
    const struct hv_node *node, int64_t vm_id, int grace_ms, struct err *err)
{
	struct hv_run run = { .pidfd = -1 };
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	if (find_run(&op, &run, NULL) == 0)
		ask_to_end(&op, &run, grace_ms);
	closep(&run.pidfd);
	r = hv_kill_all(&op, err);
	hv_op_done(&op);
	return r < 0 ? err_wrap(err, r, "stop VM %lld", (long long)vm_id) : 0;
}

static int
suspend_op(struct hv_op *op, int64_t *ret_bytes, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);
	struct hv_run run = { .pidfd = -1 };
	struct hv_vm vm;
	struct qmp q;
	int r;

	kvm_vm_of_record(record, &vm);
	op->vm = &vm;
	/* A frozen one would not answer. */
	cgroup_freeze(&op->cg, op->vm_id, false, NULL);
	if ((r = find_run(op, &run, err)) < 0)
		return r;
	if (vm.is_volatile || !hv_is_checksum(vm.checksum))
		r = err_set(err, ERR_CONFLICT,
		    "what it changes is forgotten when it ends (its OSF's root "
		    "is volatile), so it can't be suspended to disk");
	else if ((r = open_qmp(op, &q, err)) == 0) {
		if ((r = kvm_state_save(op, &q, ret_bytes, err)) == 0)
			qmp_run(&q, "quit", NULL, -1, KVM_QMP_MS, NULL, NULL);
		qmp_done(&q);
	}
	if (r == 0) {
		hv_wait_end(run.pidfd, QUIT_MS);
		r = hv_kill_all(op, err);
	}
	closep(&run.pidfd);
	return r;
}

static int
kvm_suspend(const struct hv_node *node, int64_t vm_id, int64_t *ret_bytes,
    struct err *err)
{
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	r = suspend_op(&op, ret_bytes, err);
	hv_op_done(&op);
	return r < 0 ? err_wrap(err, r, "suspend VM %lld", (long long)vm_id)
		     : 0;
}

/* QEMU gets one end of a pair as a viewer that has just connected. */
static int
show_screen(const struct hv_op *op, int *ret_fd, struct err *err)
{
	int fds[2], r;
	struct qmp q;

	if ((r = open_qmp(op, &q, err)) < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
		qmp_done(&q);
		return err_errno(err, ERR_SYSTEM, errno, "socketpair");
	}
	if ((r = qmp_run(&q, "getfd", json_pack("{ss}", "fdname", "viewer"),
		 fds[1], KVM_QMP_MS, NULL, err)) == 0)
		r = qmp_run(&q, "add_client",
		    json_pack("{ss ss sb}", "protocol", "vnc", "fdname",
			"viewer", "skipauth", 1),
		    -1, KVM_QMP_MS, NULL, err);
	qmp_done(&q);
	close(fds[1]);
	if (r < 0)
		close(fds[0]);
	else
		*ret_fd = fds[0];
	return r;
}

static int
open_console(const struct hv_op *op, int *ret_fd, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	_cleanup_(freep)
	char *path = kvm_console_path(op);
	_cleanup_(closep)
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || !str_copy(sun.sun_path, sizeof(sun.sun_path), path))
		return err_set(err, ERR_SYSTEM, "make a socket");
	/* QEMU serves one; the second waits in its queue, a third is refused.
	 */
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return errno == EAGAIN ? err_set(err, ERR_CONFLICT,
					     "its console is in use by others")
				       : err_errno(err, ERR_VM_LOST, errno,
					     "connect to %s", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int
look_at(const struct hv_node *node, int64_t vm_id,
    int (*open)(const struct hv_op *op, int *ret_fd, struct err *err),
    const char *what, int *ret_fd, struct err *err)
{
	struct hv_run run = { .pidfd = -1 };
	struct hv_op op;
	int r;

	if ((r = hv_op_init(&op, node, vm_id, err)) < 0)
		return r;
	if ((r = find_run(&op, &run, err)) == 0)
		r = open(&op, ret_fd, err);
	closep(&run.pidfd);
	hv_op_done(&op);
	return r < 0 ? err_wrap(err, r, "open the %s of VM %lld", what,
			   (long long)vm_id)
		     : 0;
}

static int
kvm_screen(
    const struct hv_node *node, int64_t vm_id, int *ret_fd, struct err *err)
{
	return look_at(node, vm_id, show_screen, "screen", ret_fd, err);
}

static int
kvm_console(
    const struct hv_node *node, int64_t vm_id, int *ret_fd, struct err *err)
{
	return look_at(node, vm_id, open_console, "console", ret_fd, err);
}

const struct hv_ops hv_kvm = {
	.name = "kvm",
	.start = kvm_start,
	.adopt = kvm_adopt,
	.stop = kvm_stop,
	.clean = hv_clean,
	.list = hv_list,
	.limits = hv_limits,
	.suspend = kvm_suspend,
	.screen = kvm_screen,
	.console = kvm_console,
	.pack = kvm_pack,
	.look = kvm_look,
	.ask_paused = kvm_ask_paused,
};
