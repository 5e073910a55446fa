/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd vm: the desktops. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "cli/vm.h"
#include "json/json.h"
#include "model/states.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "NAME", "path", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "SINCE", "state_at", COLUMN_AGE },
	{ "SESSION", "session", COLUMN_TEXT },
	{ "HIBERNATED", "hibernated_at", COLUMN_AGE },
	{ "HOST", "host", COLUMN_TEXT },
	{ "IMAGE", "image", COLUMN_TEXT },
	{ "ADDRESS", "address", COLUMN_TEXT },
	{ "BLOCKED", "blocked", COLUMN_YES },
	{ "ERROR", "error", COLUMN_TEXT },
	COLUMN_END,
};

#define VM_DOC "the VM: an id, alice/desk, or alice@tenant/desk"

static const struct arg list_args[] = {
	{ "--user", ARG_USER, 0, "user_id", .doc = "only that user's" },
	{ "--osf", ARG_OSF, 0, "osf_id", .doc = "only those of the OSF" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "only those placed there" },
	{ "--tenant", ARG_TENANT, 0, "tenant_id", .doc = "only its VMs" },
	{ "--state", ARG_WORD, 0, "state", .words = &vm_state_words,
	    .doc = "only those in that state" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED | ARG_MANY, .doc = VM_DOC },
	ARG_END,
};

static const struct arg add_args[] = {
	{ "USER[/NAME]", ARG_USER, ARG_REQUIRED,
	    .doc = "its owner, and its name if it is not to be the OSF's" },
	{ "--osf", ARG_OSF, ARG_REQUIRED, "osf_id",
	    .doc = "the OSF whose images it runs" },
	{ "--tag", ARG_NAME, 0, "tag",
	    .doc = "the tag or version that it follows (default: default)" },
	{ "--address", ARG_TEXT, 0, "address",
	    .doc = "its address; by default the next free one of "
		   "network.range" },
	{ "--group", ARG_TEXT, 0, "vm_group", .meta = "GROUP",
	    .doc = "VMs that a roll-out can begin with" },
	{ "--description", ARG_TEXT, 0, "description",
	    .doc = "what it is for" },
	ARG_END,
};

static const struct arg set_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED, .doc = VM_DOC },
	{ "--name", ARG_NAME, 0, "name", .doc = "its new name" },
	{ "--tag", ARG_NAME, 0, "tag",
	    .doc = "the tag or version that it follows" },
	{ "--group", ARG_TEXT, 0, "vm_group", .meta = "GROUP",
	    .doc = "VMs that a roll-out can begin with; empty: none" },
	{ "--description", ARG_TEXT, 0, "description",
	    .doc = "what it is for" },
	ARG_END,
};

static const struct arg run_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED | ARG_MANY, .doc = VM_DOC },
	{ "--no-wait", ARG_FLAG, 0, .doc = "does not wait until it is so" },
	ARG_END,
};

static const struct arg look_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED, .doc = VM_DOC },
	ARG_END,
};

static const struct arg expire_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED | ARG_MANY, .doc = VM_DOC },
	{ "--soft", ARG_DURATION, 0, "soft_ms",
	    .doc = "from then on its user is told" },
	{ "--hard", ARG_DURATION, 0, "hard_ms", .doc = "then it is restarted" },
	{ "--never", ARG_FLAG, 0, "never", .doc = "takes both back" },
	ARG_END,
};

/* "alice/desk" is to become the VM desk of the user alice. */
static int
run_vm_add(struct cli *cli, const struct values *values, struct err *err)
{
	const char *text = value_get(values, "USER[/NAME]");
	const char *slash = strchr(text, '/');
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int64_t user;
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0)
		return r;
	if (slash != NULL) {
		json_object_set_new(body, "name", json_string(slash + 1));
		text = arena_strndup(cli->arena, text, (size_t)(slash - text));
	}
	if ((r = api_id(cli, ARG_USER, text, &user, err)) < 0) {
		json_decref(body);
		return r;
	}
	json_object_set_new(body, "user_id", json_integer(user));
	r = api_call(cli, "POST", values->noun->path, body, &answer, err);
	if (r < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

static int
run_start(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST",
	    value_flag(values, "--no-wait") ? "/start" : "/start?wait=1", err);
}

static int
run_stop(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST",
	    value_flag(values, "--no-wait") ? "/stop" : "/stop?wait=1", err);
}

static int
run_suspend(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST",
	    value_flag(values, "--no-wait") ? "/suspend" : "/suspend?wait=1",
	    err);
}

static int
run_expire(struct cli *cli, const struct values *values, struct err *err)
{
	int i, n = value_count(values, "VM"), r;
	int64_t id;

	for (i = 0; i < n; i++) {
		_cleanup_(json_decrefp)
		json_t *answer = NULL;
		json_t *body;

		r = api_id(cli, ARG_VM, value_nth(values, "VM", i), &id, err);
		if (r < 0 || (r = values_body(cli, values, &body, err)) < 0 ||
		    (r = api_call(cli, "POST",
			 api_path(cli, values->noun, id, "/expire"), body,
			 &answer, err)) < 0)
			return r;
		if (cli->json)
			print_json(answer);
	}
	return 0;
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the VMs" },
	{ "show", run_show, one_args, .summary = "Shows VMs" },
	{ "add", run_vm_add, add_args, .summary = "Adds a VM" },
	{ "set", run_set, set_args, "Changes a VM",
	    "A new image takes effect when it starts the next time." },
	{ "start", run_start, run_args, .summary = "Starts VMs" },
	{ "stop", run_stop, run_args,
	    .summary = "Stops VMs, ending what runs in them" },
	{ "suspend", run_suspend, run_args, "Suspends machines to disk",
	    "The memory of a virtual machine is saved on its node, and nothing "
	    "of it runs any more; its next start, by whom it may be, goes on "
	    "from there, once, with the image that it ran. A stop forgets what "
	    "was saved. Containers can't be suspended to disk." },
	{ "expire", run_expire, expire_args,
	    "Tells users that their VMs are to be restarted, and restarts them",
	    "What runs is told or restarted after the times given; a VM that "
	    "starts anew before that has nothing to expire." },
	{ "console", vm_console, look_args, "Shows the console of a machine",
	    "Its serial console, as root in it; Ctrl-] leaves it. One looks at "
	    "a time. Containers have none." },
	{ "screen", vm_screen, look_args, "Shows the screen of a machine",
	    "Offers it to VNC viewers of yours on a unix socket until it is "
	    "interrupted, and starts vncviewer where there is a display. "
	    "Nothing listens on the network. Containers have none." },
	{ "block", run_block, one_args, .summary = "Keeps users out of VMs" },
	{ "unblock", run_unblock, one_args,
	    .summary = "Lets users into VMs again" },
	{ "del", run_del, one_args, "Deletes VMs",
	    "A VM that runs is not deleted; stop it first." },
	{ .verb = NULL },
};

const struct noun noun_vm = { "vm", "/v1/vms", columns, commands,
	"the virtual machines: each is a user's desktop" };
