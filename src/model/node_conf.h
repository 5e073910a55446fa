/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /etc/qvd/node.conf: what a node must know before it can ask the database.
 * Everything else is rows (`qvd config`). Read by every daemon and the CLI
 * at start; the strings belong to the struct.
 */
#ifndef MODEL_NODE_CONF_H
#define MODEL_NODE_CONF_H

#include "base/conf.h"

struct node_conf {
	char *name;           /* [node] name: of this host's row */
	char *cgroup;         /* [node] cgroup: top cgroup of this farm's VMs */
	char *netns;          /* [node] netns: "" = the host's network
			       * namespace; else a namespace of that name, made
			       * when missing, for bridge and desktops */
	bool limits_optional; /* [node] limits_optional: start desktops also
			       * where the kernel can't limit them */
	char *database;       /* [database] conninfo without user */
	char *cert;           /* [tls] certificate chain, PEM file */
	char *key;            /* [tls] key, PEM file, root only */
	char *run_dir;        /* [paths] run: /run/qvd */
	char *data_dir;       /* [paths] data: /var/lib/qvd */
	char *programs_dir;   /* [paths] programs: where qvd-l7r etc. are */
	char *sql_dir;        /* [paths] sql: the migrations */
	char *hooks_dir;      /* [paths] hooks: host hooks, root's */
	char *farm_listen;    /* [farm] listen: address and port where this
			       * node serves images to the others; "": it is
			       * no node of many */
	char *listen;         /* [l7r] listen: "*:8443" */
	int l7r_workers;      /* [l7r] workers: 0 = one per CPU */
	int l7r_auths;        /* [l7r] auth processes: 2 */
};

extern const struct conf_key node_conf_keys[];

/* Path from the option --conf, else QVD_NODE_CONF, else /etc/qvd/node.conf. */
int node_conf_load(const char *path, struct node_conf *ret, struct err *err);
void node_conf_done(struct node_conf *conf);
/* "<run_dir>/<name>" and so on; heap. */
char *node_conf_run_path(const struct node_conf *conf, const char *name);
char *node_conf_data_path(const struct node_conf *conf, const char *name);
/* libpq conninfo for a role: database + " user=<role>"; heap. */
char *node_conf_conninfo(const struct node_conf *conf, const char *role);

#endif
