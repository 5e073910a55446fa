/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine suspended to disk, beside the disk of its root:
 *
 *	state		its memory and devices: QEMU's migration stream, whole
 *	state.machine	what machine that was, and the secret of its run
 *	state.new	while it is being saved; never read
 *	state.failed	one that QEMU couldn't read, until the next stop
 *
 * A state is used once: it goes before the machine runs on from it, because
 * its disk changes then, and is gone for good by then, whatever happens.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hypervisor/kvm_priv.h"
#include "json/json.h"

#define SAVE_MS (240 * 1000)
#define LOAD_MS (60 * 1000)

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

/* What was renamed or removed in the directory of that file is so after a
 * power cut, too. */
static int
sync_names(const char *path, struct err *err)
{
	_cleanup_(freep)
	char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	_cleanup_(closep)
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0
		   ? err_errno(err, ERR_SYSTEM, errno, "sync '%s'", dir)
		   : 0;
}

/* "state", or one of what belongs to it: also a file that was only begun when
 * its writer was killed. */
static bool
is_of_state(const char *name, bool failed)
{
	return str_starts(name, "state.") &&
	       (failed || !str_eq(name, "state.failed"));
}

/* The state first: without it the others mean nothing. */
static int
forget_each(DIR *dir, const char *path, bool failed, struct err *err)
{
	const struct dirent *e;
	bool any = unlinkat(dirfd(dir), "state", 0) == 0;

	if (!any && errno != ENOENT)
		return err_errno(
		    err, ERR_SYSTEM, errno, "remove '%s/state'", path);
	while ((e = readdir(dir)) != NULL) {
		if (!is_of_state(e->d_name, failed))
			continue;
		if (unlinkat(dirfd(dir), e->d_name, 0) < 0)
			return err_errno(err, ERR_SYSTEM, errno,
			    "remove '%s/%s'", path, e->d_name);
		any = true;
	}
	if (any && fsync(dirfd(dir)) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "sync '%s'", path);
	return 0;
}

static int
forget_in(const char *path, bool failed, struct err *err)
{
	DIR *dir = opendir(path);
	int r;

	if (dir == NULL)
		return errno == ENOENT
			   ? 0
			   : err_errno(err, ERR_SYSTEM, errno, "list %s", path);
	r = forget_each(dir, path, failed, err);
	closedir(dir);
	return r;
}

static char *
changes_of(const struct hv_node *node, int64_t vm_id)
{
	return xasprintf("%s/vms/%lld", node->data_dir, (long long)vm_id);
}

static int
look_for_state(const struct fs_entry *version, void *arg, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/state", version->path);
	bool *found = arg;

	*found = *found || (hv_is_checksum(version->name) && fs_exists(path));
	return 0;
}

bool
hv_state_is_saved(const struct hv_node *node, int64_t vm_id)
{
	_cleanup_(freep)
	char *versions = changes_of(node, vm_id);
	bool found = false;

	return fs_each_entry(versions, look_for_state, &found, NULL) == 0 &&
	       found;
}

static int
forget_version(const struct fs_entry *version, void *arg, struct err *err)
{
	return hv_is_checksum(version->name)
		   ? forget_in(version->path, true, err)
		   : 0;
}

int
hv_state_forget(const struct hv_node *node, int64_t vm_id, struct err *err)
{
	_cleanup_(freep)
	char *versions = changes_of(node, vm_id);

	return fs_each_entry(versions, forget_version, NULL, err);
}

/* state.machine: {"described", "secret"}. */
static int
check_machine(const char *path, struct kvm_machine *m, struct err *err)
{
	_cleanup_(wipe_strp)
	char *text = NULL;
	_cleanup_(json_decrefp)
	json_t *of = NULL;
	_cleanup_(freep)
	char *now = kvm_describe(m);
	const char *saved, *secret;
	char shown[120];
	size_t len;
	int r;

	if ((r = fs_read_file(path, 4096, &text, &len, err)) < 0 ||
	    (r = json_parse(text, len, &of, err)) < 0)
		return r;
	saved = json_get_str(of, "described", "");
	secret = json_get_str(of, "secret", "");
	if (!str_eq(saved, now) || strlen(secret) != VM_SECRET_LEN)
		return err_set(err, ERR_CONFLICT,
		    "it was suspended as '%s' and can't go on as '%s': set its "
		    "OSF and the node back, or stop it (qvd vm stop), which "
		    "loses what was open",
		    str_escape(shown, sizeof(shown), saved, strlen(saved)),
		    now);
	/* Its agent has learnt that one when it booted. */
	str_copy(m->secret, sizeof(m->secret), secret);
	return 0;
}

