/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `qvd up`: a farm of one node in the foreground. One struct up is the whole
 * of it: the node's configuration, the children that it supervises, the
 * database connection with which it makes ready and stops. The order of
 * starting and stopping is in up.c; each other file is one concern. Runs as
 * root.
 */
#ifndef CLI_UP_H
#define CLI_UP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/proc.h"
#include "db/db.h"
#include "loop/child.h"
#include "loop/loop.h"
#include "model/node_conf.h"

struct up;

/* One supervised program: started again with a growing pause when it ends,
 * unless it is to be stopped. */
enum service_id {
	SERVICE_PG,
	SERVICE_HKD,
	SERVICE_L7R,
	SERVICE_API,
	SERVICE_COUNT_
};
struct service {
	struct up *up;
	const char *name;
	bool wanted;  /* this `qvd up` runs it at all */
	bool enabled; /* it is to run now */
	struct child *child;
	struct timer timer; /* the pause; while stopping, the patience */
	int64_t started_ms;
	int64_t pause_ms;
	int failures; /* in a row */
};

enum up_phase {
	UP_STARTING,
	UP_READY,
	UP_STOP_L7R,
	UP_STOP_VMS,
	UP_STOP_DAEMONS,
	UP_STOP_PG,
};

struct up_options {
	const char *conf, *data, *run, *listen, *name, *netns, *cgroup;
	const char *daemons; /* "hkd,l7r,api" */
	int ready_fd;
	bool keep_desktops;
};

struct up {
	struct up_options options;
	char *conf_path;
	struct node_conf conf;
	struct loop *loop;
	struct service services[SERVICE_COUNT_];
	struct sigwatch term, interrupt;
	struct timer timer; /* probing; the patience of a stopping phase */
	struct db *db;      /* as qvd_owner */
	struct proc_user postgres;
	char *pg_bin; /* folder of PostgreSQL's programs */
	bool private_pg;
	bool prepared; /* migrated, host row there, daemons started */
	bool hkd_running;
	bool asking;           /* a probe of the database is under way */
	int64_t desktops_left; /* while they are stopped; -1: not known */
	int64_t host_id;
	int64_t probe_ms;
	int lock_fd;
	enum up_phase phase;
	int result; /* 0, or a failure with err */
	struct err err;
};

/* up_node.c: node.conf, folders, lock and certificate. Each leaves alone
 * what is there. */
int up_configure(struct up *up, struct err *err);
int up_lock(struct up *up, struct err *err);
int up_folders(struct up *up, struct err *err);
int up_certificate(struct up *up, struct err *err);

/* up_pg.c: the private cluster. */
int pg_prepare(struct up *up, struct err *err);
struct child *pg_spawn(struct up *up, child_cb cb, void *arg, struct err *err);

/* up_service.c */
void service_enable(struct service *s);
/* Sends signum and doesn't start it again; up_stop_next() when it is gone. */
void service_stop(struct service *s, int signum, int64_t patience_ms);
bool service_gone(const struct service *s);

/* up_db.c: what is done with the farm's database: migrations and this host's
 * row, the probe of hkd, the stop of the desktops. */
int up_db_open(struct up *up, struct err *err);
void up_db_probe(struct up *up);
void up_db_stop_vms(struct up *up);

/* up_clean.c: when no desktop is left */
void up_clean(struct up *up);

/* up.c: called by the others when something has happened. */
void up_fail(struct up *up, const struct err *err);
void up_prepared(struct up *up); /* the database is ready for daemons */
void up_stop_next(struct up *up);
/* So many desktops have not stopped yet. */
void up_desktops_left(struct up *up, int64_t n);

#endif
