/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the verbs of many nouns have in common. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "json/json.h"

/* The command's first argument, which names what it is about. */
static const struct arg *
subject(const struct values *values)
{
	return &values->command->args[0];
}

static int
subject_id(struct cli *cli, const struct values *values, int nth, int64_t *ret,
    struct err *err)
{
	const struct arg *arg = subject(values);

	return api_id(
	    cli, arg->type, value_nth(values, arg->name, nth), ret, err);
}

int
run_list(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	const json_t *items;
	const char *query;
	json_t *item;
	size_t i;
	int r;

	if ((r = values_query(cli, values, &query, err)) < 0)
		return r;
	r = api_call(cli, "GET",
	    arena_printf(cli->arena, "%s%s", values->noun->path, query), NULL,
	    &answer, err);
	if (r < 0)
		return r;
	items = json_object_get(answer, "items");
	if (cli->quiet) {
		json_array_foreach (items, i, item)
			printf("%" PRId64 "\n",
			    json_get_int(
				item, "id", json_get_int(item, "vm_id", 0)));
	} else if (cli->json) {
		print_json(items);
	} else {
		print_table(cli, values->noun->columns, items);
	}
	return 0;
}

int
run_show(struct cli *cli, const struct values *values, struct err *err)
{
	int i, n = value_count(values, subject(values)->name), r;
	int64_t id;

	for (i = 0; i < n; i++) {
		_cleanup_(json_decrefp)
		json_t *answer = NULL;

		if ((r = subject_id(cli, values, i, &id, err)) < 0 ||
		    (r = api_call(cli, "GET",
			 api_path(cli, values->noun, id, NULL), NULL, &answer,
			 err)) < 0)
			return r;
		if (cli->json) {
			print_json(answer);
		} else if (cli->quiet) {
			printf("%" PRId64 "\n", id);
		} else {
			if (i > 0)
				printf("\n");
			print_object(cli, answer);
		}
	}
	return 0;
}

int
run_add(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int r;

	if ((r = values_body(cli, values, &body, err)) < 0 ||
	    (r = api_call(
		 cli, "POST", values->noun->path, body, &answer, err)) < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

int
run_set(struct cli *cli, const struct values *values, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	json_t *body;
	int64_t id;
	int r;

	if ((r = subject_id(cli, values, 0, &id, err)) < 0 ||
	    (r = values_body(cli, values, &body, err)) < 0)
		return r;
	if (json_object_size(body) == 0) {
		json_decref(body);
		return err_set(err, ERR_USAGE,
		    "nothing to set; see 'qvd help %s set'",
		    values->noun->name);
	}
	r = api_call(cli, "PATCH", api_path(cli, values->noun, id, NULL), body,
	    &answer, err);
	if (r < 0)
		return r;
	print_done(cli, values->noun, answer);
	return 0;
}

int
run_del(struct cli *cli, const struct values *values, struct err *err)
{
	return call_each(cli, values, "DELETE", NULL, err);
}

int
call_each(struct cli *cli, const struct values *values, const char *method,
    const char *rest, struct err *err)
{
	int i, n = value_count(values, subject(values)->name), r;
	int64_t id;

	for (i = 0; i < n; i++) {
		_cleanup_(json_decrefp)
		json_t *answer = NULL;

		if ((r = subject_id(cli, values, i, &id, err)) < 0 ||
		    (r = api_call(cli, method,
			 api_path(cli, values->noun, id, rest), NULL, &answer,
			 err)) < 0)
			return r;
		if (cli->json)
			print_json(answer);
	}
	return 0;
}

int
patch_each(struct cli *cli, const struct values *values, const char *member,
    json_t *value, struct err *err)
{
	int i, n = value_count(values, subject(values)->name), r = 0;
	int64_t id;

	for (i = 0; i < n && r == 0; i++) {
		_cleanup_(json_decrefp)
		json_t *answer = NULL;
		json_t *body;

		if ((r = subject_id(cli, values, i, &id, err)) < 0)
			break;
		body = json_object();
		json_object_set(body, member, value);
		r = api_call(cli, "PATCH",
		    api_path(cli, values->noun, id, NULL), body, &answer, err);
		if (r == 0 && cli->json)
			print_json(answer);
	}
	json_decref(value);
	return r;
}

int
run_block(struct cli *cli, const struct values *values, struct err *err)
{
	return patch_each(cli, values, "blocked", json_true(), err);
}

int
run_unblock(struct cli *cli, const struct values *values, struct err *err)
{
	return patch_each(cli, values, "blocked", json_false(), err);
}
