/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Schema migrations: sql/NNNN-name.sql, each applied once in a transaction of
 * its own, recorded in qvd.migrations with the hash of its text. Blocking
 * (libpq synchronous): for `qvd db migrate` and `qvd up`.
 *
 * conninfo names a user who may make roles and schemas, or qvd_owner when the
 * roles and the schema exist already; what is made belongs to qvd_owner. The
 * roles are made with LOGIN and without a password: who may use them is the
 * server's pg_hba.conf and pg_ident.conf (the private cluster: by OS user).
 */
#ifndef DB_MIGRATE_H
#define DB_MIGRATE_H

#include "base/err.h"
#include "db/db.h"

/* Applies what is missing, under an advisory lock. ret_version: the newest
 * number. on_step (may be NULL) is told each applied file. */
int db_migrate(const char *conninfo, const char *sql_dir,
    void (*on_step)(const char *file, void *arg), void *arg, int *ret_version,
    struct err *err);

/* What a daemon asks at its start: the schema's version must be in
 * [DB_SCHEMA_VERSION - 1, DB_SCHEMA_VERSION]. */
#define DB_SCHEMA_VERSION 20
/* One row: version (0 when there is none). */
extern const struct db_stmt db_schema_stmt;
int db_schema_check(int version, struct err *err);

#endif
