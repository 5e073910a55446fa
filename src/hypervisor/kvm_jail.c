/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where QEMU runs. In the VM's mount namespace, below <run>/mnt:
 *
 *	usr lib ... the node's programs, read-only: QEMU and its firmware
 *	dev         null, zero, urandom, and kvm if it is used
 *	kernel initrd   of the image, if it says what is booted
 *	secret dns  what the guest is told
 *	log         a tmpfs of 256 KiB: what QEMU and the console say, so that
 *	            a guest that never stops talking fills nothing
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "hypervisor/kvm_priv.h"
#include "storage/machine.h"

#define QEMU     "/usr/bin/qemu-system-x86_64"
#define FD_MAX   1024 /* QEMU's open files */
#define LOG_SIZE "size=256k,nr_inodes=16,mode=0700"

uid_t
kvm_uid(int64_t vm_id)
{
	return (uid_t)(KVM_UID_BASE + vm_id);
}

static char *
inside(const struct hv_op *op, const char *name)
{
	return xasprintf("%s/%s", op->mnt, name);
}

/* source at <mnt>/<name>, which is made; flags beside read-only. */
static int
bind_at(const struct hv_op *op, const char *source, const char *name,
    bool is_dir, unsigned long flags, struct err *err)
{
	_cleanup_(freep)
	char *target = inside(op, name);
	_cleanup_(closep)
	int fd = -1;

	if (is_dir
		? mkdir(target, 0755) < 0
		: (fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", target);
	if (mount(source, target, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "mount %s for QEMU", source);
	return 0;
}

/* The node's own programs, where they are; with merged /usr most are links. */
static int
show_programs(const struct hv_op *op, struct err *err)
{
	static const char *const dirs[] = { "usr", "lib", "lib64", "bin" };
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV;
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		char from[16], target[PATH_MAX] = "";
		_cleanup_(freep)
		char *to = inside(op, dirs[i]);

		snprintf(from, sizeof(from), "/%s", dirs[i]);
		if (readlink(from, target, sizeof(target) - 1) > 0)
			r = symlink(target, to) == 0
				? 0
				: err_errno(
				      err, ERR_SYSTEM, errno, "link %s", to);
		else if (fs_exists(from))
			r = bind_at(op, from, dirs[i], true, flags, err);
	}
	return r;
}

static int
show_devices(
    const struct hv_op *op, const struct kvm_machine *m, struct err *err)
{
	static const char *const nodes[] = { "dev/null", "dev/zero",
		"dev/urandom", "dev/kvm" };
	const unsigned long flags = MS_NOSUID | MS_NOEXEC;
	_cleanup_(freep)
	char *dev = inside(op, "dev");
	size_t i, n = ARRAY_SIZE(nodes) - (m->kvm ? 0 : 1);
	int r;

	if (mkdir(dev, 0755) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", dev);
	for (i = 0; i < n; i++) {
		char from[24];

		snprintf(from, sizeof(from), "/%s", nodes[i]);
		if ((r = bind_at(op, from, nodes[i], false, flags, err)) < 0)
			return r;
	}
	return 0;
}

/* A file of the image, which may be anything, seen by QEMU's user. 0: it has
 * none, 1: it has. */
static int
show_image_file(const struct hv_op *op, const char *tree, const char *name,
    const char *at, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", tree, name);
	_cleanup_(closep)
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char from[40];
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, ERR_IMAGE, errno, "open '%s'", path);
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IROTH) == 0)
		return err_set(err, ERR_IMAGE,
		    "the image's '%s' is no file that everybody may read "
		    "(chmod a+r)",
		    name);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	r = bind_at(op, from, at, false, MS_RDONLY | MS_NOSUID | MS_NODEV, err);
	return r < 0 ? r : 1;
}

static int
read_cmdline(struct kvm_machine *m, const char *tree, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/cmdline", tree);
	_cleanup_(closep)
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	str_copy(m->cmdline, sizeof(m->cmdline),
	    m->of_tree ? "console=ttyS0 panic=-1 quiet"
		       : "root=/dev/vda ro console=ttyS0 quiet");
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || (n = read(fd, m->cmdline, sizeof(m->cmdline) - 1)) < 0)
		return err_errno(err, ERR_IMAGE, errno, "read '%s'", path);
	m->cmdline[n] = '\0';
	m->cmdline[strcspn(m->cmdline, "\n")] = '\0';
	if (!str_is_text(m->cmdline, KVM_CMDLINE_MAX - 2))
		return err_set(err, ERR_IMAGE,
		    "the image's 'cmdline' is no line of text of at most %d "
		    "bytes",
		    KVM_CMDLINE_MAX - 2);
	return 0;
}

static int
show_kernel(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	_cleanup_(freep)
	char *tree = m->of_tree ? storage_machine_dir(
				      op->node->data_dir, op->vm->checksum)
				: xasprintf("%s/images/trees/%s",
				      op->node->data_dir, op->vm->checksum);
	int r;

	if ((r = show_image_file(op, tree, "vmlinuz", "kernel", err)) < 0)
		return r;
	m->has_kernel = r > 0;
	if ((r = show_image_file(op, tree, "initrd.img", "initrd", err)) < 0)
		return r;
	m->has_initrd = r > 0;
	if (m->microvm && !m->has_kernel)
		return err_set(err, ERR_IMAGE,
		    "a microvm boots a kernel, and the image has no 'vmlinuz': "
		    "put one into it, or choose q35 (qvd osf set OSF --machine "
		    "q35)");
	return read_cmdline(m, tree, err);
}

