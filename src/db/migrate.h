/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Schema migrations: sql/NNNN-name.sql, each applied once in a transaction of
 * its own, recorded in qvd.migrations with the hash of its text. Blocking
 * (libpq synchronous): for `qvd db migrate` and `qvd up`.
 */
#ifndef DB_MIGRATE_H
#define DB_MIGRATE_H

#include "base/err.h"

/* Applies what is missing, under an advisory lock. ret_version: the newest
 * number. on_step (may be NULL) is told each applied file. */
int db_migrate(const char *conninfo, const char *sql_dir,
    void (*on_step)(const char *file, void *arg), void *arg,
    int *ret_version, struct err *err);

/* What a daemon asks at its start: the schema's version must be in
 * [DB_SCHEMA_VERSION - 1, DB_SCHEMA_VERSION]. */
#define DB_SCHEMA_VERSION 1
int db_schema_check(int version, struct err *err);

#endif
