/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arguments of a command by its table, and the requests made of them. */
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "json/json.h"
#include "net/http.h"

static bool
is_option(const struct arg *arg)
{
	return str_starts(arg->name, "--");
}

const char *
arg_meta(const struct arg *arg)
{
	static const char *const metas[] = {
		[ARG_TEXT] = "TEXT",
		[ARG_NAME] = "NAME",
		[ARG_NUMBER] = "N",
		[ARG_MB] = "SIZE",
		[ARG_SECONDS] = "TIME",
		[ARG_BOOL] = "yes|no",
		[ARG_DURATION] = "TIME",
		[ARG_FLAG] = "",
		[ARG_WORD] = "WORD",
		[ARG_FILE] = "FILE",
		[ARG_TENANT] = "TENANT",
		[ARG_USER] = "USER",
		[ARG_OSF] = "OSF",
		[ARG_IMAGE] = "IMAGE",
		[ARG_VM] = "VM",
		[ARG_HOST] = "HOST",
		[ARG_ROLLOUT] = "ROLLOUT",
		[ARG_UPLOAD] = "UPLOAD",
		[ARG_CONFIG] = "KEY",
	};
	_Static_assert(ARRAY_SIZE(metas) == ARG_TYPE_COUNT_, "a meta each");

	return arg->meta != NULL ? arg->meta : metas[arg->type];
}

static const struct arg *
find_option(const struct command *command, const char *name, size_t len)
{
	const struct arg *a;

	for (a = command->args; a != NULL && a->name != NULL; a++)
		if (is_option(a) && strlen(a->name) == len &&
		    strncmp(a->name, name, len) == 0)
			return a;
	return NULL;
}

/* The positional argument that the next word belongs to. */
static const struct arg *
next_positional(const struct command *command, const struct values *values)
{
	const struct arg *a;

	for (a = command->args; a != NULL && a->name != NULL; a++)
		if (!is_option(a) && ((a->flags & ARG_MANY) != 0 ||
					 value_get(values, a->name) == NULL))
			return a;
	return NULL;
}

static int
add_value(struct values *values, const struct arg *arg, const char *text,
    struct err *err)
{
	if (values->n == VALUES_MAX)
		return err_set(err, ERR_USAGE,
		    "more than %d arguments; give them in several commands",
		    VALUES_MAX);
	values->v[values->n].arg = arg;
	values->v[values->n].text = text;
	values->n++;
	return 0;
}

/* One option, which may use the next word too; *i moves over it. */
static int
parse_option(
    int argc, char **argv, int *i, struct values *values, struct err *err)
{
	const char *word = argv[*i], *eq = strchr(word, '=');
	const struct arg *arg;

	arg = find_option(values->command, word,
	    eq != NULL ? (size_t)(eq - word) : strlen(word));
	if (arg == NULL)
		return err_set(err, ERR_USAGE,
		    "unknown option '%s'; see 'qvd help %s %s'", word,
		    values->noun->name, values->command->verb);
	if ((arg->flags & ARG_MANY) == 0 &&
	    value_get(values, arg->name) != NULL)
		return err_set(err, ERR_USAGE, "%s is given twice", arg->name);
	if (arg->type == ARG_FLAG) {
		if (eq != NULL)
			return err_set(
			    err, ERR_USAGE, "%s takes no value", arg->name);
		return add_value(values, arg, "yes", err);
	}
	if (eq != NULL)
		return add_value(values, arg, eq + 1, err);
	if (*i + 1 == argc)
		return err_set(err, ERR_USAGE, "%s needs a value: %s %s",
		    arg->name, arg->name, arg_meta(arg));
	return add_value(values, arg, argv[++*i], err);
}