/* A file that QEMU reads, and nobody else. */
static int
write_fact(
    const struct hv_op *op, const char *name, const char *text, struct err *err)
{
	_cleanup_(freep)
	char *path = inside(op, name);
	int r;

	if ((r = fs_write_file(path, text, strlen(text), 0400, err)) < 0)
		return r;
	if (chown(path, kvm_uid(op->vm_id), (gid_t)-1) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "chown %s", path);
	return 0;
}

static int
make_log(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	_cleanup_(freep)
	char *dir = inside(op, "log");
	_cleanup_(freep)
	char *path = inside(op, "log/qemu.log");
	char options[96];

	snprintf(options, sizeof(options), LOG_SIZE ",uid=%u",
	    (unsigned)kvm_uid(op->vm_id));
	if (mkdir(dir, 0755) < 0 ||
	    mount("qvd-log", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		options) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount %s", dir);
	m->fds[KVM_FD_LOG] =
	    open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (m->fds[KVM_FD_LOG] < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", path);
	return 0;
}

/* QEMU is not to see the node's devices (hv_mounts_begin()). */
static int
hide_sys(const struct hv_op *op, struct err *err)
{
	_cleanup_(freep)
	char *sys = inside(op, "sys");

	if (fs_exists(sys) && (umount2(sys, MNT_DETACH) < 0 || rmdir(sys) < 0))
		return err_errno(err, ERR_SYSTEM, errno, "unmount %s", sys);
	return 0;
}

int
kvm_jail_make(const struct hv_op *op, struct kvm_machine *m, struct err *err)
{
	_cleanup_(freep)
	char *tmp = inside(op, "tmp");
	int r;

	if (access(QEMU, X_OK) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "%s (virtual machines need the package qemu-system-x86)",
		    QEMU);
	if (mkdir(tmp, 0700) < 0 || chown(tmp, kvm_uid(op->vm_id), 0) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "make %s", tmp);
	if ((r = hide_sys(op, err)) < 0 || (r = show_programs(op, err)) < 0 ||
	    (r = show_devices(op, m, err)) < 0 ||
	    (r = show_kernel(op, m, err)) < 0 ||
	    (r = write_fact(op, "secret", m->secret, err)) < 0 ||
	    (r = write_fact(op, "dns", op->node->dns, err)) < 0)
		return r;
	return make_log(op, m, err);
}

/* In the child. What fails is said on standard error, QEMU's log. */
static _noreturn_ void
fail(const char *what)
{
	dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
	_exit(127);
}

/* The group that may use /dev/kvm; 0: none is needed. */
static gid_t
kvm_group(const struct kvm_machine *m)
{
	struct stat st;

	return m->kvm && stat("/dev/kvm", &st) == 0 ? st.st_gid : 0;
}

static void
drop_user(const struct kvm_machine *m)
{
	uid_t uid = kvm_uid(m->vm->vm_id);
	gid_t group = kvm_group(m);

	if (setgroups(group != 0 ? 1 : 0, &group) < 0 ||
	    setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		fail("become the VM's user");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail("no new privileges");
}

static void
set_limits(void)
{
	const struct rlimit none = { 0, 0 }, files = { FD_MAX, FD_MAX };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* When the node runs out of memory a desktop goes before a daemon. */
	if (fd < 0 || write(fd, "200", 3) != 3)
		fail("set oom_score_adj");
	close(fd);
	if (setrlimit(RLIMIT_CORE, &none) < 0 ||
	    setrlimit(RLIMIT_NOFILE, &files) < 0)
		fail("set limits");
}

static _noreturn_ void
become_qemu(
    const struct hv_op *op, const struct kvm_machine *m, char *const *argv)
{
	static char path[] = "PATH=/usr/bin:/bin";
	static char tmp[] = "TMPDIR=/tmp";
	char *const env[] = { path, tmp, NULL };
	struct err err = { 0 };

	if (setsid() < 0 || dup2(m->fds[KVM_FD_LOG], STDERR_FILENO) < 0)
		_exit(127);
	if (cgroup_enter(&op->cg, CGROUP_CT, op->vm_id, &err) < 0) {
		dprintf(STDERR_FILENO, "%s\n", err.msg);
		_exit(127);
	}
	set_limits();
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		fail("make namespaces");
	if (chroot(op->mnt) < 0 || chdir("/") < 0)
		fail("chroot");
	if (proc_place_fds(m->fds, KVM_FD_COUNT_) < 0)
		fail("place descriptors");
	drop_user(m);
	signal(SIGPIPE, SIG_IGN);
	execve(QEMU, argv, env);
	fail("start " QEMU);
}

int
kvm_jail_run(const struct hv_op *op, const struct kvm_machine *m,
    pid_t *ret_pid, struct err *err)
{
	char **argv = kvm_args(m);
	pid_t pid = fork();

	if (pid == 0)
		become_qemu(op, m, argv);
	kvm_args_free(argv);
	if (pid < 0)
		return err_errno(err, ERR_SYSTEM, errno, "fork");
	*ret_pid = pid;
	return 0;
}

void
kvm_last_line(int fd, char *ret, size_t size)
{
	char text[4096], *p;
	struct stat st;
	off_t from;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	from = st.st_size > (off_t)sizeof(text) - 1
		   ? st.st_size - (off_t)sizeof(text) + 1
		   : 0;
	n = pread(fd, text, sizeof(text) - 1, from);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, '\n');
	p = p != NULL ? p + 1 : text;
	if (*p != '\0')
		str_escape(ret, size, p, strlen(p));
}

void
kvm_jail_said(const struct kvm_machine *m, char *ret, size_t size)
{
	str_copy(ret, size, "it doesn't say why");
	kvm_last_line(m->fds[KVM_FD_LOG], ret, size);
}
