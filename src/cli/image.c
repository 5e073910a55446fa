/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd image: the immutable versions of an OSF, and the tags that move over
 * them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/image.h"
#include "cli/nouns.h"
#include "json/json.h"
#include "net/http.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "OSF", "osf", COLUMN_TEXT },
	{ "VERSION", "version", COLUMN_TEXT },
	{ "TAGS", "tags", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "%", "progress", COLUMN_NUMBER },
	{ "SIZE", "size_bytes", COLUMN_BYTES },
	{ "VMS", "vms", COLUMN_NUMBER },
	{ "CREATED", "created_at", COLUMN_TIME },
	{ "MESSAGE", "message", COLUMN_TEXT },
	{ "ERROR", "error", COLUMN_TEXT },
	COLUMN_END,
};

#define IMAGE_DOC "the image: an id, xfce/VERSION, or xfce:TAG"

#define OSF_ARG                                              \
	{                                                    \
		"--osf", ARG_OSF, ARG_REQUIRED, "osf_id",    \
		    .doc = "the OSF that it is a version of" \
	}

#define UPLOAD_ARG(what)                                                       \
	{                                                                      \
		"--upload", ARG_FLAG, 0,                                       \
		    .doc =                                                     \
			what " where this command runs: it is sent to "        \
			     "the API's node first, see 'qvd help upload add'" \
	}

/* Of all that make a version. */
#define VERSION_ARGS                                                          \
	{ "--version", ARG_NAME, 0, "version",                                \
		.doc = "the version's name (default: the date and a number, " \
		       "YYYY-MM-DD-NNN)" },                                   \
	    { "--message", ARG_TEXT, 0, "message", .doc = "what is new" },    \
	    { "--tag", ARG_NAME, ARG_MANY, "tags",                            \
		    .doc =                                                    \
			"a tag to move there when it is published; VMs that " \
			"are not told otherwise follow 'default'" },          \
	    { "--no-publish", ARG_FLAG, 0,                                    \
		    .doc = "doesn't offer it until 'qvd image publish'" },    \
	{                                                                     \
		"--no-wait", ARG_FLAG, 0,                                     \
		    .doc = "does not wait until it is there"                  \
	}

static const struct arg list_args[] = {
	{ "--osf", ARG_OSF, 0, "osf_id", .doc = "only its images" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED | ARG_MANY, .doc = IMAGE_DOC },
	ARG_END,
};

static const struct arg import_args[] = {
	{ "SOURCE", ARG_FILE, ARG_REQUIRED, "source",
	    .doc = "the system, on the API's node: a folder, a tar archive "
		   "(.tar .tar.gz .tar.xz .tar.zst), an OCI image (a "
		   "layout's folder, or an archive of one), or a disk of a "
		   "virtual machine (qcow2, or .raw .img .iso)" },
	OSF_ARG,
	UPLOAD_ARG("SOURCE is a file"),
	VERSION_ARGS,
	ARG_END,
};

static const struct arg commit_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED, "vm_id",
	    .doc = "the stopped VM: an id, or alice/desk" },
	{ "--osf", ARG_OSF, 0, "osf_id", .doc = "another OSF than the VM's" },
	VERSION_ARGS,
	ARG_END,
};

static const struct arg build_args[] = {
	{ "RECIPE", ARG_TEXT, ARG_REQUIRED,
	    .doc = "the recipe's name, or its folder" },
	OSF_ARG,
	UPLOAD_ARG("what is built is"),
	{ "--fresh", ARG_FLAG, 0,
	    .doc = "builds again what was built before, with today's "
		   "packages" },
	{ "--output", ARG_FILE, 0, .meta = "FOLDER",
	    .doc = "where archives are kept (default: " QVD_BUILDSDIR ")" },
	VERSION_ARGS,
	ARG_END,
};

static const struct arg log_args[] = {
	{ "OSF", ARG_OSF, ARG_REQUIRED, .doc = "the OSF" },
	ARG_END,
};

static const struct arg distribution_args[] = {
	{ "IMAGE", ARG_IMAGE, 0, .doc = IMAGE_DOC "; all without it" },
	ARG_END,
};

static const struct arg diff_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED, .doc = IMAGE_DOC },
	{ "OTHER", ARG_IMAGE, 0,
	    .doc = "the image that came of it; without: IMAGE is compared "
		   "with its parent" },
	{ "--packages", ARG_FLAG, 0, .doc = "only the Debian packages" },
	ARG_END,
};

static const struct arg export_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED, .doc = IMAGE_DOC },
	{ "FILE", ARG_FILE, ARG_REQUIRED,
	    .doc = "the archive to write, on this node; its end says how it "
		   "is packed: .tar .tar.gz .tar.xz .tar.zst" },
	ARG_END,
};

static const struct arg gc_args[] = {
	{ "--dry-run", ARG_FLAG, 0,
	    .doc = "removes nothing, and tells what would go" },
	ARG_END,
};

