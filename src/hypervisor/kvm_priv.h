/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the kvm hypervisor share: kvm_start.c starts, kvm.c does
 * what comes later, kvm_args.c says what a machine is, kvm_jail.c is the place
 * that its QEMU runs in, kvm_state.c saves a machine to disk and brings it
 * back.
 *
 * QEMU runs as a user of the VM's own, without privileges, in a chroot, a
 * mount, a network and an IPC namespace of its own and under its seccomp
 * filter. It opens nothing of ours: disks, the tap and the listening sockets
 * of monitor and console are given to it as descriptors.
 */
#ifndef HYPERVISOR_KVM_PRIV_H
#define HYPERVISOR_KVM_PRIV_H

#include "hypervisor/hv_priv.h"
#include "hypervisor/qmp.h"
#include "model/channel.h"
#include "storage/disk.h"

/* QEMU's own needs beside the guest's memory, as its cgroup has them: its
 * code, heap, screen and, without KVM, the translated code. */
#define KVM_OVERHEAD_MB    160
#define KVM_TRANSLATION_MB 96
#define KVM_PIDS           256 /* its threads: CPUs, workers */
#define KVM_QMP_MS         10000
#define KVM_CMDLINE_MAX    2048
#define KVM_UID_BASE       66000000 /* above the containers' ranges */

/* QEMU's descriptors. */
enum kvm_fd {
	KVM_FD_IN,
	KVM_FD_OUT,
	KVM_FD_LOG,
	KVM_FD_QMP,
	KVM_FD_CONSOLE,
	KVM_FD_IMAGE,
	KVM_FD_ROOT,
	KVM_FD_HOME, /* or the disk that a commit is written to */
	KVM_FD_TAP,
	KVM_FD_VHOST, /* only with KVM, and where the host has it */
	KVM_FD_COUNT_
};

/* A machine to be. */
struct kvm_machine {
	const struct hv_node *node;
	const struct hv_vm *vm;
	bool kvm;     /* not emulated */
	bool microvm; /* not q35 */
	int cpus;
	int fds[KVM_FD_COUNT_]; /* -1: none; ours until it is started */
	bool of_tree;           /* the image is one, and a disk made of it */
	struct storage_disk image, root, home;
	bool has_kernel, has_initrd; /* the image says what is booted */
	char cmdline[KVM_CMDLINE_MAX];
	char secret[VM_SECRET_LEN + 1];
	bool restore;
	/* Not to be run but to be committed (kvm_pack.c): no home, no network,
	 * no screen. */
	bool pack;
};

/* NULL-ended, heap; kvm_args_free(). */
char **kvm_args(const struct kvm_machine *m);
void kvm_args_free(char **args);
/* What a saved state depends on, beside the image: "q35 tcg 512 MB 2 CPUs". */
char *kvm_describe(const struct kvm_machine *m);
/* Whether the host's KVM can be used, from its CPU's flags. */
bool kvm_cpu_can(const char *cpuinfo);

int kvm_start(const struct hv_node *node, const struct hv_vm *vm,
    struct hv_run *ret, struct err *err);
/* The steps of a start that a commit has, too. fds: all -1. */
int kvm_choose(struct kvm_machine *m, struct err *err);
int kvm_open_disks(
    const struct hv_op *op, struct kvm_machine *m, struct err *err);
int kvm_make_place(struct hv_op *op, struct kvm_machine *m, struct err *err);
/* QEMU runs afterwards, and the guest, but of one whose disk is to be
 * committed. */
int kvm_run(struct hv_op *op, struct kvm_machine *m, struct hv_run *run,
    struct err *err);
/* All but the log, which tells why QEMU ended: the sockets of a QEMU that is
 * gone must be closed, and its port with it. */
void kvm_close_ours(struct kvm_machine *m);
/* What its cgroup allows of a machine: the guest, and QEMU around it. */
struct hv_vm kvm_box(const struct kvm_machine *m);

int kvm_pack(const struct hv_node *node, const struct hv_vm *vm,
    hv_progress_cb progress, int *ret_fd, struct err *err);

uid_t kvm_uid(int64_t vm_id);
/* The chroot below op->mnt, in our mount namespace. Finds the kernel and its
 * command line in the image. */
int kvm_jail_make(
    const struct hv_op *op, struct kvm_machine *m, struct err *err);
/* Starts QEMU in it; its monitor isn't there yet. */
int kvm_jail_run(const struct hv_op *op, const struct kvm_machine *m,
    pid_t *ret_pid, struct err *err);
/* What QEMU said before it ended: one line, printable. From the open log:
 * what now has its name may be QEMU's own making. */
void kvm_jail_said(const struct kvm_machine *m, char *ret, size_t size);
/* The last line of a text that ends with it, escaped; ret stays as it was if
 * there is none. */
void kvm_last_line(int fd, char *ret, size_t size);

/* Sockets in the VM's directory. Heap. */
char *kvm_qmp_path(const char *vm_dir);
char *kvm_console_path(const struct hv_op *op);

/* The image and kind of the run, as its record has them. */
void kvm_vm_of_record(const json_t *record, struct hv_vm *ret);

/* How full its disks are, and who stands still (hv.h). */
int kvm_look(const struct hv_op *op, struct hv_look *ret, struct err *err);
void kvm_ask_paused(
    const struct hv_node *node, struct hv_looked *vms, size_t n, bool go_on);

/* A machine's state on disk, in the directory of its root: what the start is
 * to go on from, with the secret that its agent knows; or that is removed. */
int kvm_state_look(
    const struct hv_op *op, struct kvm_machine *m, struct err *err);
/* Brings it back into a QEMU that waits for it. */
int kvm_state_load(const struct hv_op *op, struct qmp *q, struct err *err);
/* Saves the machine that runs, and pauses it; when that fails it runs on. */
int kvm_state_save(
    const struct hv_op *op, struct qmp *q, int64_t *ret_bytes, struct err *err);
/* Whether somebody ended while saving the machine that runs. */
bool kvm_state_is_open(const struct hv_op *op);
/* It runs on as if nobody had begun. */
int kvm_state_recover(const struct hv_op *op, struct qmp *q, struct err *err);

#endif
