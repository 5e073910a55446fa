/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qvd farm: by what the nodes of a farm know each other, and its images.
 * Files in <data>/farm, root's only: ca.crt and ca.key (the authority; on one
 * node), node.crt and node.key (each node's), signing.key (on nodes where
 * images are made) and signing.pub (on all).
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "image/pull.h"
#include "model/node_conf.h"
#include "net/tls_ca.h"

#define CA_DAYS   3650
#define NODE_DAYS 397 /* renewed once a year */
#define PEM_MAX   (64 * 1024)

static char *
file(const char *dir, const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static int
write_file(const char *dir, const char *name, const char *text, mode_t mode,
    struct err *err)
{
	_cleanup_(freep)
	char *path = file(dir, name);

	return fs_write_file(path, text, strlen(text), mode, err);
}

static int
read_file(const char *dir, const char *name, char **ret, struct err *err)
{
	_cleanup_(freep)
	char *path = file(dir, name);

	return fs_read_file(path, PEM_MAX, ret, NULL, err);
}

static bool
has_file(const char *dir, const char *name)
{
	_cleanup_(freep)
	char *path = file(dir, name);

	return fs_exists(path);
}

/* Key first: a certificate without one would be taken for whole. */
static int
issue(const char *farm, const char *name, const char *dir, struct err *err)
{
	_cleanup_(freep)
	char *ca = NULL;
	_cleanup_(wipe_strp)
	char *ca_key = NULL;
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	int r;

	if (!has_file(farm, "ca.key"))
		return err_set(err, ERR_NOT_FOUND,
		    "%s/ca.key isn't there: this node doesn't have the farm's "
		    "authority (qvd farm init makes one)",
		    farm);
	if ((r = read_file(farm, "ca.crt", &ca, err)) < 0 ||
	    (r = read_file(farm, "ca.key", &ca_key, err)) < 0 ||
	    (r = tls_ca_issue(ca, ca_key, name, NODE_DAYS, &cert, &key, err)) <
		0 ||
	    (r = fs_mkdirs(dir, 0700, err)) < 0 ||
	    (r = write_file(dir, "node.key", key, 0600, err)) < 0)
		return r;
	return write_file(dir, "node.crt", cert, 0644, err);
}

static int
make_authority(const char *farm, struct err *err)
{
	_cleanup_(freep)
	char *cert = NULL;
	_cleanup_(wipe_strp)
	char *key = NULL;
	_cleanup_(freep)
	char *public = NULL;
	_cleanup_(wipe_strp)
	char *private = NULL;
	/* No two authorities of one name: whose certificate it is must be
	 * plain to see. */
	char name[] = "QVD farm XXXXXXXX";
	int r;

	str_random(strchr(name, 'X'), 8);
	if ((r = tls_ca_new(name, CA_DAYS, &cert, &key, err)) < 0 ||
	    (r = image_sign_keys(&private, &public, err)) < 0 ||
	    (r = fs_mkdirs(farm, 0700, err)) < 0 ||
	    (r = write_file(farm, "signing.key", private, 0600, err)) < 0 ||
	    (r = write_file(farm, "signing.pub", public, 0644, err)) < 0 ||
	    (r = write_file(farm, "ca.key", key, 0600, err)) < 0)
		return r;
	/* Last: what says that there is a farm. */
	return write_file(farm, "ca.crt", cert, 0644, err);
}

/* A new authority under the feet of an old one's certificates and signatures
 * would part this node from all others, and say nothing. */
static int
check_no_farm(const char *farm, struct err *err)
{
	static const char *const names[] = { "ca.key", "node.key", "node.crt",
		"signing.key", "signing.pub" };
	size_t i;

	if (has_file(farm, "ca.crt"))
		return err_set(err, ERR_CONFLICT,
		    "%s has the certificate of a farm already", farm);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (has_file(farm, names[i]))
			return err_set(err, ERR_CONFLICT,
			    "%s has %s but no ca.crt, and new keys would shut "
			    "out all nodes and images of the old ones; copy "
			    "ca.crt back from another node's folder or from "
			    "your copy, or move that folder away if it is of "
			    "no farm",
			    farm, names[i]);
	return 0;
}

static int
run_farm_init(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(node_conf_done)
	struct node_conf conf = { 0 };
	_cleanup_(freep)
	char *farm = NULL;
	int r;

	if ((r = node_conf_load(cli->conf, &conf, err)) < 0)
		return r;
	farm = node_conf_data_path(&conf, "farm");
	if ((r = check_no_farm(farm, err)) < 0 ||
	    (r = make_authority(farm, err)) < 0 ||
	    (r = issue(farm, conf.name, farm, err)) < 0)
		return r;
	if (!cli->json)
		printf("The farm's authority and signing key are in %s.\n"
		       "Keep a copy of ca.key and signing.key at a safe "
		       "place.\n",
		    farm);
	return 0;
}

static int
copy(const char *farm, const char *dir, const char *name, struct err *err)
{
	_cleanup_(freep)
	char *text = NULL;
	int r;

	if ((r = read_file(farm, name, &text, err)) < 0)
		return r;
	return write_file(dir, name, text, 0644, err);
}

static int
run_farm_certificate(
    struct cli *cli, const struct values *values, struct err *err)
{
	const char *name = value_get(values, "NAME");
	const char *to = value_get(values, "--dir");
	_cleanup_(node_conf_done)
	struct node_conf conf = { 0 };
	_cleanup_(freep)
	char *farm = NULL;
	int r;

	if ((r = node_conf_load(cli->conf, &conf, err)) < 0)
		return r;
	farm = node_conf_data_path(&conf, "farm");
	if (to == NULL && name != NULL && !str_eq(name, conf.name))
		return err_set(err, ERR_USAGE,
		    "say with --dir where the files of node '%s' are to be "
		    "put, for %s on that node",
		    name, farm);
	if ((r = issue(farm, name == NULL ? conf.name : name,
		 to == NULL ? farm : to, err)) < 0)
		return r;
	if (to == NULL)
		return 0;
	if ((r = copy(farm, to, "ca.crt", err)) < 0)
		return r;
	return copy(farm, to, "signing.pub", err);
}

static int
run_farm_show(struct cli *cli, const struct values *values, struct err *err)
{
	static const char *const names[] = { "ca.crt", "node.crt" };
	_cleanup_(node_conf_done)
	struct node_conf conf = { 0 };
	_cleanup_(freep)
	char *farm = NULL;
	int days[2], r;
	size_t i;

	if ((r = node_conf_load(cli->conf, &conf, err)) < 0)
		return r;
	farm = node_conf_data_path(&conf, "farm");
	for (i = 0; i < 2; i++) {
		_cleanup_(freep)
		char *pem = NULL;

		if ((r = read_file(farm, names[i], &pem, err)) < 0 ||
		    (r = tls_days_left(pem, &days[i], err)) < 0)
			return r;
	}
	printf(cli->json
		   ? "{\"authority_days\": %d, \"certificate_days\": %d, "
		     "\"has_authority\": %s, \"signs\": %s}\n"
		   : "authority: good for %d days; this node's certificate: %d "
		     "days\nhas the authority's key: %s; signs images: %s\n",
	    days[0], days[1], has_file(farm, "ca.key") ? "true" : "false",
	    has_file(farm, "signing.key") ? "true" : "false");
	return 0;
}

static const struct arg certificate_args[] = {
	{ "NAME", ARG_TEXT, 0,
	    .doc = "the node's name; this one's without it" },
	{ "--dir", ARG_FILE, 0, .meta = "FOLDER",
	    .doc = "where its files are put, to be copied to <data>/farm on "
		   "that node" },
	ARG_END,
};

static const struct command commands[] = {
	{ "init", run_farm_init, NULL,
	    "Makes the farm's authority, signing key, and this node's "
	    "certificate",
	    "On one node of a farm, once." },
	{ "certificate", run_farm_certificate, certificate_args,
	    "Makes a node's certificate, new or again",
	    "On the node that has the authority. A certificate is good for 13 "
	    "months; a running node takes a new one within an hour." },
	{ "show", run_farm_show, NULL,
	    .summary = "Tells how long the certificates are good for" },
	{ .verb = NULL },
};

const struct noun noun_farm = { "farm", NULL, NULL, commands,
	"by what the farm's nodes know each other" };
