/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/rows.h"

#include <string.h>

#include "model/device.h"
#include "model/egress.h"

#define SHA256_HEX_LEN 64

#define RO    .flags = FIELD_READONLY
#define NAMED .flags = FIELD_REQUIRED | FIELD_NAME, .max = NAME_BYTES_MAX
#define TEXT  .max = 1024

/* Of OSFs and tenants. */
#define EGRESS_FIELDS(type_)                                                  \
	FIELD(type_, egress, STR, .max = EGRESS_TEXT_MAX,                     \
	    .check = egress_check,                                            \
	    .doc = "What its desktops may reach, by rules; empty: as if it "  \
		   "said nothing."),                                          \
	    FIELD(type_, egress_kbit, I32, .min = -1, .max = INT32_MAX,       \
		.doc = "The most that one of its desktops may send, kbit/s; " \
		       "0 is no limit, -1 as if it said nothing.")

static int
check_sha256(const char *text, struct err *err)
{
	if (strlen(text) == SHA256_HEX_LEN &&
	    strspn(text, "0123456789abcdef") == SHA256_HEX_LEN)
		return 0;
	return err_set(err, ERR_PARAMETER,
	    "a SHA-256 is 64 of 0-9 and a-f, not '%.80s'", text);
}

const struct field tenant_fields[] = { FIELD(struct tenant_row, id, I64, RO),
	FIELD(struct tenant_row, name, STR, NAMED,
	    .doc = "Unique in the farm; users log in as LOGIN@TENANT."),
	FIELD(struct tenant_row, description, STR, TEXT),
	FIELD(struct tenant_row, blocked, BOOL,
	    .doc = "Nobody of it can log in."),
	FIELD(struct tenant_row, idmap_slot, I32, RO),
	FIELD(struct tenant_row, created_at, TIME, RO),
	EGRESS_FIELDS(struct tenant_row), FIELD_END };

const struct field user_fields[] = { FIELD(struct user_row, id, I64, RO),
	FIELD(struct user_row, tenant_id, I64),
	FIELD(
	    struct user_row, login, STR, NAMED, .doc = "Unique in its tenant."),
	FIELD(struct user_row, password_hash, STR,
	    .flags = FIELD_SECRET | FIELD_READONLY, .max = 384),
	FIELD(struct user_row, uid, I32, RO,
	    .doc = "User id inside the desktops."),
	FIELD(struct user_row, full_name, STR, .max = 256),
	FIELD(struct user_row, blocked, BOOL,
	    .doc = "Can't log in; sessions that exist go on."),
	FIELD(struct user_row, created_at, TIME, RO), FIELD_END };

const struct field host_fields[] = { FIELD(struct host_row, id, I64, RO),
	FIELD(struct host_row, name, STR, NAMED,
	    .doc = "As in the node's node.conf."),
	FIELD(struct host_row, address, STR, .max = 256,
	    .doc = "Where other nodes reach it."),
	FIELD(struct host_row, blocked, BOOL,
	    .doc = "Takes no logins and no new desktops."),
	FIELD(struct host_row, created_at, TIME, RO), FIELD_END };

const struct field host_runtime_fields[] = { FIELD(struct host_runtime_row,
						 host_id, I64, RO),
	FIELD_ENUM_OF(struct host_runtime_row, state, host_state_words, RO),
	FIELD(struct host_runtime_row, state_at, TIME, RO),
	FIELD(struct host_runtime_row, lease_until, TIME, RO),
	FIELD(struct host_runtime_row, memory_bytes, I64, RO),
	FIELD(struct host_runtime_row, cpus, I32, RO),
	FIELD(struct host_runtime_row, version, STR, RO), FIELD_END };

