/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * "Commit what I did in this machine". Its disk was a guest's: the node neither
 * mounts it nor reads its structures. What can be trusted with that is what
 * did so before, a machine of the same image and its QEMU, with as little in
 * its hands as ever (kvm_jail.c) and without a network:
 *
 * - of an image that is a tree, its kernel boots once more, reads the changes
 *   and writes them as a tar to a disk of ours (boot/pack.c);
 * - of one that is a disk, QEMU copies blocks, of the image and of what was
 *   changed, to a new disk; the guest gets no instruction.
 *
 * The file has no name, so that whatever is killed when, nothing is left.
 */
#include <endian.h>
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

#define SECTOR    512
#define PACK_MARK "QVDPACK1" /* = BOOT_PACK_MARK */
#define MEMORY_MB 512
#define PACK_MS   (110 * 60 * 1000) /* the helper waits two hours */
#define COPY_MS   PACK_MS
#define LOOK_MS   1000
#define QUIT_MS   60000 /* what is in its hands is written */
/* A tar is larger than the disk with the same files when these are small, or
 * have holes, which take no room in ours either. */
#define TAR_FACTOR 4
#define TAR_MAX    (INT64_C(8) << 40)

static uint64_t
allocated(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static int
open_pack(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	const struct storage_disk_vm vm = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.checksum = op->vm->checksum };
	uint64_t need = allocated(m->root.fd);
	int64_t bytes = 0;

	if (m->of_tree) {
		bytes = m->root.bytes > TAR_MAX / TAR_FACTOR
			    ? TAR_MAX
			    : m->root.bytes * TAR_FACTOR;
	} else {
		need += allocated(m->image.fd);
	}
	return storage_disk_scratch(
	    &vm, bytes, need, &m->fds[KVM_FD_HOME], err);
}

static int
check_changes(const struct hv_op *op, struct err *err)
{
	struct storage_disk_vm vm = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.checksum = op->vm->checksum };
	_cleanup_(freep)
	char *tree = xasprintf(
	    "%s/images/trees/%s", op->node->data_dir, op->vm->checksum);
	_cleanup_(freep)
	char *dir = storage_disk_dir(&vm);
	_cleanup_(freep)
	char *state = xasprintf("%s/state", dir);

	vm.of_tree = !storage_disk_is(tree);
	if (!storage_disk_has_root(&vm))
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld has no changes of its own to image %.12s on this "
		    "node: it hasn't run from it, or its root is volatile",
		    (long long)op->vm_id, op->vm->checksum);
	if (fs_exists(state))
		return err_set(err, ERR_CONFLICT,
		    "VM %lld is suspended to disk, and what it has in memory "
		    "belongs to its files; start it and stop it ('qvd vm stop "
		    "%lld')",
		    (long long)op->vm_id, (long long)op->vm_id);
	return 0;
}

/* The last thing that the machine said on its console, which is ours to read
 * as long as its QEMU is confined. */
static void
last_words(const struct hv_op *op, char *ret, size_t size)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/log/console.log", op->mnt);
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	str_copy(ret, size, "it said nothing");
	kvm_last_line(fd, ret, size);
}

/* Waits for QEMU's end, and tells how much there is of what may become. */
static int
await_end(const struct kvm_machine *m, int fd, const struct hv_run *run,
    uint64_t expected, hv_progress_cb progress, struct err *err)
{
	int64_t until = time_now_ms() + PACK_MS;
	uint64_t now;

	while (!hv_wait_end(run->pidfd, LOOK_MS)) {
		now = allocated(fd);
		if (time_now_ms() > until)
			return err_set(err, ERR_TIMEOUT,
			    "%s has not come to an end in %d minutes",
			    m->of_tree ? "the machine that reads the changes"
				       : "the copy of the disk",
			    PACK_MS / 60000);
		progress(expected == 0 || now > expected
			     ? 90
			     : (int)(90 * now / expected),
		    "reading the machine's changes");
	}
	return 0;
}

/* The mark of a complete tar; the file is that tar afterwards. */
static int
take_tar(const struct hv_op *op, int fd, struct err *err)
{
	struct {
		char mark[8];
		uint64_t bytes;
	} end = { .bytes = 0 };
	char said[300];
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0 ||
	    pread(fd, &end, sizeof(end), st.st_size - SECTOR) != sizeof(end))
		return err_errno(err, ERR_SYSTEM, errno, "read the changes");
	bytes = le64toh(end.bytes);
	if (memcmp(end.mark, PACK_MARK, sizeof(end.mark)) != 0 ||
	    bytes > (uint64_t)st.st_size - SECTOR) {
		last_words(op, said, sizeof(said));
		return err_set(err, ERR_VM_LOST,
		    "the machine that reads the changes ended before it was "
		    "done; its last words: %s",
		    said);
	}
	if (ftruncate(fd, (off_t)bytes) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "cut the changes");
	return 0;
}

/* Until the job is in that state; QEMU's sentence if it failed. */
static int
await_job(struct qmp *q, const char *event, struct err *err)
{
	json_t *data = NULL;
	const char *why;
	char shown[200];
	int r = qmp_wait(q, event, COPY_MS, &data, err);

	if (r == 0 && (why = json_get_str(data, "error", NULL)) != NULL)
		r = err_set(err,
		    strstr(why, "No space") != NULL ? ERR_NO_SPACE
						    : ERR_VM_LOST,
		    "copy the disk: %s",
		    str_escape(shown, sizeof(shown), why, strlen(why)));
	json_decref(data);
	return r;
}

