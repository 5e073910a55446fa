/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "l7r/broker_sql.h"

#define STMT(name_, n, text)           \
	const struct db_stmt name_ = { \
		.name = #name_,        \
		.sql = (text),         \
		.n_params = (n),       \
	}

STMT(sql_settings, 0,
    "SELECT key, value FROM configs WHERE tenant_id = 0 "
    "AND key LIKE 'l7r.%'");

/* Login */

STMT(sql_host, 1,
    "SELECT h.id, h.blocked, coalesce(r.state, 'stopped') AS state "
    "FROM hosts h LEFT JOIN host_runtimes r ON r.host_id = h.id "
    "WHERE h.name = $1");

#define USER_COLUMNS                                               \
	"u.id, u.tenant_id, u.login, u.blocked, u.password_hash, " \
	"t.name AS tenant, t.blocked AS tenant_blocked"

/* tenant, login, login in lower case: as typed is better */
STMT(sql_user_by_login, 3,
    "SELECT " USER_COLUMNS " "
    "FROM users u JOIN tenants t ON t.id = u.tenant_id "
    "WHERE t.name = $1 AND u.login IN ($2, $3) "
    "ORDER BY u.login <> $2 LIMIT 1");

/* A token for one use can be used again for 60 s: clients list and connect
 * on two connections. */
STMT(sql_user_by_token, 1,
    "UPDATE tokens k SET used_at = coalesce(k.used_at, now()) "
    "FROM users u JOIN tenants t ON t.id = u.tenant_id "
    "WHERE k.hash = $1::bytea AND u.id = k.user_id "
    "AND k.expires_at > now() AND (k.multi_use OR k.used_at IS NULL "
    "OR k.used_at > now() - interval '60 s') "
    "RETURNING " USER_COLUMNS ", k.vm_id AS token_vm_id");

/* user, kind of OSF, only this VM or NULL; the words that the wire's clients
 * know */
STMT(sql_list_vms, 3,
    "SELECT v.id, v.name, v.blocked, CASE WHEN r.state IN ('suspending', "
    "'suspended') THEN 'stopped' ELSE coalesce(r.state, 'stopped') END "
    "AS state "
    "FROM vms v JOIN osfs o ON o.id = v.osf_id "
    "LEFT JOIN vm_runtimes r ON r.vm_id = v.id "
    "WHERE v.user_id = $1 AND o.kind = $2 "
    "AND ($3::integer IS NULL OR v.id = $3::integer) ORDER BY v.id");

/* A VM, locked, and what belongs to it */

STMT(sql_lock_vm, 1, "SELECT * FROM vms WHERE id = $1 FOR UPDATE");
STMT(sql_runtime, 1, "SELECT * FROM vm_runtimes WHERE vm_id = $1");
STMT(sql_session, 1, "SELECT * FROM sessions WHERE vm_id = $1");
STMT(sql_user, 1, "SELECT * FROM users WHERE id = $1");
STMT(sql_tenant, 1, "SELECT * FROM tenants WHERE id = $1");

STMT(sql_vm_host, 1,
    "SELECT h.name, coalesce(r.state = 'running' AND (r.lease_until IS NULL "
    "OR r.lease_until > clock_timestamp()), false) AS running "
    "FROM vms v JOIN hosts h ON h.id = v.host_id "
    "LEFT JOIN host_runtimes r ON r.host_id = h.id WHERE v.id = $1");

/* Candidates for a VM (vm): what each has and what is placed there. The
 * VM's need comes in each row. */
STMT(sql_hosts, 1,
    "SELECT h.id AS host_id, h.blocked, "
    "coalesce(r.state, 'stopped') AS state, "
    "coalesce(r.lease_until IS NULL OR r.lease_until > clock_timestamp(), "
    "false) AS lease_ok, coalesce(r.memory_bytes, 0) AS memory_bytes, "
    "coalesce(r.cpus, 1) AS cpus, coalesce(sum(o.memory_mb), 0) * 1048576 "
    "AS memory_used_bytes, count(v.id) AS vms, "
    "(SELECT o2.memory_mb::bigint * 1048576 FROM vms v2 JOIN osfs o2 "
    "ON o2.id = v2.osf_id WHERE v2.id = $1) AS need_bytes "
    "FROM hosts h LEFT JOIN host_runtimes r ON r.host_id = h.id "
    "LEFT JOIN vms v ON v.host_id = h.id AND v.desired = 'running' "
    "AND v.id <> $1 LEFT JOIN osfs o ON o.id = v.osf_id "
    "GROUP BY h.id, r.host_id");