const struct field osf_fields[] = { FIELD(struct osf_row, id, I64, RO),
	FIELD(struct osf_row, tenant_id, I64),
	FIELD(struct osf_row, name, STR, NAMED, .doc = "Unique in its tenant."),
	FIELD(struct osf_row, description, STR, TEXT),
	FIELD_ENUM_OF(struct osf_row, kind, osf_kind_words),
	FIELD_ENUM_OF(struct osf_row, hypervisor, hypervisor_words),
	FIELD_ENUM_OF(struct osf_row, root, root_kind_words,
	    .doc = "Whether changes to the system outlive a stop."),
	FIELD(struct osf_row, memory_mb, I32, .min = 16, .max = 4194304,
	    .doc = "Limit of memory of a desktop, MiB."),
	FIELD(struct osf_row, swap_mb, I32, .min = 0, .max = 4194304,
	    .doc = "Limit of swap beyond the memory, MiB."),
	FIELD(struct osf_row, cpu_percent, I32, .min = 0, .max = 102400,
	    .doc = "Limit of CPU time: 100 is one CPU, 0 is no limit."),
	FIELD(struct osf_row, cpu_weight, I32, .min = 1, .max = 10000,
	    .doc = "Share of CPU time where it is short; 100 is normal."),
	FIELD(struct osf_row, io_weight, I32, .min = 1, .max = 10000,
	    .doc = "Share of the disk where it is short; 100 is normal."),
	FIELD(struct osf_row, pids_max, I32, .min = 16, .max = 1000000,
	    .doc = "Limit of processes and threads."),
	FIELD(struct osf_row, home_mb, I32, .min = 0, .max = INT32_MAX,
	    .doc = "Size of a home, MiB; 0 is no limit."),
	FIELD(struct osf_row, devices, STR, .max = DEVICE_TEXT_MAX,
	    .check = device_check,
	    .doc = "Devices of the node that its desktops get: kvm, tun, "
		   "render."),
	FIELD_ENUM_OF(struct osf_row, machine, osf_machine_words,
	    .doc = "Which machine its virtual machines are; node: as each "
		   "node says (vm.kvm.machine)."),
	FIELD_ENUM_OF(struct osf_row, accel, osf_accel_words,
	    .doc = "What runs their CPUs: kvm, tcg (emulation), auto; node: "
		   "as each node says (vm.kvm.accel)."),
	FIELD(struct osf_row, idle_after_s, I32, .min = 0, .max = 31536000,
	    .doc = "Seconds after which a desktop whose session is suspended "
		   "is hibernated; 0 is never."),
	FIELD(struct osf_row, keep_images, I32, .min = -1, .max = 100000,
	    .doc = "How many untagged, unused images it keeps; -1: all."),
	FIELD(struct osf_row, created_at, TIME, RO),
	EGRESS_FIELDS(struct osf_row), FIELD_END };

const struct field image_fields[] = { FIELD(struct image_row, id, I64, RO),
	FIELD(struct image_row, osf_id, I64),
	FIELD(
	    struct image_row, version, STR, NAMED, .doc = "Unique in its OSF."),
	FIELD(struct image_row, parent_id, I64),
	FIELD_ENUM_OF(struct image_row, state, image_state_words, RO),
	FIELD(struct image_row, state_at, TIME, RO),
	FIELD(struct image_row, blocked, BOOL,
	    .doc = "No desktop starts from it."),
	FIELD(struct image_row, host_id, I64,
	    .doc = "The node that imports it; null: any."),
	FIELD(struct image_row, source, STR, .max = 4095,
	    .doc = "Absolute path of a tree, a tar archive or an OCI image "
		   "on that node."),
	FIELD(struct image_row, vm_id, I64,
	    .doc = "Instead of a source: the stopped VM whose changes it is "
		   "made of."),
	FIELD(struct image_row, upload_id, I64,
	    .doc = "Instead of a source: an upload that has arrived."),
	FIELD(struct image_row, hold, BOOL,
	    .doc = "Its import doesn't publish it."),
	FIELD(struct image_row, checksum, STR, RO),
	FIELD(struct image_row, size_bytes, I64, RO),
	FIELD(struct image_row, author, STR, .max = 256),
	FIELD(struct image_row, message, STR),
	FIELD(struct image_row, progress, I32, RO,
	    .doc = "Percent of the import."),
	FIELD(struct image_row, error_id, STR, RO),
	FIELD(struct image_row, error, STR, RO),
	FIELD(struct image_row, created_at, TIME, RO), FIELD_END };

const struct field upload_fields[] = { FIELD(struct upload_row, id, I64, RO),
	FIELD(struct upload_row, host_id, I64, RO),
	FIELD(struct upload_row, name, STR,
	    .flags = FIELD_REQUIRED | FIELD_NAME, .max = UPLOAD_NAME_BYTES_MAX,
	    .doc = "The file's; its end says what a disk is (.raw .img .iso)."),
	FIELD(struct upload_row, size_bytes, I64, .flags = FIELD_REQUIRED,
	    .min = 1, .max = UPLOAD_BYTES_MAX),
	FIELD(struct upload_row, sha256, STR, .flags = FIELD_REQUIRED,
	    .check = check_sha256, .doc = "Of the whole file, in hex."),
	FIELD(struct upload_row, arrived_bytes, I64, RO),
	FIELD(struct upload_row, author, STR, RO),
	FIELD(struct upload_row, created_at, TIME, RO),
	FIELD(struct upload_row, touched_at, TIME, RO), FIELD_END };

const struct field image_tag_fields[] = { FIELD(struct image_tag_row, osf_id,
					      I64, RO),
	FIELD(struct image_tag_row, tag, STR,
	    .flags = FIELD_REQUIRED | FIELD_NAME, .max = TAG_BYTES_MAX),
	FIELD(struct image_tag_row, image_id, I64),
	FIELD(struct image_tag_row, fixed, BOOL, .doc = "It can't be moved."),
	FIELD(struct image_tag_row, moved_at, TIME, RO), FIELD_END };

