/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The broker's statements, all of them, each prepared at its first use on a
 * connection; the texts are in broker_sql.c. Constant data of the role
 * broker; nobody owns them.
 */
#ifndef L7R_BROKER_SQL_H
#define L7R_BROKER_SQL_H

#include "db/db.h"

extern const struct db_stmt sql_settings, sql_host, sql_user_by_login,
    sql_user_by_token;
extern const struct db_stmt sql_list_vms, sql_lock_vm, sql_runtime, sql_session,
    sql_user, sql_tenant, sql_vm_host, sql_hosts, sql_properties;
extern const struct db_stmt sql_vm_start, sql_vm_go_on, sql_vm_stop;
extern const struct db_stmt sql_acquire, sql_connected, sql_disconnected,
    sql_end_sessions, sql_sessions;
extern const struct db_stmt sql_token_new, sql_tokens_expire, sql_event;

#endif
