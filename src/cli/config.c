/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qvd config: the farm's settings. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/nouns.h"
#include "json/json.h"
#include "net/http.h"

static const struct column columns[] = {
	{ "KEY", "key", COLUMN_TEXT },
	{ "VALUE", "value", COLUMN_TEXT },
	{ "SET", "set", COLUMN_YES },
	{ "TENANT", "tenant", COLUMN_TEXT },
	{ "HOST", "host", COLUMN_TEXT },
	{ "MEANING", "doc", COLUMN_TEXT },
	COLUMN_END,
};

static const struct arg list_args[] = {
	{ "--tenant", ARG_TENANT, 0, "tenant_id",
	    .doc = "as it is for that tenant" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "as it is on that host" },
	ARG_END,
};

static const struct arg get_args[] = {
	{ "KEY", ARG_CONFIG, ARG_REQUIRED, .doc = "the setting" },
	{ "--tenant", ARG_TENANT, 0, "tenant_id",
	    .doc = "as it is for that tenant" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "as it is on that host" },
	ARG_END,
};

static const struct arg set_args[] = {
	{ "KEY", ARG_CONFIG, ARG_REQUIRED, .doc = "the setting" },
	{ "VALUE", ARG_TEXT, ARG_REQUIRED, .doc = "its value" },
	{ "--tenant", ARG_TENANT, 0, "tenant_id",
	    .doc = "for that tenant only" },
	{ "--host", ARG_HOST, 0, "host_id", .doc = "on that host only" },
	ARG_END,
};

static int
config_call(struct cli *cli, const struct values *values, const char *method,
    json_t *body, json_t **ret, struct err *err)
{
	_cleanup_(freep)
	char *key = http_encode(value_get(values, "KEY"));
	const char *query;
	int r;

	if ((r = values_query(cli, values, &query, err)) < 0) {
		json_decref(body);
		return r;
	}
	return api_call(cli, method,
	    arena_printf(cli->arena, "/v1/configs/%s%s", key, query), body, ret,
	    err);
}

static int
run_get(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	int r;

	r = config_call(cli, values, "GET", NULL, &answer, err);
	if (r < 0)
		return r;
	if (cli->json)
		print_json(answer);
	else
		printf(
		    "%s\n", text_clean(cli, json_get_str(answer, "value", "")));
	return 0;
}

static int
run_config_set(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body = json_object(), *value;
	int r;

	value = json_string(value_get(values, "VALUE"));
	if (value == NULL) {
		json_decref(body);
		return err_set(
		    err, ERR_USAGE, "the value is not valid UTF-8 text");
	}
	json_object_set_new(body, "value", value);
	r = config_call(cli, values, "PUT", body, &answer, err);
	if (r == 0 && cli->json)
		print_json(answer);
	return r;
}

static int
run_unset(struct cli *cli, const struct values *values, struct err *err)
{
	return config_call(cli, values, "DELETE", NULL, NULL, err);
}

static const struct command commands[] = {
	{ "list", run_list, list_args, .summary = "Lists all settings" },
	{ "get", run_get, get_args, .summary = "Prints a setting" },
	{ "set", run_config_set, set_args, "Changes a setting",
	    "It takes effect at once, on every host or the one named. Some "
	    "settings can be a host's own, some a tenant's own; these win "
	    "over the farm's." },
	{ "unset", run_unset, get_args,
	    .summary = "Gives a setting its default back" },
	{ .verb = NULL },
};

const struct noun noun_config = { "config", "/v1/configs", columns, commands,
	"the farm's settings" };
