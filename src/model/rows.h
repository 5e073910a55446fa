/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The farm's rows as structs, each with the field table that database rows
 * (db_row_decode) and JSON (json_encode, json_decode) share. Members are
 * named like the columns of sql/0001-farm.sql; 0 in an id column that may be
 * NULL means none. Strings live in the arena of whoever decoded the row.
 * Pure; every process.
 */
#ifndef MODEL_ROWS_H
#define MODEL_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/field.h"
#include "model/fill.h"
#include "model/states.h"

#define NAME_BYTES_MAX 64 /* of tenants, users, OSFs, VMs */
#define TAG_BYTES_MAX  128

#define UPLOAD_NAME_BYTES_MAX  128
#define UPLOAD_BYTES_MAX       (INT64_C(1) << 40)
#define UPLOAD_PIECE_BYTES_MAX ((size_t)1024 * 1024) /* of one request */

struct tenant_row {
	int64_t id;
	const char *name;
	const char *description;
	bool blocked;
	int32_t idmap_slot; /* model/idmap.h */
	int64_t created_at;
	const char *egress;  /* model/egress.h; NULL: the farm's */
	int32_t egress_kbit; /* 0: no limit */
};

struct user_row {
	int64_t id;
	int64_t tenant_id;
	const char *login;
	const char *password_hash; /* crypt(5); NULL: no local login */
	int32_t uid;               /* inside containers */
	const char *full_name;
	bool blocked;
	int64_t created_at;
};

struct host_row {
	int64_t id;
	const char *name;
	const char *address;
	bool blocked;
	int64_t created_at;
};

struct host_runtime_row {
	int64_t host_id;
	enum host_state state;
	int64_t state_at;
	int64_t lease_until;
	int64_t memory_bytes;
	int32_t cpus;
	const char *version;
};

struct osf_row {
	int64_t id;
	int64_t tenant_id;
	const char *name;
	const char *description;
	enum osf_kind kind;
	enum hypervisor hypervisor;
	enum root_kind root;
	int32_t memory_mb;
	int32_t swap_mb;
	int32_t cpu_percent; /* 100 = one CPU, 0 = no quota */
	int32_t cpu_weight;
	int32_t io_weight;
	int32_t pids_max;
	int32_t home_mb;     /* 0 = no quota */
	const char *devices; /* model/device.h; NULL: none */
	enum osf_machine machine;
	enum osf_accel accel;
	int32_t idle_after_s; /* 0 = never hibernated */
	int32_t keep_images;
	int64_t created_at;
	const char *egress;  /* model/egress.h; NULL: the tenant's */
	int32_t egress_kbit; /* 0: no limit */
};

struct image_row {
	int64_t id;
	int64_t osf_id;
	const char *version;
	int64_t parent_id;
	enum image_state state;
	int64_t state_at;
	bool blocked;
	int64_t host_id; /* that imports it; 0: any */
	const char *source;
	const char *checksum;
	int64_t size_bytes;
	const char *author;
	const char *message;
	int32_t progress; /* percent */
	const char *error_id;
	const char *error;
	bool hold;
	int64_t vm_id; /* whose changes it has */
	int64_t upload_id;
	int64_t created_at;
};

struct upload_row {
	int64_t id;
	int64_t host_id; /* whose API has the bytes */
	const char *name;
	int64_t size_bytes;
	const char *sha256; /* of the whole file */
	int64_t arrived_bytes;
	const char *author;
	int64_t created_at;
	int64_t touched_at;
};

struct image_tag_row {
	int64_t osf_id;
	const char *tag;
	int64_t image_id;
	bool fixed;
	int64_t moved_at;
};

struct vm_row {
	int64_t id;
	const char *name;
	int64_t user_id;
	int64_t osf_id;
	const char *tag;
	const char *address;
	bool blocked;
	enum vm_desired desired;
	int64_t desired_at;
	const char *desired_by;
	int64_t host_id; /* 0: not placed */
	int64_t epoch;
	const char *description;
	const char *vm_group; /* for roll-outs; NULL: none */
	int64_t created_at;
};

struct vm_runtime_row {
	int64_t vm_id;
	int64_t epoch;
	enum vm_state state;
	int64_t state_at;
	int64_t host_id;
	int64_t image_id;
	int32_t pid;
	enum session_state session;
	int64_t session_at;
	int64_t started_at;
	const char *step;
	const char *error_id;
	const char *error;
	const char *error_ref;
	int64_t hibernated_at;
	enum fill system_fill;
	enum fill home_fill;
	int64_t paused_at;
};

struct session_row {
	int64_t vm_id;
	int64_t generation;
	enum link_state state;
	int64_t state_at;
	int64_t host_id; /* whose L7R holds it */
	int64_t user_id;
	const char *client_address;
	const char *client;
	const char *key_hash; /* as text: "\x" and hex */
};

struct event_row {
	int64_t id;
	int64_t at;
	const char *name;
	int64_t vm_id;
	int64_t user_id;
	int64_t host_id;
	int64_t image_id;
	const char *text;
	int64_t duration_ms;
	const char *error_id;
	const char *ref;
};

struct config_row {
	int64_t tenant_id; /* 0: the whole farm */
	const char *key;
	const char *value;
};

extern const struct field tenant_fields[];
extern const struct field user_fields[];
extern const struct field host_fields[];
extern const struct field host_runtime_fields[];
extern const struct field osf_fields[];
extern const struct field image_fields[];
extern const struct field image_tag_fields[];
extern const struct field upload_fields[];
extern const struct field vm_fields[];
extern const struct field vm_runtime_fields[];
extern const struct field session_fields[];
extern const struct field event_fields[];
extern const struct field config_fields[];

#endif
