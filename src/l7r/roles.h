/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The roles of qvd-l7r, each a process of its own; the table in roles.c is
 * the whole security story. The parent starts each other role with --role
 * NAME, the empty directory as working directory and a rpc socket on
 * descriptor 3. It tells each what it needs:
 *
 *   worker   setup {} + listening socket   tls {cert, key}   drain {}
 *   broker   setup {host, conninfo, hkd, workers}
 *   all      peer {role, index} + socket: a link to another role
 *
 * Over those links: worker asks broker (l7r/broker.h), broker asks auth
 * (verify). Whoever's link to the parent closes ends itself.
 */
#ifndef L7R_ROLES_H
#define L7R_ROLES_H

#include <stdbool.h>

#include "base/err.h"
#include "l7r/sandbox.h"

#define ROLE_FD 3 /* of the rpc socket to the parent */

struct role {
	const char *name;
	const char *program; /* that has its code, beside the parent's: the
			      * broker's is apart, so that nobody else maps
			      * the database's libraries */
	const char *user;    /* NULL: stays root */
	const char *group;   /* NULL: the user's own */
	bool empty_root;     /* chroot into the working directory */
	enum sandbox_filter filter;
	int files; /* RLIMIT_NOFILE */
};

/* The role with that name, or NULL. */
const struct role *role_find(const char *name);

/* The code of a role, in the program that has it. */
struct role_code {
	const char *name;                /* NULL ends the table */
	int (*prepare)(struct err *err); /* still root; NULL: nothing */
	int (*run)(int index);           /* returns the exit code */
};
/* What main() of both programs does with --role: becomes the role and runs
 * it. Returns the exit code; 2 if the program doesn't have it. */
int role_main(const struct role_code *codes, const char *name, int index);

int worker_run(int index);
int broker_run(int index);
int auth_run(int index);
int worker_prepare(struct err *err);
int auth_prepare(struct err *err);

struct node_conf;
/* Until TERM; returns the exit code. */
int parent_run(const struct node_conf *conf, const char *program);

#endif
