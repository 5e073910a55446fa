/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/states.h"

#define X(name, word) [VM_STATE_##name] = word,
ENUM_DEFINE(vm_state, VM_STATE_TABLE(X));
#undef X
#define X(name, word) [VM_EVENT_##name] = word,
ENUM_DEFINE(vm_event, VM_EVENT_TABLE(X));
#undef X
#define X(name, word) [VM_DESIRED_##name] = word,
ENUM_DEFINE(vm_desired, VM_DESIRED_TABLE(X));
#undef X
#define X(name, word) [SESSION_##name] = word,
ENUM_DEFINE(session_state, SESSION_STATE_TABLE(X));
#undef X
#define X(name, word) [SESSION_EVENT_##name] = word,
ENUM_DEFINE(session_event, SESSION_EVENT_TABLE(X));
#undef X
#define X(name, word) [LINK_##name] = word,
ENUM_DEFINE(link_state, LINK_STATE_TABLE(X));
#undef X
#define X(name, word) [IMAGE_##name] = word,
ENUM_DEFINE(image_state, IMAGE_STATE_TABLE(X));
#undef X
#define X(name, word) [HOST_##name] = word,
ENUM_DEFINE(host_state, HOST_STATE_TABLE(X));
#undef X
#define X(name, word) [OSF_KIND_##name] = word,
ENUM_DEFINE(osf_kind, OSF_KIND_TABLE(X));
#undef X
#define X(name, word) [HYPERVISOR_##name] = word,
ENUM_DEFINE(hypervisor, HYPERVISOR_TABLE(X));
#undef X
#define X(name, word) [ROOT_KIND_##name] = word,
ENUM_DEFINE(root_kind, ROOT_KIND_TABLE(X));
#undef X
#define X(name, word) [ROLLOUT_##name] = word,
ENUM_DEFINE(rollout_state, ROLLOUT_STATE_TABLE(X));
#undef X
#define X(name, word) [HOME_STORE_##name] = word,
ENUM_DEFINE(home_store, HOME_STORE_TABLE(X));
#undef X
#define X(name, word) [ROOT_STORE_##name] = word,
ENUM_DEFINE(root_store, ROOT_STORE_TABLE(X));
#undef X
#define X(name, word) [VM_ACCEL_##name] = word,
ENUM_DEFINE(vm_accel, VM_ACCEL_TABLE(X));
#undef X
#define X(name, word) [VM_MACHINE_##name] = word,
ENUM_DEFINE(vm_machine, VM_MACHINE_TABLE(X));
#undef X
#define X(name, word) [OSF_ACCEL_##name] = word,
ENUM_DEFINE(osf_accel, OSF_ACCEL_TABLE(X));
#undef X
#define X(name, word) [OSF_MACHINE_##name] = word,
ENUM_DEFINE(osf_machine, OSF_MACHINE_TABLE(X));
#undef X
#define X(name, word) [HOME_ACTION_##name] = word,
ENUM_DEFINE(home_action, HOME_ACTION_TABLE(X));
#undef X
#define X(name, word) [HOME_JOB_##name] = word,
ENUM_DEFINE(home_job_state, HOME_JOB_TABLE(X));
#undef X

#define X(name, word) [HOST_HOOK_##name] = word,
ENUM_DEFINE(host_hook, HOST_HOOK_TABLE(X));
#undef X