/* A new qcow2 file of that size. */
static int
format_pack(struct qmp *q, const struct kvm_machine *m, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *jobs = NULL;
	const char *status = "", *why;
	int64_t until = time_now_ms() + QUIT_MS;
	int r = qmp_run(q, "blockdev-create",
	    json_pack("{ss s{ss ss sI}}", "job-id", "create", "options",
		"driver", "qcow2", "file", "pack-file", "size",
		(json_int_t)m->root.bytes),
	    -1, KVM_QMP_MS, NULL, err);

	/* Its changes of state are events without the reason of a failure. */
	while (r == 0 && !str_eq(status, "concluded")) {
		if (time_now_ms() > until)
			return err_set(
			    err, ERR_TIMEOUT, "QEMU makes no new disk");
		if ((r = qmp_wait(q, "JOB_STATUS_CHANGE", QUIT_MS, NULL, err)) <
		    0)
			return r;
		json_decref(jobs);
		jobs = NULL;
		r = qmp_run(q, "query-jobs", NULL, -1, KVM_QMP_MS, &jobs, err);
		status = json_get_str(
		    json_array_get(jobs, 0), "status", "concluded");
	}
	why = json_get_str(json_array_get(jobs, 0), "error", NULL);
	if (r == 0 && why != NULL)
		return err_set(
		    err, ERR_VM_LOST, "make a new disk: %.200s", why);
	return r < 0 ? r
		     : qmp_run(q, "blockdev-add",
			   json_pack("{ss ss ss ss}", "driver", "qcow2",
			       "node-name", "pack", "file", "pack-file",
			       "discard", "unmap"),
			   -1, KVM_QMP_MS, NULL, err);
}

static int
copy_blocks(const struct hv_op *op, const struct kvm_machine *m,
    const struct hv_run *run, struct err *err)
{
	_cleanup_(freep)
	char *path = kvm_qmp_path(op->vm_dir);
	struct qmp q;
	int r;

	if ((r = qmp_open(&q, path, KVM_QMP_MS, err)) < 0)
		return r;
	if ((r = format_pack(&q, m, err)) == 0 &&
	    (r = qmp_run(&q, "blockdev-backup",
		 json_pack("{ss ss ss ss}", "job-id", "copy", "device", "root",
		     "target", "pack", "sync", "full"),
		 -1, KVM_QMP_MS, NULL, err)) == 0)
		r = await_job(&q, "BLOCK_JOB_COMPLETED", err);
	if (r == 0)
		r = qmp_run(&q, "quit", NULL, -1, KVM_QMP_MS, NULL, err);
	qmp_done(&q);
	if (r == 0 && !hv_wait_end(run->pidfd, QUIT_MS))
		r = err_set(err, ERR_TIMEOUT, "QEMU doesn't end");
	return r;
}

static int
pack_op(struct hv_op *op, struct kvm_machine *m, struct hv_run *run,
    hv_progress_cb progress, int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	uint64_t expected;
	int r;

	if ((r = hv_check_not_there(op, err)) < 0 ||
	    (r = check_changes(op, err)) < 0 ||
	    (r = cgroup_enter_op(&op->cg, op->vm_id, err)) < 0 ||
	    (r = fs_mkdirs(op->vm_dir, 0700, err)) < 0 ||
	    (r = kvm_open_disks(op, m, err)) < 0 ||
	    (r = open_pack(op, m, err)) < 0)
		return r;
	expected = allocated(m->root.fd);
	fd = fcntl(m->fds[KVM_FD_HOME], F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "dup");
	if ((r = kvm_make_place(op, m, err)) < 0 ||
	    (r = kvm_run(op, m, run, err)) < 0)
		return r;
	progress(0, "reading the machine's changes");
	r = m->of_tree ? await_end(m, fd, run, expected, progress, err)
		       : copy_blocks(op, m, run, err);
	if (r == 0 && m->of_tree)
		r = take_tar(op, fd, err);
	if (r == 0)
		*ret_fd = take_fd(&fd);
	return r;
}

int
kvm_pack(const struct hv_node *node, const struct hv_vm *from,
    hv_progress_cb progress, int *ret_fd, struct err *err)
{
	const struct hv_vm vm = { .vm_id = from->vm_id,
		.checksum = from->checksum,
		.memory_mb = MEMORY_MB,
		.cpu_percent = 100,
		.cpu_weight = 100,
		.io_weight = 100,
		.root_mb = -1, /* as the guest has it */
		.accel = from->accel,
		.machine = "q35" };
	struct kvm_machine m = { .node = node, .vm = &vm, .pack = true };
	struct hv_run run = { .pidfd = -1 };
	struct hv_vm box;
	struct hv_op op;
	int i, r;

	for (i = 0; i < KVM_FD_COUNT_; i++)
		m.fds[i] = -1;
	if ((r = hv_node_check(node, err)) < 0 ||
	    (r = kvm_choose(&m, err)) < 0 ||
	    (r = hv_op_init(&op, node, vm.vm_id, err)) < 0)
		return r;
	box = kvm_box(&m);
	op.vm = &box;
	r = pack_op(&op, &m, &run, progress, ret_fd, err);
	hv_op_done(&op);
	kvm_close_ours(&m);
	closep(&m.fds[KVM_FD_LOG]);
	closep(&run.pidfd);
	return r;
}
