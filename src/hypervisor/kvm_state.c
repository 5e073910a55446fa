/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine suspended to disk: its memory and devices as QEMU's migration
 * stream in `state` beside root.qcow2, and in `state.machine` what machine
 * that was. A state is used once: it goes when the machine runs on from it,
 * because its disk changes then. One that can't be read any more stays, as
 * `state.failed`, and the next start boots.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define SAVE_MS (240 * 1000)
#define LOAD_MS (60 * 1000)
#define EXIT_MS 10000

static char *
state_path(const struct hv_op *op, const char *suffix)
{
	struct storage_disk_vm vm = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.checksum = op->vm->checksum,
		.is_volatile = op->vm->is_volatile };
	_cleanup_(freep)
	char *dir = storage_disk_dir(&vm);

	return xasprintf("%s/state%s", dir, suffix);
}

int
kvm_state_look(const struct hv_op *op, const struct kvm_machine *m,
    bool *ret_saved, struct err *err)
{
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *of = state_path(op, ".machine");
	_cleanup_(freep)
	char *saved = NULL;
	_cleanup_(freep)
	char *now = kvm_describe(m);
	char shown[80];
	int r;

	*ret_saved = fs_exists(path);
	if (!*ret_saved)
		return 0;
	if ((r = fs_read_file(of, 256, &saved, NULL, err)) < 0)
		return r;
	if (str_eq(saved, now))
		return 0;
	return err_set(err, ERR_CONFLICT,
	    "it was suspended as '%s' and can't go on as '%s': set its OSF "
	    "and the node back, or remove '%s', which loses what was open",
	    str_escape(shown, sizeof(shown), saved, strlen(saved)), now, path);
}

/* Lets QEMU tell how the migration goes. */
static int
ask_events(struct qmp *q, struct err *err)
{
	return qmp_run(q, "migrate-set-capabilities",
	    json_pack("{s[{ss sb}]}", "capabilities", "capability", "events",
		"state", 1),
	    -1, KVM_QMP_MS, NULL, err);
}

/* Until it is complete; ERR_VM_LOST with QEMU's sentence if it fails. */
static int
await_end(struct qmp *q, int timeout_ms, struct err *err)
{
	int64_t until = time_now_ms() + timeout_ms, left;
	int r;

	for (;;) {
		_cleanup_(json_decrefp)
		json_t *data = NULL;
		_cleanup_(json_decrefp)
		json_t *info = NULL;
		const char *status, *why;
		char shown[200];

		left = until - time_now_ms();
		if ((r = qmp_wait(q, "MIGRATION", left > 0 ? (int)left : 0,
			 &data, err)) < 0)
			return r;
		status = json_get_str(data, "status", "");
		if (str_eq(status, "completed"))
			return 0;
		if (!str_eq(status, "failed") && !str_eq(status, "cancelled"))
			continue;
		qmp_run(q, "query-migrate", NULL, -1, KVM_QMP_MS, &info, NULL);
		why = json_get_str(info, "error-desc", "QEMU doesn't say why");
		return err_set(err, ERR_VM_LOST, "%s",
		    str_escape(shown, sizeof(shown), why, strlen(why)));
	}
}

/* The migration's stream is the open file. */
static int
move(
    struct qmp *q, const char *command, int fd, int timeout_ms, struct err *err)
{
	int r;

	if ((r = ask_events(q, err)) < 0 ||
	    (r = qmp_run(q, "getfd", json_pack("{ss}", "fdname", "state"), fd,
		 KVM_QMP_MS, NULL, err)) < 0 ||
	    (r = qmp_run(q, command, json_pack("{ss}", "uri", "fd:state"), -1,
		 KVM_QMP_MS, NULL, err)) < 0)
		return r;
	return await_end(q, timeout_ms, err);
}

int
kvm_state_load(const struct hv_op *op, struct qmp *q, struct err *err)
{
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *of = state_path(op, ".machine");
	_cleanup_(freep)
	char *failed = state_path(op, ".failed");
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "open '%s'", path);
	if ((r = move(q, "migrate-incoming", fd, LOAD_MS, err)) < 0) {
		rename(path, failed);
		return err_wrap(err, r,
		    "go on from its saved state (kept as '%s'; the next start "
		    "boots)",
		    failed);
	}
	if (unlink(path) < 0 || (unlink(of) < 0 && errno != ENOENT))
		return err_errno(err, ERR_SYSTEM, errno, "remove '%s'", path);
	return 0;
}

/* The description, then the state under its final name. */
static int
keep(const char *tmp, const char *path, int fd, struct err *err)
{
	if (fsync(fd) < 0 || rename(tmp, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "keep '%s'", path);
	return 0;
}

int
kvm_state_save(const struct hv_op *op, struct qmp *q, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);
	const char *machine = json_get_str(record, "described", "");
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *tmp = state_path(op, ".new");
	_cleanup_(freep)
	char *of = state_path(op, ".machine");
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = fs_write_file(of, machine, strlen(machine), 0600, err)) < 0)
		return r;
	fd = open(
	    tmp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make '%s'", tmp);
	if ((r = qmp_run(q, "stop", NULL, -1, KVM_QMP_MS, NULL, err)) == 0 &&
	    (r = move(q, "migrate", fd, SAVE_MS, err)) == 0)
		r = keep(tmp, path, fd, err);
	if (r == 0)
		return 0;
	/* A migration that went on would pause the guest again at its end. */
	if (r == -(int)ERR_TIMEOUT &&
	    qmp_run(q, "migrate_cancel", NULL, -1, KVM_QMP_MS, NULL, NULL) == 0)
		await_end(q, KVM_QMP_MS, NULL);
	unlink(tmp);
	unlink(of);
	qmp_run(q, "cont", NULL, -1, KVM_QMP_MS, NULL, NULL);
	return err_wrap(err, r, "save its state");
}