static int
check_required(const struct values *values, struct err *err)
{
	const struct arg *a;

	for (a = values->command->args; a != NULL && a->name != NULL; a++)
		if ((a->flags & ARG_REQUIRED) != 0 &&
		    value_get(values, a->name) == NULL)
			return err_set(err, ERR_USAGE,
			    "%s is missing; see 'qvd help %s%s%s'", a->name,
			    values->noun->name,
			    *values->command->verb != '\0' ? " " : "",
			    values->command->verb);
	return 0;
}

int
values_parse(int argc, char **argv, const struct noun *noun,
    const struct command *command, struct values *ret, struct err *err)
{
	const struct arg *arg;
	bool only_words = false;
	int i, r;

	ret->noun = noun;
	ret->command = command;
	ret->n = 0;
	for (i = 0; i < argc; i++) {
		if (!only_words && str_eq(argv[i], "--")) {
			only_words = true;
			continue;
		}
		if (!only_words && str_starts(argv[i], "--")) {
			r = parse_option(argc, argv, &i, ret, err);
		} else {
			arg = next_positional(command, ret);
			r = arg == NULL
				? err_set(err, ERR_USAGE,
				      "too many arguments: '%s'", argv[i])
				: add_value(ret, arg, argv[i], err);
		}
		if (r < 0)
			return r;
	}
	return check_required(ret, err);
}

int
value_count(const struct values *values, const char *name)
{
	int i, n = 0;

	for (i = 0; i < values->n; i++)
		n += str_eq(values->v[i].arg->name, name);
	return n;
}

const char *
value_nth(const struct values *values, const char *name, int nth)
{
	int i;

	for (i = 0; i < values->n; i++)
		if (str_eq(values->v[i].arg->name, name) && nth-- == 0)
			return values->v[i].text;
	return NULL;
}

const char *
value_get(const struct values *values, const char *name)
{
	return value_nth(values, name, 0);
}

bool
value_flag(const struct values *values, const char *name)
{
	return value_get(values, name) != NULL;
}

static int
bad_value(
    const struct arg *arg, const char *text, const char *want, struct err *err)
{
	return err_set(
	    err, ERR_USAGE, "%s: '%s' is not %s", arg->name, text, want);
}

static int
number_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	int64_t n, max = arg->max > arg->min ? arg->max : INT32_MAX;

	if (!str_to_i64(text, arg->min, max, &n))
		return err_set(err, ERR_USAGE,
		    "%s: '%s' is not a number from %lld to %lld", arg->name,
		    text, (long long)arg->min, (long long)max);
	*ret = json_integer(n);
	return 0;
}

static int
mb_value(const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	uint64_t bytes;
	int64_t mb;

	if (str_to_i64(text, 0, INT32_MAX, &mb)) {
		*ret = json_integer(mb);
		return 0;
	}
	if (!str_to_size(text, &bytes) || bytes % 1048576 != 0 ||
	    bytes / 1048576 > INT32_MAX)
		return bad_value(arg, text, "a size such as 512M or 2G", err);
	*ret = json_integer((json_int_t)(bytes / 1048576));
	return 0;
}

static int
seconds_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	int64_t ms;

	if (!str_to_duration(text, &ms) || ms % 1000 != 0 ||
	    ms / 1000 > INT32_MAX)
		return bad_value(arg, text, "a time such as 30m or 2h", err);
	*ret = json_integer((json_int_t)(ms / 1000));
	return 0;
}

static int
word_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	_cleanup_(buf_done)
	struct buf list = BUF(1024);
	int i;

	for (i = 0; i < arg->words->count; i++) {
		if (str_eq(arg->words->words[i], text)) {
			*ret = json_string(text);
			return 0;
		}
		buf_printf(
		    &list, "%s%s", i > 0 ? ", " : "", arg->words->words[i]);
	}
	return err_set(err, ERR_USAGE, "%s: '%s' is not one of %.*s", arg->name,
	    text, (int)buf_len(&list), buf_head(&list));
}

static int
file_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	char path[PATH_MAX];

	if (realpath(text, path) == NULL)
		return err_set(err, ERR_USAGE, "%s: no file or folder '%s'",
		    arg->name, text);
	*ret = json_string(path);
	return 0;
}

