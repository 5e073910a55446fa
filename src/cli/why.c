/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd why: the timeline of a VM, a user or an incident in sentences, for
 * whoever is called at three in the morning. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "json/json.h"

#define AROUND 12 /* events of the VM shown before an incident */

#define LIMIT_ARG                                                   \
	{                                                           \
		"--limit", ARG_NUMBER, 0,                           \
		    .min = 1, .max = 10000,                         \
		    .doc = "the newest so many events (default 50)" \
	}

/* Date of an event in local time, "2026-01-02"; and its time of day. */
static void
split_time(struct cli *cli, const json_t *event, const char **ret_date,
    const char **ret_clock)
{
	const char *at = json_get_str(event, "at", "");
	const char *text = text_time(cli, at);
	int64_t us = 0;

	time_parse(at, &us);
	*ret_date = arena_strndup(cli->arena, text, 10);
	*ret_clock = arena_printf(cli->arena, "%s.%03d",
	    strlen(text) > 11 ? text + 11 : text, (int)(us / 1000 % 1000));
}

/* The texts of some events say who or where, but not what. */
static const struct {
	const char *name;
	const char *before;
} leads[] = {
	{ "vm.start-requested", "start asked for by " },
	{ "vm.stop-requested", "stop asked for by " },
	{ "vm.start-failed", "the start failed: " },
	{ "vm.died", "ended by itself: " },
	{ "session.connecting", "a client connects " },
	{ "session.disconnected", "disconnected: " },
	{ "session.failed", "a connection failed: " },
	{ "session.taken-over", "taken over: " },
	{ "user.login-failed", "a login failed: " },
	{ "user.token-created", "a token was made: " },
	{ "image.import-failed", "the import failed: " },
};

static void
print_sentence(struct cli *cli, const json_t *event, bool with_vm)
{
	const char *name = json_get_str(event, "name", "");
	const char *text = json_get_str(event, "text", "");
	const char *vm = json_get_str(event, "vm", NULL);
	const char *host = json_get_str(event, "host", NULL);
	size_t i;

	if (with_vm && vm != NULL)
		printf("%s: ", text_clean(cli, vm));
	if (str_eq(name, "vm.placed") && host != NULL) {
		printf("placed on %s", text_clean(cli, host));
		return;
	}
	for (i = 0; i < ARRAY_SIZE(leads); i++)
		if (str_eq(leads[i].name, name))
			printf("%s", leads[i].before);
	printf("%s", text_clean(cli, text));
}

static void
print_event(
    struct cli *cli, const json_t *event, const char *clock, bool with_vm)
{
	const char *error = json_get_str(event, "error_id", NULL);
	const char *ref = json_get_str(event, "ref", NULL);
	int64_t ms = json_get_int(event, "duration_ms", -1);

	printf("  %s  %c ", clock, error != NULL ? '!' : ' ');
	print_sentence(cli, event, with_vm);
	if (ms >= 0)
		printf(" (took %s)", text_duration(cli, ms));
	if (error != NULL || ref != NULL) {
		printf("\n%16s[", "");
		if (error != NULL)
			printf("error %s", text_clean(cli, error));
		if (ref != NULL)
			printf("%sreference %s", error != NULL ? ", " : "",
			    text_clean(cli, ref));
		printf("]");
	}
	printf("\n");
}

/* Oldest first, a heading each day, a line for each long silence. */
static void
print_timeline(struct cli *cli, const json_t *events, bool with_vm)
{
	const char *date, *clock, *last_date = "";
	int64_t at, last = 0;
	json_t *event;
	size_t i;

	json_array_foreach (events, i, event) {
		split_time(cli, event, &date, &clock);
		if (!time_parse(json_get_str(event, "at", ""), &at))
			at = last;
		if (!str_eq(date, last_date))
			printf("%s\n", date);
		else if (at - last > 60 * INT64_C(1000000))
			printf("%16s... %s later ...\n", "",
			    text_duration(cli, (at - last) / 1000));
		print_event(cli, event, clock, with_vm);
		last_date = date;
		last = at;
	}
	if (json_array_size(events) == 0)
		printf("Nothing is recorded.\n");
}

static int
get(struct cli *cli, const char *path, json_t **ret, struct err *err)
{
	return api_call(cli, "GET", path, NULL, ret, err);
}

