/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd rollout, and the commands of qvd image that begin one and take it
 * back. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "json/json.h"
#include "model/states.h"

static const struct column columns[] = {
	{ "ID", "id", COLUMN_NUMBER },
	{ "TAG", "path", COLUMN_TEXT },
	{ "OLD", "old_version", COLUMN_TEXT },
	{ "NEW", "new_version", COLUMN_TEXT },
	{ "STATE", "state", COLUMN_TEXT },
	{ "SINCE", "state_at", COLUMN_AGE },
	{ "WAVE", "wave", COLUMN_NUMBER },
	{ "%", "percent", COLUMN_NUMBER },
	{ "VMS", "members", COLUMN_NUMBER },
	{ "OF", "vms", COLUMN_NUMBER },
	{ "RUNNING", "running", COLUMN_NUMBER },
	{ "WAITS FOR", "step", COLUMN_TEXT },
	{ "REASON", "reason", COLUMN_TEXT },
	COLUMN_END,
};

static const struct arg list_args[] = {
	{ "--osf", ARG_OSF, 0, "osf_id", .doc = "only its roll-outs" },
	{ "--state", ARG_WORD, 0, "state", .words = &rollout_state_words,
	    .doc = "only those in that state" },
	ARG_END,
};

static const struct arg one_args[] = {
	{ "ROLLOUT", ARG_ROLLOUT, ARG_REQUIRED | ARG_MANY,
	    .doc = "the roll-out: an id, or the newest of xfce:TAG or xfce" },
	ARG_END,
};

const struct arg image_rollout_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED, "image_id",
	    .doc = "the new version: an id, xfce/VERSION, or xfce:TAG" },
	{ "--to", ARG_NAME, ARG_REQUIRED, "tag", .meta = "TAG",
	    .doc = "the tag whose VMs are to get it" },
	{ "--canary", ARG_TEXT, 0, .meta = "PERCENT",
	    .doc = "the first wave: so many of the VMs (default: 5%)" },
	{ "--group", ARG_NAME, 0, "vm_group", .meta = "GROUP",
	    .doc = "the first wave: the VMs of that group ('qvd vm set "
		   "--group')" },
	{ "--host", ARG_HOST, 0, "host_id",
	    .doc = "the first wave: the VMs placed there" },
	{ "--watch", ARG_DURATION, 0, "watch_ms",
	    .doc = "how long each wave is watched (default: 30m)" },
	{ "--soft", ARG_DURATION, 0, "soft_ms",
	    .doc = "so long after a wave began, users in desktops with the "
		   "old version are told (default: they are not)" },
	{ "--hard", ARG_DURATION, 0, "hard_ms",
	    .doc = "so long after a wave began, desktops with the old "
		   "version are restarted (default: they are not)" },
	ARG_END,
};

const struct arg image_rollback_args[] = {
	{ "OSF", ARG_OSF, ARG_REQUIRED, .doc = "the OSF" },
	{ "--tag", ARG_NAME, 0, "tag", .doc = "the tag (default: 'default')" },
	ARG_END,
};

/* "5%" or "5". */
static int
canary_member(const struct values *values, json_t *body, struct err *err)
{
	const char *text = value_get(values, "--canary");
	char number[8];
	int64_t n;

	if (text == NULL)
		return 0;
	if (!str_copy(number, sizeof(number), text))
		number[0] = '\0';
	if (str_ends(number, "%"))
		number[strlen(number) - 1] = '\0';
	if (!str_to_i64(number, 1, 100, &n))
		return err_set(err, ERR_USAGE,
		    "--canary: '%s' is not a percentage from 1%% to 100%%",
		    text);
	json_object_set_new(body, "canary_percent", json_integer(n));
	return 0;
}

int
run_image_rollout(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0)
		return r;
	if ((r = canary_member(values, body, err)) < 0) {
		json_decref(body);
		return r;
	}
	r = api_call(cli, "POST", noun_rollout.path, body, &answer, err);
	if (r == 0)
		print_done(cli, &noun_rollout, answer);
	return r;
}

int
run_image_rollback(
    struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int64_t id;
	int r;

	r = api_id(cli, ARG_OSF, value_get(values, "OSF"), &id, err);
	if (r < 0 || (r = values_body(cli, values, &body, err)) < 0)
		return r;
	r = api_call(cli, "POST",
	    arena_printf(cli->arena, "/v1/osfs/%" PRId64 "/rollback", id), body,
	    &answer, err);
	if (r == 0)
		print_done(cli, &noun_image, answer);
	return r;
}

static int
run_halt(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/halt", err);
}

static int
run_resume(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/resume", err);
}

static int
run_widen(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "POST", "/widen", err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists the roll-outs" },
	{ "show", run_show, one_args,
	    .summary = "Shows roll-outs, with the figures of both versions" },
	{ "halt", run_halt, one_args, "Halts roll-outs",
	    "Nobody gets the new version any more; what runs it goes on." },
	{ "resume", run_resume, one_args, "Lets halted roll-outs go on",
	    "Their wave begins anew, and what was bad before is not counted "
	    "again." },
	{ "widen", run_widen, one_args,
	    .summary = "Begins the next wave without waiting for the end of "
		       "this one" },
	{ .verb = NULL },
};

const struct noun noun_rollout = { "rollout", "/v1/rollouts", columns, commands,
	"new versions on their way to the VMs that follow a tag" };