int
kvm_state_look(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *of = state_path(op, ".machine");

	if (!m->vm->resume) {
		*strrchr(of, '/') = '\0';
		return forget_in(of, false, err);
	}
	if (m->vm->is_volatile)
		return err_set(err, ERR_CONFLICT,
		    "it was suspended when its OSF kept changes, and that "
		    "forgets them now: set it back (qvd osf set OSF --root "
		    "persistent), or stop it, which loses what was open");
	if (!fs_exists(path))
		return err_set(err, ERR_VM_LOST,
		    "its memory, which was suspended to disk, isn't on this "
		    "node any more; the next start boots");
	m->restore = true;
	return check_machine(of, m, err);
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
	/* Before its first instruction: from then on its disk is another. */
	if (unlink(path) < 0 || (unlink(of) < 0 && errno != ENOENT))
		return err_errno(err, ERR_SYSTEM, errno, "remove '%s'", path);
	return sync_names(path, err);
}

/* The state under its final name. */
static int
keep(const char *tmp, const char *path, int fd, int64_t *ret_bytes,
    struct err *err)
{
	struct stat st;

	if (fsync(fd) < 0 || fstat(fd, &st) < 0 || rename(tmp, path) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "keep '%s'", path);
	*ret_bytes = (int64_t)st.st_size;
	return sync_names(path, err);
}

/* What machine it is, then its state. */
static int
save(const struct hv_op *op, struct qmp *q, int64_t *ret_bytes, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *record = hv_record_json(op->node, op->vm_id);
	_cleanup_(json_decrefp)
	json_t *machine = json_pack("{ss ss}", "described",
	    json_get_str(record, "described", ""), "secret",
	    json_get_str(record, "secret", ""));
	_cleanup_(wipe_strp)
	char *text = json_text(machine);
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *tmp = state_path(op, ".new");
	_cleanup_(freep)
	char *of = state_path(op, ".machine");
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = fs_write_file(of, text, strlen(text), 0600, err)) < 0)
		return r;
	fd = open(
	    tmp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make '%s'", tmp);
	if ((r = qmp_run(q, "stop", NULL, -1, KVM_QMP_MS, NULL, err)) < 0 ||
	    (r = move(q, "migrate", fd, SAVE_MS, err)) < 0)
		return r;
	return keep(tmp, path, fd, ret_bytes, err);
}

int
kvm_state_save(
    const struct hv_op *op, struct qmp *q, int64_t *ret_bytes, struct err *err)
{
	struct err undo = { 0 };
	int r = save(op, q, ret_bytes, err);

	if (r == 0)
		return 0;
	err_wrap(err, r, "save its state");
	if (kvm_state_recover(op, q, &undo) == 0)
		return r;
	/* Paused for ever, it would only look as if it ran. */
	hv_kill_all(op, NULL);
	return err_set(err, ERR_VM_LOST,
	    "it could neither be saved nor go on, and was ended: %.300s",
	    undo.msg);
}

bool
kvm_state_is_open(const struct hv_op *op)
{
	_cleanup_(freep)
	char *path = state_path(op, "");
	_cleanup_(freep)
	char *tmp = state_path(op, ".new");

	return fs_exists(tmp) || fs_exists(path);
}

int
kvm_state_recover(const struct hv_op *op, struct qmp *q, struct err *err)
{
	_cleanup_(freep)
	char *dir = state_path(op, "");
	_cleanup_(json_decrefp)
	json_t *info = NULL;
	const char *status;
	int r;

	if ((r = qmp_run(
		 q, "query-migrate", NULL, -1, KVM_QMP_MS, &info, err)) < 0)
		return r;
	/* One that went on would pause the guest again at its end. Who began
	 * it has asked for events, and while it goes on nobody can. */
	status = json_get_str(info, "status", "none");
	if (!str_eq(status, "none") && !str_eq(status, "completed") &&
	    !str_eq(status, "failed") && !str_eq(status, "cancelled")) {
		if ((r = qmp_run(q, "migrate_cancel", NULL, -1, KVM_QMP_MS,
			 NULL, err)) < 0)
			return r;
		await_end(q, KVM_QMP_MS, NULL);
	}
	*strrchr(dir, '/') = '\0';
	if ((r = forget_in(dir, false, err)) < 0)
		return r;
	return qmp_run(q, "cont", NULL, -1, KVM_QMP_MS, NULL, err);
}