static const struct arg tag_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED, .doc = IMAGE_DOC },
	{ "TAG", ARG_NAME, ARG_REQUIRED, .doc = "the tag" },
	ARG_END,
};

static int
change_tag(struct cli *cli, const struct values *values, const char *method,
    struct err *err)
{
	const char *tag = value_get(values, "TAG");
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	_cleanup_(freep)
	char *encoded = http_encode(tag);
	int64_t id;
	int r;

	r = api_id(cli, ARG_IMAGE, value_get(values, "IMAGE"), &id, err);
	if (r < 0)
		return r;
	r = api_call(cli, method,
	    arena_printf(
		cli->arena, "/v1/images/%" PRId64 "/tags/%s", id, encoded),
	    NULL, &answer, err);
	if (r == 0 && cli->json)
		print_json(answer);
	return r;
}

static int
run_tag(struct cli *cli, const struct values *values, struct err *err)
{
	return change_tag(cli, values, "PUT", err);
}

static int
run_untag(struct cli *cli, const struct values *values, struct err *err)
{
	return change_tag(cli, values, "DELETE", err);
}

static int
run_publish(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/publish", err);
}

static int
run_retire(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/retire", err);
}

static int
run_cancel(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/cancel", err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the images" },
	{ "show", run_show, one_args, .summary = "Shows images" },
	{ "log", run_image_log, log_args, "Shows the versions of an OSF",
	    "The newest first, each with its parent, author and message." },
	{ "import", run_image_import, import_args,
	    "Makes a new version of an OSF from a tree or an archive",
	    "It waits, and shows how far it is; Ctrl-C ends only the "
	    "waiting. 'qvd image show' tells it elsewhere, 'qvd image "
	    "cancel' ends the import, and a node that is restarted begins "
	    "it again." },
	{ "commit", run_image_commit, commit_args,
	    "Makes a new version of what was changed in a desktop",
	    "The VM must be stopped, and its OSF's root persistent. The user's "
	    "account, home and temporary files are left out, and what each "
	    "desktop has of its own (its machine id)." },
	{ "build", run_image_build, build_args,
	    "Makes a new version from a recipe",
	    "Builds the recipe, unless that was done before, and imports "
	    "the result. Times are no part of an image: a build that comes "
	    "out the same gives the same content." },
	{ "diff", run_image_diff, diff_args,
	    .summary = "Shows which files and packages differ" },
	{ "distribution", run_image_distribution, distribution_args,
	    "Shows which node has which image, or how far it is",
	    "Nodes get images from each other as soon as they are imported "
	    "(see [farm] in qvd-node.conf(5)); a tag moves to an image when "
	    "all that run have it." },
	{ "publish", run_publish, one_args,
	    "Offers images that wait, or that were retired",
	    "The tags that the import was given are moved with it." },
	{ "retire", run_retire, one_args, "Offers images no more",
	    "What runs from them goes on, and transfers to other nodes end. "
	    "An image that a tag names or a VM follows is not retired." },
	{ "cancel", run_cancel, one_args, "Ends imports and commits",
	    "Those that wait, too; nothing of them is left. What is on its "
	    "way to other nodes ends with 'qvd image retire'." },
	{ "verify", run_image_verify, one_args,
	    .summary = "Compares images with their checksums, byte by byte" },
	{ "export", run_image_export, export_args,
	    .summary = "Writes an image into an archive" },
	{ "gc", run_image_gc, gc_args, "Removes what no image needs any more",
	    "First the images that their OSF doesn't keep (see 'qvd osf set "
	    "--keep'), then all files of this node's store that none needs. "
	    "It happens by itself, too." },
	{ "tag", run_tag, tag_args, "Moves a tag of its OSF to an image",
	    "VMs that follow the tag get the image when they start the "
	    "next time. The tag 'head' moves by itself to the newest." },
	{ "untag", run_untag, tag_args,
	    .summary = "Removes a tag from an image" },
	{ "rollout", run_image_rollout, image_rollout_args,
	    "Moves a tag to an image in waves, watching each",
	    "The VMs of a wave get the new version when they start the next "
	    "time. When it fails more often than the old one, or is slower, "
	    "the roll-out halts by itself, says why, and nobody gets it any "
	    "more. 'qvd rollout' shows how far it is." },
	{ "rollback", run_image_rollback, image_rollback_args,
	    "Puts the old version of an OSF's tag back, at once",
	    "A roll-out under way is taken back; else the tag goes where it "
	    "was before it moved the last time. Every start from then on "
	    "uses the old version; what runs goes on." },
	{ "block", run_block, one_args,
	    .summary = "Keeps VMs from starting images" },
	{ "unblock", run_unblock, one_args,
	    .summary = "Lets VMs start images again" },
	{ "del", run_del, one_args, "Deletes images",
	    "An image that a VM runs or follows is not deleted." },
	{ .verb = NULL },
};

const struct noun noun_image = { "image", "/v1/images", columns, commands,
	"the versions of OSFs, and their tags" };