const struct field vm_fields[] = { FIELD(struct vm_row, id, I64, RO),
	FIELD(struct vm_row, name, STR, NAMED,
	    .doc = "Unique for its user; also the desktop's host name."),
	FIELD(struct vm_row, user_id, I64), FIELD(struct vm_row, osf_id, I64),
	FIELD(struct vm_row, tag, STR, .flags = FIELD_NAME,
	    .max = TAG_BYTES_MAX,
	    .doc = "Which image of its OSF it gets at its next start."),
	FIELD(struct vm_row, address, STR, .max = 64,
	    .doc = "Given from the range when absent."),
	FIELD(struct vm_row, blocked, BOOL, .doc = "Refuses new connections."),
	FIELD_ENUM_OF(struct vm_row, desired, vm_desired_words, RO),
	FIELD(struct vm_row, desired_at, TIME, RO),
	FIELD(struct vm_row, desired_by, STR, RO),
	FIELD(struct vm_row, host_id, I64, RO, .doc = "Where it is placed."),
	FIELD(struct vm_row, epoch, I64, RO),
	FIELD(struct vm_row, description, STR, TEXT),
	FIELD(struct vm_row, vm_group, STR, .max = NAME_BYTES_MAX,
	    .doc = "VMs that a roll-out can begin with; empty: none."),
	FIELD(struct vm_row, created_at, TIME, RO), FIELD_END };

const struct field vm_runtime_fields[] = { FIELD(struct vm_runtime_row, vm_id,
					       I64, RO),
	FIELD(struct vm_runtime_row, epoch, I64, RO),
	FIELD_ENUM_OF(struct vm_runtime_row, state, vm_state_words, RO),
	FIELD(struct vm_runtime_row, state_at, TIME, RO),
	FIELD(struct vm_runtime_row, host_id, I64, RO),
	FIELD(struct vm_runtime_row, image_id, I64, RO),
	FIELD(struct vm_runtime_row, pid, I32, RO),
	FIELD_ENUM_OF(struct vm_runtime_row, session, session_state_words, RO),
	FIELD(struct vm_runtime_row, session_at, TIME, RO),
	FIELD(struct vm_runtime_row, started_at, TIME, RO),
	FIELD(struct vm_runtime_row, step, STR, RO,
	    .doc = "What a start is doing."),
	FIELD(struct vm_runtime_row, error_id, STR, RO,
	    .doc = "Why the last run ended badly."),
	FIELD(struct vm_runtime_row, error, STR, RO),
	FIELD(struct vm_runtime_row, error_ref, STR, RO),
	FIELD(struct vm_runtime_row, hibernated_at, TIME, RO,
	    .doc = "Since when it sleeps; null: awake."),
	FIELD_ENUM_OF(struct vm_runtime_row, system_fill, fill_words, RO,
	    .doc = "How full the space for changes to its system is."),
	FIELD_ENUM_OF(struct vm_runtime_row, home_fill, fill_words, RO,
	    .doc = "How full its home is."),
	FIELD(struct vm_runtime_row, paused_at, TIME, RO,
	    .doc = "Since when it has waited for room on the node's disk; "
		   "null: it doesn't."),
	FIELD_END };

const struct field session_fields[] = { FIELD(
					    struct session_row, vm_id, I64, RO),
	FIELD(struct session_row, generation, I64, RO),
	FIELD_ENUM_OF(struct session_row, state, link_state_words, RO),
	FIELD(struct session_row, state_at, TIME, RO),
	FIELD(struct session_row, host_id, I64, RO),
	FIELD(struct session_row, user_id, I64, RO),
	FIELD(struct session_row, client_address, STR, RO),
	FIELD(struct session_row, client, STR, RO),
	FIELD(struct session_row, key_hash, STR,
	    .flags = FIELD_SECRET | FIELD_READONLY),
	FIELD_END };

const struct field event_fields[] = { FIELD(struct event_row, id, I64, RO),
	FIELD(struct event_row, at, TIME, RO),
	FIELD(struct event_row, name, STR, RO),
	FIELD(struct event_row, vm_id, I64, RO),
	FIELD(struct event_row, user_id, I64, RO),
	FIELD(struct event_row, host_id, I64, RO),
	FIELD(struct event_row, image_id, I64, RO),
	FIELD(struct event_row, text, STR, RO),
	FIELD(struct event_row, duration_ms, I64, RO),
	FIELD(struct event_row, error_id, STR, RO),
	FIELD(struct event_row, ref, STR, RO), FIELD_END };

const struct field config_fields[] = { FIELD(struct config_row, tenant_id, I64),
	FIELD(struct config_row, key, STR, .flags = FIELD_REQUIRED, .max = 128),
	FIELD(struct config_row, value, STR, .flags = FIELD_REQUIRED,
	    .max = 32768),
	FIELD_END };
