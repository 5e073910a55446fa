/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The mounts of one container, in a mount namespace that only its monitor
 * (and, copied, the container) lives in. Every path below <run>/mnt is the
 * same for all VMs and means another thing in each namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/lxc_priv.h"
#include "storage/fill.h"
#include "storage/storage.h"

/* For the last run's namespace to let go of the home. */
#define HOME_WAIT_MS 5000

/* The guest owns the channel's directory: it gets a file system of its own,
 * too small to hurt the node. */
#define CHANNEL_OPTIONS "size=256k,nr_inodes=128,mode=0755"

static int
write_file(
    const struct hv_op *op, const char *name, const char *text, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", op->mnt, name);

	return fs_write_file(path, text, strlen(text), 0644, err);
}

static int
write_resolv_conf(const struct hv_op *op, struct err *err)
{
	char text[512] = "";
	size_t n = 0;
	const char *p = op->node->dns;

	while (*(p += strspn(p, " ")) != '\0' && n < sizeof(text) - 64) {
		int len = (int)strcspn(p, " ");

		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    "nameserver %.*s\n", len > 45 ? 45 : len, p);
		p += len;
	}
	return write_file(op, "resolv.conf", text, err);
}

static int
mount_channel(const struct hv_op *op, uid_t base, struct err *err)
{
	_cleanup_(freep)
	char *dir = xasprintf("%s/chan", op->mnt);
	char options[128];

	snprintf(options, sizeof(options), CHANNEL_OPTIONS ",uid=%u,gid=%u",
	    (unsigned)base, (unsigned)base);
	if (mkdir(dir, 0755) < 0 ||
	    mount("qvd-channel", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		options) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "mount the channel's directory");
	return 0;
}

/* The agent comes from the node, so that it always fits the HKD. */
static int
mount_agent(const struct hv_op *op, struct err *err)
{
	_cleanup_(freep)
	char *program = xasprintf("%s/qvd-vma", op->node->programs_dir);
	_cleanup_(freep)
	char *target = xasprintf("%s/vma", op->mnt);
	int r;

	if (access(program, X_OK) < 0)
		return err_errno(err, ERR_CONFIG, errno,
		    "the desktop's agent '%s' (see [paths] programs)", program);
	if ((r = write_file(op, "vma", "", err)) < 0)
		return r;
	if (mount(program, target, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, target, NULL,
		MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV,
		NULL) < 0)
		return err_errno(err, ERR_SYSTEM, errno, "mount '%s'", program);
	return 0;
}

/* At <mnt>/homefs as it is on disk, at <mnt>/home with the desktop's ids. */
static int
mount_home(const struct hv_op *op, int userns_fd, struct home_info *ret,
    struct err *err)
{
	const struct home h = { .data_dir = op->node->data_dir,
		.vm_id = op->vm_id,
		.store = op->vm->home_store,
		.size_mb = op->vm->home_mb };
	_cleanup_(freep)
	char *volume = xasprintf("%s/homefs", op->mnt);
	_cleanup_(freep)
	char *home = xasprintf("%s/home", op->mnt);
	int r;

	if ((r = home_lock(&h, op->mnt, HOME_WAIT_MS, err)) < 0 ||
	    (r = home_mount(&h, op->mnt, ret, err)) < 0)
		return r;
	if (mkdir(home, 0755) < 0)
		return err_errno(
		    err, ERR_SYSTEM, errno, "make directory %s", home);
	return storage_mount_idmapped(
	    volume, home, userns_fd, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID, err);
}

static int
mount_storage(const struct hv_op *op, uid_t base, struct home_info *ret_home,
    struct err *err)
{
	_cleanup_(closep)
	int userns = -1;
	struct storage_vm st = {
		.data_dir = op->node->data_dir,
		.mnt_dir = op->mnt,
		.vm_id = op->vm_id,
		.checksum = op->vm->checksum,
		.is_volatile = op->vm->is_volatile,
		.root_store = op->vm->root_store,
		.root_mb = op->vm->root_mb,
		.id_base = base,
	};
	int r;