static void
print_fill(const json_t *vm, const char *member, const char *what)
{
	const char *word = json_get_str(vm, member, "ok");

	if (!str_eq(word, "ok"))
		printf("%s is %sfull.\n", what,
		    str_eq(word, "high") ? "nearly " : "");
}

static void
print_disks(struct cli *cli, const json_t *vm)
{
	const char *paused = json_get_str(vm, "paused_at", NULL);

	print_fill(vm, "system_fill", "The space for changes to its system");
	print_fill(vm, "home_fill", "Its home");
	if (paused != NULL)
		printf("It has been paused since %s: the node's disk has no "
		       "room for what it writes.\n",
		    text_time(cli, paused));
}

static void
print_vm_now(struct cli *cli, const json_t *vm)
{
	const char *host = json_get_str(vm, "host", NULL);
	const char *image = json_get_str(vm, "image", NULL);
	const char *since = json_get_str(vm, "state_at", NULL);
	const char *error = json_get_str(vm, "error", NULL);
	const char *desired = json_get_str(vm, "desired", "stopped");
	const char *state = json_get_str(vm, "state", "stopped");

	printf("VM %" PRId64 ", %s, is %s", json_get_int(vm, "id", 0),
	    text_clean(cli, object_name(vm)), state);
	if (host != NULL)
		printf(" on %s", text_clean(cli, host));
	if (since != NULL)
		printf(" since %s", text_time(cli, since));
	if (image != NULL)
		printf(", image %s", text_clean(cli, image));
	printf(
	    "; its session is %s.\n", json_get_str(vm, "session", "stopped"));
	if (!str_eq(desired, state))
		printf("It should be %s (%s).\n", desired,
		    text_clean(
			cli, json_get_str(vm, "desired_by", "nobody yet")));
	print_disks(cli, vm);
	if (json_get_bool(vm, "blocked", false))
		printf("It is blocked: nobody gets in ('qvd vm unblock').\n");
	if (error != NULL)
		printf("Its last run ended badly: %s (%s, reference %s).\n",
		    text_clean(cli, error),
		    text_clean(cli, json_get_str(vm, "error_id", "?")),
		    text_clean(cli, json_get_str(vm, "error_ref", "none")));
	printf("\n");
}

static void
print_user_now(struct cli *cli, const json_t *user)
{
	printf("User %" PRId64 ", %s, has %" PRId64 " VM(s)%s%s.\n\n",
	    json_get_int(user, "id", 0), text_clean(cli, object_name(user)),
	    json_get_int(user, "vms", 0),
	    json_get_bool(user, "blocked", false) ? ", is blocked" : "",
	    json_get_bool(user, "has_password", false)
		? ""
		: ", can't log in without a password");
}

static void
print_image_now(struct cli *cli, const json_t *image)
{
	printf("Image %" PRId64 ", %s, is %s%s; %" PRId64 " VM(s) run it.\n\n",
	    json_get_int(image, "id", 0), text_clean(cli, object_name(image)),
	    json_get_str(image, "state", "?"),
	    json_get_bool(image, "blocked", false) ? " and blocked" : "",
	    json_get_int(image, "vms", 0));
}

static int
why_object(struct cli *cli, const struct values *values, enum arg_type type,
    void (*print_now)(struct cli *, const json_t *), struct err *err)
{
	const char *name = values->command->args[0].name;
	const char *limit = value_get(values, "--limit");
	_cleanup_(json_decrefp)
	json_t *object = NULL;
	_cleanup_(json_decrefp)
	json_t *events = NULL;
	int64_t id, n = 50;
	const char *path;
	int r;

	if (limit != NULL && !str_to_i64(limit, 1, 10000, &n))
		return err_set(err, ERR_USAGE,
		    "--limit: '%s' is not a number from 1 to 10000", limit);
	r = api_id(cli, type, value_get(values, name), &id, err);
	if (r < 0)
		return r;
	path =
	    arena_printf(cli->arena, "%s/%" PRId64, api_collection(type), id);
	if ((r = get(cli, path, &object, err)) < 0 ||
	    (r = get(cli,
		 arena_printf(cli->arena, "%s/events?limit=%" PRId64, path, n),
		 &events, err)) < 0)
		return r;
	if (cli->json) {
		json_object_set(
		    object, "events", json_object_get(events, "items"));
		print_json(object);
		return 0;
	}
	print_now(cli, object);
	print_timeline(cli, json_object_get(events, "items"), type != ARG_VM);
	return 0;
}

