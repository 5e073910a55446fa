/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The words of the farm: every state and event as an X-macro table that
 * feeds C, the SQL CHECK lists (a test compares them) and the manual. The
 * transitions are in model/machine.h. Pure: no clock, no descriptor, no SQL.
 */
#ifndef MODEL_STATES_H
#define MODEL_STATES_H

#include "base/enum.h"

/* A VM as its node sees it (vm_runtimes.state; also on the client wire). */
#define VM_STATE_TABLE(X)                                                  \
	X(STOPPED, "stopped")                                              \
	X(STARTING, "starting")                                            \
	X(RUNNING, "running")                                              \
	X(STOPPING, "stopping")                                            \
	X(ZOMBIE, "zombie")         /* something of it can't be removed */ \
	X(SUSPENDING, "suspending") /* a machine's memory goes to disk */  \
	X(SUSPENDED, "suspended")   /* is there: a start goes on from it */

#define VM_EVENT_TABLE(X)                                                   \
	X(START, "start") /* desired running, this node holds it */         \
	X(READY, "ready") /* the VMA answers */                             \
	X(STOP, "stop")   /* desired stopped */                             \
	X(FAIL, "fail")   /* a step of the start failed, or its deadline */ \
	X(EXIT, "exit")   /* the container or QEMU ended */                 \
	X(CLEAN, "clean") /* nothing of it is left on the node */           \
	X(STUCK, "stuck") /* cleaning failed */                             \
	X(ADOPT, "adopt") /* found running after a restart of the daemon */ \
	X(SUSPEND, "suspend") /* desired suspended */                       \
	X(SAVED, "saved")     /* nothing of it runs, its memory is on disk */

/* What should be (vms.desired). */
#define VM_DESIRED_TABLE(X)   \
	X(STOPPED, "stopped") \
	X(RUNNING, "running") \
	X(SUSPENDED, "suspended") /* machines: not running, memory on disk */

/* The X session inside a VM (VMA). */
#define SESSION_STATE_TABLE(X)      \
	X(STOPPED, "stopped")       \
	X(STARTING, "starting")     \
	X(LISTENING, "listening")   \
	X(CONNECTED, "connected")   \
	X(SUSPENDING, "suspending") \
	X(SUSPENDED, "suspended")   \
	X(STOPPING, "stopping")

#define SESSION_EVENT_TABLE(X)                                              \
	X(START, "start")         /* no session yet: provision and start */ \
	X(RESUME, "resume")       /* suspended: HUP sent */                 \
	X(LISTEN, "listen")       /* the agent's socket is there */         \
	X(CONNECT, "connect")     /* "Session started" or "resumed" */      \
	X(SUSPEND, "suspend")     /* "Suspending session", or HUP sent */   \
	X(SUSPENDED, "suspended") /* "Session suspended" */                 \
	X(STOP, "stop")           /* TERM sent, or "Terminating" */         \
	X(EXIT, "exit")           /* the agent's process ended */

/* Who is in a session (sessions.state, L7R). */
#define LINK_STATE_TABLE(X)             \
	X(DISCONNECTED, "disconnected") \
	X(CONNECTING, "connecting")     \
	X(CONNECTED, "connected")

#define IMAGE_STATE_TABLE(X)      \
	X(NEW, "new")             \
	X(IMPORTING, "importing") \
	X(PUBLISHED, "published") \
	X(RETIRED, "retired")     \
	X(FAILED, "failed")       \
	X(READY, "ready") /* imported, to be published */

#define HOST_STATE_TABLE(X)     \
	X(STOPPED, "stopped")   \
	X(STARTING, "starting") \
	X(RUNNING, "running")   \
	X(STOPPING, "stopping") \
	X(LOST, "lost")

#define OSF_KIND_TABLE(X)     \
	X(DESKTOP, "desktop") \
	X(APPLICATION, "application")

#define HYPERVISOR_TABLE(X) \
	X(LXC, "lxc")       \
	X(KVM, "kvm")

#define ROOT_KIND_TABLE(X)          \
	X(PERSISTENT, "persistent") \
	X(VOLATILE, "volatile")

#define ROLLOUT_STATE_TABLE(X)  \
	X(WATCHING, "watching") \
	X(HALTED, "halted")     \
	X(FINISHED, "finished") \
	X(ROLLED_BACK, "rolled-back")

/* What a node keeps homes in (node.storage.home). */
#define HOME_STORE_TABLE(X)                                                  \
	X(AUTO, "auto")   /* image where there is a limit, else directory */ \
	X(IMAGE, "image") /* ext4 in a sparse file, on a loop device */      \
	X(BTRFS, "btrfs") /* subvolume with a qgroup */                      \
	X(PROJECT, "project")     /* directory with a project quota */       \
	X(DIRECTORY, "directory") /* no limit */

/* What can be done with a home (home_jobs.action). */
#define HOME_ACTION_TABLE(X)    \
	X(LOOK, "look")         \
	X(SNAPSHOT, "snapshot") \
	X(RESTORE, "restore")   \
	X(FORGET, "forget")     \
	X(GROW, "grow")         \
	X(CONVERT, "convert")

#define HOME_JOB_TABLE(X)     \
	X(NEW, "new")         \
	X(RUNNING, "running") \
	X(DONE, "done")       \
	X(FAILED, "failed")

/* What a node keeps the root file systems of containers in
 * (node.storage.root). */
#define ROOT_STORE_TABLE(X)                                          \
	X(OVERLAY, "overlay") /* the image below, own files above */ \
	X(BTRFS, "btrfs")     /* snapshot of the image's subvolume */

