/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model/node_conf.h"

#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

#define KEY(section_, key_, kind, member, ...)                             \
	{                                                                  \
		.section = (section_), .key = (key_), .type = CONF_##kind, \
		.offset = offsetof(struct node_conf, member), __VA_ARGS__  \
	}

const struct conf_key node_conf_keys[] = {
	KEY("node", "name", STR, name,
	    .doc = "Name of this host's row; the host name without it."),
	KEY("node", "cgroup", STR, cgroup, .def = "qvd",
	    .doc = "Top cgroup of this farm's desktops."),
	KEY("node", "netns", STR, netns, .def = "",
	    .doc = "Network namespace for bridge and desktops; made when "
		   "missing. Empty: the host's own."),
	KEY("node", "limits_optional", BOOL, limits_optional, .def = "no",
	    .doc = "Start desktops also where the kernel has no cgroup "
		   "controllers to limit them (tests)."),
	KEY("database", "conninfo", STR, database,
	    .def = "host=/run/qvd/pg dbname=qvd",
	    .doc = "libpq connection string without user."),
	KEY("tls", "cert", STR, cert, .def = "/etc/qvd/l7r.crt",
	    .doc = "Certificate chain, PEM."),
	KEY("tls", "key", STR, key, .def = "/etc/qvd/l7r.key",
	    .doc = "Key, PEM; only root may read it."),
	KEY("paths", "run", STR, run_dir, .def = "/run/qvd",
	    .doc = "Sockets and channel directories."),
	KEY("paths", "data", STR, data_dir, .def = "/var/lib/qvd",
	    .doc = "Images, the desktops' own files, homes."),
	KEY("paths", "programs", STR, programs_dir, .def = "/usr/libexec/qvd",
	    .doc = "Where qvd-l7r, qvd-hkd and the others are."),
	KEY("paths", "sql", STR, sql_dir, .def = "/usr/share/qvd/sql",
	    .doc = "The migrations."),
	KEY("paths", "hooks", STR, hooks_dir, .def = "/etc/qvd/host-hooks",
	    .doc = "Programs of root's that the settings hkd.hook.* may name."),
	KEY("farm", "listen", STR, farm_listen, .def = "",
	    .doc = "Address and port where the farm's other nodes get images "
		   "from this one, such as 10.0.0.5:8445, with the farm's "
		   "certificates in <data>/farm (see qvd farm). Empty: this "
		   "node gives none and gets none."),
	KEY("l7r", "listen", STR, listen, .def = "*:8443",
	    .doc = "Address of the clients' port."),
	KEY("l7r", "workers", INT, l7r_workers, .def = "0", .max = 256,
	    .doc = "Relay processes; 0: one a CPU."),
	KEY("l7r", "auths", INT, l7r_auths, .def = "2", .min = 1, .max = 64,
	    .doc = "Processes that verify passwords."),
	{ .key = NULL },
};

int
node_conf_load(const char *path, struct node_conf *ret, struct err *err)
{
	struct node_conf conf = { 0 };
	char name[65];
	int r;

	if (path == NULL)
		path = getenv("QVD_NODE_CONF");
	if (path == NULL)
		path = "/etc/qvd/node.conf";
	r = conf_load(path, node_conf_keys, &conf, err);
	if (r < 0) {
		node_conf_done(&conf);
		return r;
	}
	if (conf.name == NULL || conf.name[0] == '\0') {
		free(conf.name);
		if (gethostname(name, sizeof(name)) < 0)
			name[0] = '\0';
		name[sizeof(name) - 1] = '\0';
		conf.name = xstrdup(name);
	}
	if (!str_is_name(conf.name, 64) || !str_is_name(conf.cgroup, 64) ||
	    (conf.netns[0] != '\0' && !str_is_name(conf.netns, 64))) {
		r = err_set(err, ERR_CONFIG,
		    "%s: name, cgroup and netns of [node] are at most 64 "
		    "letters, digits, '_', '.', '-'",
		    path);
		node_conf_done(&conf);
		return r;
	}
	*ret = conf;
	return 0;
}

void
node_conf_done(struct node_conf *conf)
{
	conf_done(node_conf_keys, conf);
}

char *
node_conf_run_path(const struct node_conf *conf, const char *name)
{
	return xasprintf("%s/%s", conf->run_dir, name);
}

char *
node_conf_data_path(const struct node_conf *conf, const char *name)
{
	return xasprintf("%s/%s", conf->data_dir, name);
}

char *
node_conf_conninfo(const struct node_conf *conf, const char *role)
{
	const char *db = conf->database;

	if (str_starts(db, "postgresql://") || str_starts(db, "postgres://"))
		return xasprintf(
		    "%s%cuser=%s&options="
		    "-c%%20search_path%%3Dqvd%%20-c%%20timezone%%3DUTC",
		    db, strchr(db, '?') != NULL ? '&' : '?', role);
	return xasprintf("%s user=%s "
			 "options='-c search_path=qvd -c timezone=UTC'",
	    db, role);
}
