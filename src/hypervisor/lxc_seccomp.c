/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hypervisor/lxc_priv.h"

/*
 * What no program in a desktop may ask the kernel for, in liblxc's own
 * format. "errno 1" is EPERM. Those that newer C libraries try first and fall
 * back from get ENOSYS (38). Capabilities already forbid most of it; this
 * closes the way through user namespaces that a desktop's programs may make
 * (browsers build their sandboxes with them), where they would have them.
 */
const char lxc_seccomp_profile[] =
    "2\n"
    "denylist\n"
    "reject_force_umount\n"
    "[all]\n"
    /* Replacing the kernel or its parts. */
    "kexec_load errno 1\n"
    "kexec_file_load errno 1\n"
    "init_module errno 1\n"
    "finit_module errno 1\n"
    "delete_module errno 1\n"
    "bpf errno 1\n"
    /* Opening files around the mount tree. (Their handles are only numbers:
     * systemd asks for those of its cgroups.) */
    "open_by_handle_at errno 1\n"
    /* Mounting: everything a desktop needs is mounted for it. */
    "mount errno 1\n"
    "umount2 errno 1\n"
    "umount errno 1\n"
    "pivot_root errno 1\n"
    "move_mount errno 38\n"
    "open_tree errno 38\n"
    "fsopen errno 38\n"
    "fsconfig errno 38\n"
    "fsmount errno 38\n"
    "fspick errno 38\n"
    "mount_setattr errno 38\n"
    /* The node's swap, accounting, quotas, clock, power. */
    "swapon errno 1\n"
    "swapoff errno 1\n"
    "acct errno 1\n"
    "quotactl errno 1\n"
    "quotactl_fd errno 38\n"
    "settimeofday errno 1\n"
    "clock_settime errno 1\n"
    "clock_adjtime errno 1\n"
    "adjtimex errno 1\n"
    "reboot errno 1\n"
    "syslog errno 1\n"
    "lookup_dcookie errno 1\n"
    "nfsservctl errno 38\n"
    /* Keyrings are not separated by namespaces of their own. */
    "add_key errno 1\n"
    "request_key errno 1\n"
    "keyctl errno 1\n"
    /* Interfaces whose history is one of privilege escalation. */
    "userfaultfd errno 1\n"
    "perf_event_open errno 1\n"
    "io_uring_setup errno 38\n"
    "io_uring_enter errno 38\n"
    "io_uring_register errno 38\n"
    "vm86 errno 38\n"
    "vm86old errno 38\n"
    "iopl errno 1\n"
    "ioperm errno 1\n"
    "fanotify_init errno 1\n"
    /* Subvolumes and snapshots of btrfs made in a home or root would not be
     * counted in its limit: BTRFS_IOC_SUBVOL_CREATE, _V2,
     * BTRFS_IOC_SNAP_CREATE, _V2. The kernel looks at 32 bits of the request
     * only. */
    "ioctl errno 1 [1,0x5000940e,SCMP_CMP_MASKED_EQ,0xffffffff]\n"
    "ioctl errno 1 [1,0x50009418,SCMP_CMP_MASKED_EQ,0xffffffff]\n"
    "ioctl errno 1 [1,0x50009401,SCMP_CMP_MASKED_EQ,0xffffffff]\n"
    "ioctl errno 1 [1,0x50009417,SCMP_CMP_MASKED_EQ,0xffffffff]\n"
    "migrate_pages errno 1\n"
    "move_pages errno 1\n";