	if ((r = storage_userns(base, &userns, err)) < 0)
		return r;
	st.userns_fd = userns;
	if ((r = storage_root_mount(&st, err)) < 0)
		return err_wrap(err, r, "root");
	if ((r = mount_home(op, userns, ret_home, err)) < 0)
		return err_wrap(err, r, "home");
	return 0;
}

int
lxc_mounts_make(
    const struct hv_op *op, struct home_info *ret_home, struct err *err)
{
	uid_t base = storage_id_base(op->vm->idmap_slot);
	int r;

	if ((r = hv_mounts_begin(op, err)) < 0 ||
	    (r = mount_storage(op, base, ret_home, err)) < 0 ||
	    (r = mount_channel(op, base, err)) < 0 ||
	    (r = mount_agent(op, err)) < 0 ||
	    (r = lxc_devices_make(op, base, err)) < 0 ||
	    (r = write_resolv_conf(op, err)) < 0)
		return r;
	return write_file(op, "seccomp", lxc_seccomp_profile, err);
}

/*
 * The monitor is a root process of ours in the VM's mount namespace; what
 * lies at <run>/mnt there is not the guest's to choose. A monitor that has
 * just ended may have given its pid to another process: the pid is asked for
 * again when the descriptor is there.
 */
static int
open_in_monitor(const struct cgroup *cg, const char *run_dir, const char *name,
    uint64_t flags, int64_t vm_id, int *ret_fd, struct err *err)
{
	struct open_how how = {
		.flags = flags | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	pid_t pid = cgroup_first_pid(cg, CGROUP_MON, vm_id);
	_cleanup_(freep)
	char *path = xasprintf("%s/mnt/%s", run_dir, name);
	_cleanup_(closep)
	int root = -1;
	_cleanup_(closep)
	int fd = -1;
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d/root", (int)pid);
	if (pid > 0)
		root = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root >= 0)
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd < 0 || cgroup_first_pid(cg, CGROUP_MON, vm_id) != pid)
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)vm_id);
	*ret_fd = take_fd(&fd);
	return 0;
}

int
hv_lxc_open_channel(const struct cgroup *cg, const char *run_dir, int64_t vm_id,
    int *ret_fd, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	struct statfs fs;
	struct stat st;
	int r;

	if ((r = open_in_monitor(
		 cg, run_dir, "chan", O_PATH, vm_id, &fd, err)) < 0)
		return r;
	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
	    fstat(fd, &st) < 0 || st.st_uid < STORAGE_ID_BASE)
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)vm_id);
	*ret_fd = take_fd(&fd);
	return 0;
}

int
hv_lxc_open_home(const struct cgroup *cg, const char *run_dir, int64_t vm_id,
    int *ret_fd, struct err *err)
{
	return open_in_monitor(
	    cg, run_dir, "homefs", O_RDONLY, vm_id, ret_fd, err);
}

/* An overlay's changes are at rw, a snapshot's at root itself. */
static int
look_at_system(const struct hv_op *op, struct fill_facts *ret, struct err *err)
{
	const struct hv_node *node = op->node;
	_cleanup_(closep)
	int fd = -1;
	int r;

	if (open_in_monitor(&op->cg, node->run_dir, "rw", O_RDONLY, op->vm_id,
		&fd, NULL) < 0 &&
	    (r = open_in_monitor(&op->cg, node->run_dir, "root", O_RDONLY,
		 op->vm_id, &fd, err)) < 0)
		return r;
	return fill_of_volume(node->data_dir, fd, BTRFS_EXCLUSIVE, ret, err);
}

/* Its mounts are looked at from outside, so that nothing in it wakes. */
int
lxc_mounts_look(const struct hv_op *op, struct hv_look *ret, struct err *err)
{
	_cleanup_(closep)
	int fd = -1;
	int r;

	if ((r = look_at_system(op, &ret->system, err)) < 0 ||
	    (r = hv_lxc_open_home(
		 &op->cg, op->node->run_dir, op->vm_id, &fd, err)) < 0)
		return r;
	return fill_of_volume(
	    op->node->data_dir, fd, BTRFS_REFERENCED, &ret->home, err);
}