static int
run_vm(struct cli *cli, const struct values *values, struct err *err)
{
	return why_object(cli, values, ARG_VM, print_vm_now, err);
}

static int
run_user(struct cli *cli, const struct values *values, struct err *err)
{
	return why_object(cli, values, ARG_USER, print_user_now, err);
}

static int
run_image(struct cli *cli, const struct values *values, struct err *err)
{
	return why_object(cli, values, ARG_IMAGE, print_image_now, err);
}

/* What led to the incident: the VM's events up to its last one. */
static int
print_before(struct cli *cli, const json_t *items, struct err *err)
{
	size_t n = json_array_size(items);
	const json_t *last = json_array_get(items, n - 1);
	int64_t vm = json_get_int(last, "vm_id", 0);
	_cleanup_(json_decrefp)
	json_t *around = NULL;
	int r;

	if (vm == 0)
		return 0;
	r = get(cli,
	    arena_printf(cli->arena,
		"/v1/events?vm_id=%" PRId64 "&until=%" PRId64 "&limit=%d", vm,
		json_get_int(last, "id", 0), AROUND),
	    &around, err);
	if (r < 0)
		return r;
	printf("\nVM %" PRId64 " up to then:\n", vm);
	print_timeline(cli, json_object_get(around, "items"), false);
	printf("\n'qvd why vm %" PRId64 "' tells how it went on.\n", vm);
	return 0;
}

static int
run_ref(struct cli *cli, const struct values *values, struct err *err)
{
	const char *ref = value_get(values, "REFERENCE");
	_cleanup_(json_decrefp)
	json_t *events = NULL;
	const json_t *items;
	int r;

	if (strlen(ref) != 8 ||
	    strspn(ref, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != 8)
		return err_set(err, ERR_USAGE,
		    "'%s' is no reference: those are eight characters from "
		    "A-Z and 2-7",
		    ref);
	r = get(cli, arena_printf(cli->arena, "/v1/events?ref=%s", ref),
	    &events, err);
	if (r < 0)
		return r;
	items = json_object_get(events, "items");
	if (cli->json) {
		print_json(items);
		return 0;
	}
	if (json_array_size(items) == 0)
		return err_set(err, ERR_NOT_FOUND,
		    "no event has the reference %s; look for it in the "
		    "daemons' logs",
		    ref);
	printf("Incident %s\n\n", ref);
	print_timeline(cli, items, true);
	return print_before(cli, items, err);
}

static const struct arg vm_args[] = {
	{ "VM", ARG_VM, ARG_REQUIRED,
	    .doc = "the VM: an id, alice/desk, or alice@tenant/desk" },
	LIMIT_ARG,
	ARG_END,
};

static const struct arg user_args[] = {
	{ "USER", ARG_USER, ARG_REQUIRED,
	    .doc = "the user: an id, alice, or alice@tenant" },
	LIMIT_ARG,
	ARG_END,
};

static const struct arg image_args[] = {
	{ "IMAGE", ARG_IMAGE, ARG_REQUIRED,
	    .doc = "the image: an id, xfce/VERSION, or xfce:TAG" },
	LIMIT_ARG,
	ARG_END,
};

static const struct arg ref_args[] = {
	{ "REFERENCE", ARG_TEXT, ARG_REQUIRED,
	    .doc = "the eight characters that a client or a log showed" },
	ARG_END,
};

static const struct command commands[] = {
	{ "vm", run_vm, vm_args,
	    .summary = "Tells what happened to a VM and its session" },
	{ "user", run_user, user_args,
	    .summary = "Tells what happened to a user" },
	{ "image", run_image, image_args,
	    .summary = "Tells what happened to an image, its roll-outs and "
		       "the VMs that ran it" },
	{ "ref", run_ref, ref_args,
	    .summary =
		"Tells what is behind a reference that a user was shown" },
	{ .verb = NULL },
};

const struct noun noun_why = { "why", "/v1/events", NULL, commands,
	"what happened, in sentences" };
