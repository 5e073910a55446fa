/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd osf: lines of images for one purpose, with their VMs' limits. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "model/states.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "name", COLUMN_TEXT },
	{ "TENANT", "tenant", COLUMN_TEXT },
	{ "KIND", "kind", COLUMN_TEXT },
	{ "ROOT", "root", COLUMN_TEXT },
	{ "MEMORY", "memory_mb", COLUMN_MB },
	{ "HOME", "home_mb", COLUMN_MB },
	{ "IDLE AFTER", "idle_after_s", COLUMN_SECONDS },
	{ "IMAGES", "images", COLUMN_NUMBER },
	{ "VMS", "vms", COLUMN_NUMBER },
	{ "DESCRIPTION", "description", COLUMN_TEXT },
	COLUMN_END,
};

/* What `add` and `set` have in common; defaults are the database's. */
#define OSF_ARGS                                                               \
	{ "--description", ARG_TEXT, 0, "description",                         \
		.doc = "what it is for" },                                     \
	    { "--kind", ARG_WORD, 0, "kind", .words = &osf_kind_words,         \
		    .doc = "a whole desktop or single applications" },         \
	    { "--hypervisor", ARG_WORD, 0, "hypervisor",                       \
		    .words = &hypervisor_words, .doc = "what runs its VMs" },  \
	    { "--root", ARG_WORD, 0, "root", .words = &root_kind_words,        \
		    .doc = "whether a VM's changes to its image survive a "    \
			   "stop" },                                           \
	    { "--memory", ARG_MB, 0, "memory_mb",                              \
		    .doc =                                                     \
			"the most memory of a VM, 16M or more (default 1G)" }, \
	    { "--swap", ARG_MB, 0, "swap_mb",                                  \
		    .doc = "swap of a VM beside its memory (default none)" },  \
	    { "--cpu", ARG_NUMBER, 0, "cpu_percent", .meta = "PERCENT",        \
		    .max = 102400,                                             \
		    .doc = "the most CPU of a VM, 100 is one; 0, the "         \
			   "default: all" },                                   \
	    { "--cpu-weight", ARG_NUMBER, 0, "cpu_weight", .min = 1,           \
		    .max = 10000,                                              \
		    .doc = "its share when CPU is short (default 100)" },      \
	    { "--io-weight", ARG_NUMBER, 0, "io_weight", .min = 1,             \
		    .max = 10000,                                              \
		    .doc = "its share of a disk that is short (default "       \
			   "100)" },                                           \
	    { "--pids", ARG_NUMBER, 0, "pids_max", .min = 16, .max = 1000000,  \
		    .doc = "the most processes of a VM (default 2048)" },      \
	    { "--devices", ARG_TEXT, 0, "devices", .meta = "WORDS",            \
		    .doc = "devices of the node that a VM gets: kvm, tun, "    \
			   "render; empty, the default: none" },               \
	    { "--machine", ARG_WORD, 0, "machine",                             \
		    .words = &osf_machine_words,                               \
		    .doc = "which machine a virtual machine is; node, the "    \
			   "default: as its node says (vm.kvm.machine)" },     \
	    { "--accel", ARG_WORD, 0, "accel", .words = &osf_accel_words,      \
		    .doc = "what runs its CPUs; node, the default: as its "    \
			   "node says (vm.kvm.accel)" },                       \
	    { "--idle-after", ARG_SECONDS, 0, "idle_after_s",                  \
		    .doc = "hibernate a VM whose session is suspended for "    \
			   "so long, 30m or 2h; 0, the default: never" },      \
	    { "--home", ARG_MB, 0, "home_mb",                                  \
		    .doc =                                                     \
			"the most in a VM's home; 0, the default: no limit" }, \
	    { "--keep", ARG_NUMBER, 0, "keep_images", .min = -1,               \
		    .max = 100000,                                             \
		    .doc = "how many images it keeps that have no tag and no " \
			   "user; -1, the default: all" },                     \
	    EGRESS_ARGS

static const struct arg list_args[] = {
	{ "--tenant", ARG_TENANT, 0, "tenant_id", .doc = "only its OSFs" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "OSF", ARG_OSF, ARG_REQUIRED | ARG_MANY,
	    .doc = "the OSF: an id, xfce, or xfce@tenant" },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "NAME", ARG_NAME, ARG_REQUIRED,
	    .doc = "its name: xfce, or xfce@tenant" },
	{ "--tenant", ARG_TENANT, 0, "tenant_id",
	    .doc = "the OSF's tenant; needed if there are several" },
	OSF_ARGS,
	ARG_END,
};

static const struct arg set_args[] = {
	{ "OSF", ARG_OSF, ARG_REQUIRED,
	    .doc = "the OSF: an id, xfce, or xfce@tenant" },
	{ "--name", ARG_NAME, 0, "name", .doc = "its new name" },
	OSF_ARGS,
	ARG_END,
};

/* "xfce@tenant" as two members. */
static int
run_osf_add(struct cli *cli, const struct values *values, struct err *err)
{
	const char *name = value_get(values, "NAME");
	const char *at = strchr(name, '@');
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int64_t tenant;
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0)
		return r;
	json_object_set_new(body, "name",
	    json_stringn(
		name, at != NULL ? (size_t)(at - name) : strlen(name)));
	if (at != NULL) {
		r = api_id(cli, ARG_TENANT, at + 1, &tenant, err);
		if (r < 0) {
			json_decref(body);
			return r;
		}
		json_object_set_new(body, "tenant_id", json_integer(tenant));
	}
	r = api_call(cli, "POST", values->noun->path, body, &answer, err);
	if (r < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the OSFs" },
	{ "show", run_show, one_args, .summary = "Shows OSFs" },
	{ "add", run_osf_add, add_args, .summary = "Adds an OSF" },
	{ "set", run_set, set_args, "Changes an OSF",
	    "VMs get new limits when they start the next time; a new egress "
	    "policy and --idle-after hold for those that run, too." },
	{ "del", run_del, one_args, "Deletes OSFs",
	    "An OSF that still has images or VMs is not deleted." },
	{ .verb = NULL },
};

const struct noun noun_osf = { "osf", "/v1/osfs", columns, commands,
	"operating system flavours: lines of images and their limits" };