/* Later ones win: tenant, OSF, image that it gets, user, VM. */
STMT(sql_properties, 1,
    "SELECT p.key, p.value FROM vms v JOIN users u ON u.id = v.user_id "
    "JOIN LATERAL (VALUES (1, 'tenant', u.tenant_id), "
    "(2, 'osf', v.osf_id), (3, 'image', vm_image(v.id)), "
    "(4, 'user', v.user_id), (5, 'vm', v.id)) AS k (place, kind, id) "
    "ON true JOIN properties p ON p.kind = k.kind AND p.object_id = k.id "
    "WHERE v.id = $1 ORDER BY k.place");

/* vm, epoch, host, by whom */
STMT(sql_vm_start, 4,
    "UPDATE vms SET desired = 'running', desired_at = now(), "
    "desired_by = $4, host_id = $3, epoch = $2 "
    "WHERE id = $1 AND epoch = $2::bigint - 1");
/* A wish to suspend it is taken back: vm, by whom */
STMT(sql_vm_go_on, 2,
    "UPDATE vms SET desired = 'running', desired_at = now(), "
    "desired_by = $2 WHERE id = $1");
STMT(sql_vm_stop, 2,
    "UPDATE vms SET desired = 'stopped', desired_at = now(), "
    "desired_by = $2 WHERE id = $1");

/* Sessions */

/* vm, generation, host, user, address, client, key's hash */
STMT(sql_acquire, 7,
    "INSERT INTO sessions (vm_id, generation, state, host_id, user_id, "
    "client_address, client, key_hash) "
    "VALUES ($1, $2, 'connecting', $3, $4, $5, $6, $7::bytea) "
    "ON CONFLICT (vm_id) DO UPDATE SET generation = excluded.generation, "
    "state = excluded.state, state_at = now(), host_id = excluded.host_id, "
    "user_id = excluded.user_id, client_address = excluded.client_address, "
    "client = excluded.client, key_hash = excluded.key_hash "
    "WHERE sessions.generation < excluded.generation");

/* vm, generation, host */
STMT(sql_connected, 3,
    "UPDATE sessions SET state = 'connected', state_at = now() "
    "WHERE vm_id = $1 AND generation = $2 AND host_id = $3");
STMT(sql_disconnected, 3,
    "UPDATE sessions SET state = 'disconnected', state_at = now() "
    "WHERE vm_id = $1 AND generation = $2 AND host_id = $3 "
    "AND state <> 'disconnected'");
STMT(sql_end_sessions, 1,
    "UPDATE sessions SET state = 'disconnected', state_at = now() "
    "WHERE host_id = $1 AND state <> 'disconnected'");

/* Ours that are not disconnected, and those of the VMs named. */
STMT(sql_sessions, 2,
    "SELECT s.vm_id, s.generation, s.state, s.host_id FROM sessions s "
    "WHERE (s.host_id = $1 AND s.state <> 'disconnected') "
    "OR s.vm_id = ANY ($2::integer[])");

/* Tokens and the timeline */

/* hash, user, many uses, parameters, seconds */
STMT(sql_token_new, 5,
    "INSERT INTO tokens (hash, user_id, multi_use, params, expires_at) "
    "VALUES ($1::bytea, $2, $3, $4::jsonb, now() + $5::integer * "
    "interval '1 s') RETURNING id");
STMT(sql_tokens_expire, 0, "DELETE FROM tokens WHERE expires_at < now()");

/* name, vm, user, host, text, duration, error id, reference, whether it
 * speaks of the image that the VM runs */
STMT(sql_event, 9,
    "INSERT INTO events (name, vm_id, user_id, host_id, text, duration_ms, "
    "error_id, ref, image_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, "
    "CASE WHEN $9 THEN (SELECT image_id FROM vm_runtimes "
    "WHERE vm_id = $2::int) END)");