static int
bool_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	bool b;

	if (!str_to_bool(text, &b))
		return bad_value(arg, text, "yes or no", err);
	*ret = json_boolean(b);
	return 0;
}

static int
duration_value(
    const struct arg *arg, const char *text, json_t **ret, struct err *err)
{
	int64_t ms;

	if (!str_to_duration(text, &ms))
		return bad_value(arg, text, "a time like 30s, 5m or 2h", err);
	*ret = json_integer(ms);
	return 0;
}

int
value_to_json(struct cli *cli, const struct arg *arg, const char *text,
    json_t **ret, struct err *err)
{
	int64_t id;
	int r;

	switch (arg->type) {
	case ARG_NUMBER:
		return number_value(arg, text, ret, err);
	case ARG_MB:
		return mb_value(arg, text, ret, err);
	case ARG_SECONDS:
		return seconds_value(arg, text, ret, err);
	case ARG_BOOL:
	case ARG_FLAG:
		return bool_value(arg, text, ret, err);
	case ARG_DURATION:
		return duration_value(arg, text, ret, err);
	case ARG_WORD:
		return word_value(arg, text, ret, err);
	case ARG_FILE:
		return file_value(arg, text, ret, err);
	case ARG_TENANT:
	case ARG_USER:
	case ARG_OSF:
	case ARG_IMAGE:
	case ARG_VM:
	case ARG_HOST:
	case ARG_ROLLOUT:
	case ARG_UPLOAD:
		if ((r = api_id(cli, arg->type, text, &id, err)) < 0)
			return r;
		*ret = json_integer(id);
		return 0;
	case ARG_TEXT:
	case ARG_NAME:
	case ARG_CONFIG:
	case ARG_TYPE_COUNT_:
		break;
	}
	*ret = json_string(text);
	if (*ret == NULL)
		return bad_value(arg, "?", "valid UTF-8 text", err);
	return 0;
}

int
values_body(
    struct cli *cli, const struct values *values, json_t **ret, struct err *err)
{
	json_t *body = json_object(), *value, *list;
	const struct arg *arg;
	int i, r;

	for (i = 0; i < values->n; i++) {
		arg = values->v[i].arg;
		if (arg->member == NULL)
			continue;
		r = value_to_json(cli, arg, values->v[i].text, &value, err);
		if (r < 0) {
			json_decref(body);
			return r;
		}
		if (is_option(arg) && (arg->flags & ARG_MANY) != 0) {
			list = json_object_get(body, arg->member);
			if (list == NULL) {
				list = json_array();
				json_object_set_new(body, arg->member, list);
			}
			json_array_append_new(list, value);
		} else {
			json_object_set_new(body, arg->member, value);
		}
	}
	*ret = body;
	return 0;
}

int
values_query(struct cli *cli, const struct values *values, const char **ret,
    struct err *err)
{
	_cleanup_(buf_done)
	struct buf query = BUF(65536);
	json_t *value;
	const struct arg *arg;
	int i, r;

	for (i = 0; i < values->n; i++) {
		_cleanup_(freep)
		char *text = NULL;
		_cleanup_(freep)
		char *encoded = NULL;

		arg = values->v[i].arg;
		if (arg->member == NULL)
			continue;
		r = value_to_json(cli, arg, values->v[i].text, &value, err);
		if (r < 0)
			return r;
		text = json_is_string(value)
			   ? xstrdup(json_string_value(value))
			   : json_dumps(value, JSON_ENCODE_ANY);
		json_decref(value);
		encoded = http_encode(text);
		buf_printf(&query, "%c%s=%s", buf_len(&query) > 0 ? '&' : '?',
		    arg->member, encoded);
	}
	*ret = arena_strndup(cli->arena, buf_head(&query), buf_len(&query));
	return 0;
}