/* What runs a virtual machine's CPU, and which machine it is. */
#define VM_ACCEL_TABLE(X)                                               \
	X(AUTO, "auto") /* kvm where it is certain to work, else tcg */ \
	X(KVM, "kvm")                                                   \
	X(TCG, "tcg") /* emulated */

#define VM_MACHINE_TABLE(X) \
	X(Q35, "q35")       \
	X(MICROVM, "microvm")

/* The same as an OSF's choice. */
#define OSF_ACCEL_TABLE(X)               \
	X(NODE, "node") /* the node's */ \
	VM_ACCEL_TABLE(X)

#define OSF_MACHINE_TABLE(X)             \
	X(NODE, "node") /* the node's */ \
	VM_MACHINE_TABLE(X)

/* When the node runs a program of the administrator's. */
#define HOST_HOOK_TABLE(X)        \
	X(PRESTART, "prestart")   \
	X(POSTSTART, "poststart") \
	X(POSTSTOP, "poststop")

#define X(name, word) VM_STATE_##name,
enum vm_state { VM_STATE_TABLE(X) VM_STATE_COUNT_ };
#undef X
#define X(name, word) VM_EVENT_##name,
enum vm_event { VM_EVENT_TABLE(X) VM_EVENT_COUNT_ };
#undef X
#define X(name, word) VM_DESIRED_##name,
enum vm_desired { VM_DESIRED_TABLE(X) VM_DESIRED_COUNT_ };
#undef X
#define X(name, word) SESSION_##name,
enum session_state { SESSION_STATE_TABLE(X) SESSION_COUNT_ };
#undef X
#define X(name, word) SESSION_EVENT_##name,
enum session_event { SESSION_EVENT_TABLE(X) SESSION_EVENT_COUNT_ };
#undef X
#define X(name, word) LINK_##name,
enum link_state { LINK_STATE_TABLE(X) LINK_COUNT_ };
#undef X
#define X(name, word) IMAGE_##name,
enum image_state { IMAGE_STATE_TABLE(X) IMAGE_COUNT_ };
#undef X
#define X(name, word) HOST_##name,
enum host_state { HOST_STATE_TABLE(X) HOST_COUNT_ };
#undef X
#define X(name, word) OSF_KIND_##name,
enum osf_kind { OSF_KIND_TABLE(X) OSF_KIND_COUNT_ };
#undef X
#define X(name, word) HYPERVISOR_##name,
enum hypervisor { HYPERVISOR_TABLE(X) HYPERVISOR_COUNT_ };
#undef X
#define X(name, word) ROOT_KIND_##name,
enum root_kind { ROOT_KIND_TABLE(X) ROOT_KIND_COUNT_ };
#undef X
#define X(name, word) ROLLOUT_##name,
enum rollout_state { ROLLOUT_STATE_TABLE(X) ROLLOUT_STATE_COUNT_ };
#undef X
#define X(name, word) HOME_STORE_##name,
enum home_store { HOME_STORE_TABLE(X) HOME_STORE_COUNT_ };
#undef X
#define X(name, word) HOME_ACTION_##name,
enum home_action { HOME_ACTION_TABLE(X) HOME_ACTION_COUNT_ };
#undef X
#define X(name, word) HOME_JOB_##name,
enum home_job_state { HOME_JOB_TABLE(X) HOME_JOB_COUNT_ };
#undef X
#define X(name, word) ROOT_STORE_##name,
enum root_store { ROOT_STORE_TABLE(X) ROOT_STORE_COUNT_ };
#undef X
#define X(name, word) VM_ACCEL_##name,
enum vm_accel { VM_ACCEL_TABLE(X) VM_ACCEL_COUNT_ };
#undef X
#define X(name, word) VM_MACHINE_##name,
enum vm_machine { VM_MACHINE_TABLE(X) VM_MACHINE_COUNT_ };
#undef X

#define X(name, word) OSF_ACCEL_##name,
enum osf_accel { OSF_ACCEL_TABLE(X) OSF_ACCEL_COUNT_ };
#undef X
#define X(name, word) OSF_MACHINE_##name,
enum osf_machine { OSF_MACHINE_TABLE(X) OSF_MACHINE_COUNT_ };
#undef X
#define X(name, word) HOST_HOOK_##name,
enum host_hook { HOST_HOOK_TABLE(X) HOST_HOOK_COUNT_ };
#undef X

ENUM_FUNCTIONS(host_hook);
ENUM_FUNCTIONS(vm_state);
ENUM_FUNCTIONS(vm_event);
ENUM_FUNCTIONS(vm_desired);
ENUM_FUNCTIONS(session_state);
ENUM_FUNCTIONS(session_event);
ENUM_FUNCTIONS(link_state);
ENUM_FUNCTIONS(image_state);
ENUM_FUNCTIONS(host_state);
ENUM_FUNCTIONS(osf_kind);
ENUM_FUNCTIONS(hypervisor);
ENUM_FUNCTIONS(root_kind);
ENUM_FUNCTIONS(rollout_state);
ENUM_FUNCTIONS(home_store);
ENUM_FUNCTIONS(root_store);
ENUM_FUNCTIONS(vm_accel);
ENUM_FUNCTIONS(vm_machine);
ENUM_FUNCTIONS(osf_accel);
ENUM_FUNCTIONS(osf_machine);
ENUM_FUNCTIONS(home_action);
ENUM_FUNCTIONS(home_job_state);

#endif
