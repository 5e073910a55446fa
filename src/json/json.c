/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "json/json.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#define DEPTH_MAX       32
#define STR_DEFAULT_MAX 4096

static const char *const type_names[] = {
	[FIELD_TYPE_BOOL] = "true or false",
	[FIELD_TYPE_I32] = "a whole number",
	[FIELD_TYPE_I64] = "a whole number",
	[FIELD_TYPE_F64] = "a number",
	[FIELD_TYPE_STR] = "text",
	[FIELD_TYPE_ENUM] = "a word",
	[FIELD_TYPE_TIME] = "a time such as 2026-01-02T03:04:05Z",
	[FIELD_TYPE_JSON] = "a value",
};

static bool
deeper_than(const json_t *value, int depth)
{
	const json_t *child;
	const char *key;
	size_t i;

	if (depth == 0)
		return json_is_object(value) || json_is_array(value);
	if (json_is_array(value)) {
		json_array_foreach (value, i, child)
			if (deeper_than(child, depth - 1))
				return true;
	} else if (json_is_object(value)) {
		/* jansson's iterators take non-const objects but don't write */
		json_t *obj = (json_t *)(uintptr_t)value;
		json_t *member;

		json_object_foreach (obj, key, member)
			if (deeper_than(member, depth - 1))
				return true;
	}
	return false;
}

int
json_parse(const char *text, size_t len, json_t **ret, struct err *err)
{
	_cleanup_(json_decrefp)
	json_t *value = NULL;
	json_error_t je;
	char shown[JSON_ERROR_TEXT_LENGTH];

	value = json_loadb(
	    text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
	if (value == NULL)
		/* It quotes the peer's bytes. */
		return err_set(err, ERR_INVALID, "not JSON: line %d: %s",
		    je.line,
		    str_escape(shown, sizeof(shown), je.text, strlen(je.text)));
	if (deeper_than(value, DEPTH_MAX))
		return err_set(err, ERR_INVALID,
		    "JSON nested deeper than %d levels", DEPTH_MAX);
	*ret = take_ptr(value);
	return 0;
}

static const struct field *
find_field(const struct field *table, const char *name)
{
	const struct field *f;

	for (f = table; f->name != NULL; f++)
		if (str_eq(f->name, name))
			return f;
	return NULL;
}

static int
wrong_type(const struct field *f, struct err *err)
{
	return err_set(err, ERR_PARAMETER, "'%s' must be %s", f->name,
	    type_names[f->type]);
}

static int
decode_int(
    const struct field *f, const json_t *v, int64_t *ret, struct err *err)
{
	int64_t min = f->min, max = f->max, n;

	if (!json_is_integer(v))
		return wrong_type(f, err);
	if (max <= min) {
		bool narrow = f->type == FIELD_TYPE_I32;

		min = narrow ? INT32_MIN : INT64_MIN;
		max = narrow ? INT32_MAX : INT64_MAX;
	}
	n = json_integer_value(v);
	if (n < min || n > max)
		return err_set(err, ERR_PARAMETER,
		    "'%s' must be from %lld to %lld", f->name, (long long)min,
		    (long long)max);
	*ret = n;
	return 0;
}

static int
decode_str(const struct field *f, const json_t *v, const char **at,
    struct arena *arena, struct err *err)
{
	size_t max = f->max > 0 ? (size_t)f->max : STR_DEFAULT_MAX;
	const char *s = json_string_value(v);
	int r;

	if (s == NULL)
		return wrong_type(f, err);
	if (strlen(s) != json_string_length(v) || strlen(s) > max)
		return err_set(err, ERR_PARAMETER,
		    "'%s' must be at most %zu bytes without NUL", f->name, max);
	if ((f->flags & FIELD_NAME) != 0 && !str_is_name(s, max))
		return err_set(err, ERR_PARAMETER,
		    "'%s' must be a name: letters, digits, '_', '.', '-', "
		    "starting with a letter, a digit or '_'",
		    f->name);
	if (f->check != NULL && (r = f->check(s, err)) < 0)
		return err_wrap(err, r, "'%s'", f->name);
	if ((*at = arena_strdup(arena, s)) == NULL)
		return err_set(err, ERR_TOO_LARGE, "request too large");
	return 0;
}

static int
decode_enum(const struct field *f, const json_t *v, int *at, struct err *err)
{
	const char *s = json_string_value(v);
	char list[256] = "";
	size_t n = 0;
	int i;

	if (s != NULL && enum_from_str(f->words, s, at))
		return 0;
	for (i = 0; i < f->words->count && n + 1 < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
		    i > 0 ? ", " : "", f->words->words[i]);
	return err_set(
	    err, ERR_PARAMETER, "'%s' must be one of: %s", f->name, list);
}

static int
decode_json_text(const struct field *f, const json_t *v, const char **at,
    struct arena *arena, struct err *err)
{
	_cleanup_(freep)
	char *text = json_text(v);

	if ((*at = arena_strdup(arena, text)) == NULL)
		return err_set(
		    err, ERR_TOO_LARGE, "'%s' is too large", f->name);
	return 0;
}

static int
decode_value(const struct field *f, const json_t *v, void *out,
    struct arena *arena, struct err *err)
{
	void *at = (char *)out + f->offset;
	int64_t n;
	int r;

	switch (f->type) {
	case FIELD_TYPE_BOOL:
		if (!json_is_boolean(v))
			return wrong_type(f, err);
		*(bool *)at = json_is_true(v);
		return 0;
	case FIELD_TYPE_I32:
		if ((r = decode_int(f, v, &n, err)) == 0)
			*(int32_t *)at = (int32_t)n;
		return r;
	case FIELD_TYPE_I64:
		return decode_int(f, v, at, err);
	case FIELD_TYPE_F64:
		if (!json_is_number(v))
			return wrong_type(f, err);
		*(double *)at = json_number_value(v);
		return 0;
	case FIELD_TYPE_STR:
		return decode_str(f, v, at, arena, err);
	case FIELD_TYPE_ENUM:
		return decode_enum(f, v, at, err);
	case FIELD_TYPE_TIME:
		if (!json_is_string(v) || !time_parse(json_string_value(v), at))
			return wrong_type(f, err);
		return 0;
	case FIELD_TYPE_JSON:
		return decode_json_text(f, v, at, arena, err);
	case FIELD_TYPE_COUNT_:
		break;
	}
	return err_set(err, ERR_INTERNAL, "field '%s' has no type", f->name);
}

static int
check_required(const json_t *obj, const struct field *table, struct err *err)
{
	const struct field *f;
	const json_t *v;

	for (f = table; f->name != NULL; f++) {
		v = json_object_get(obj, f->name);
		if ((f->flags & FIELD_REQUIRED) != 0 &&
		    (v == NULL || json_is_null(v)))
			return err_set(
			    err, ERR_PARAMETER, "'%s' is missing", f->name);
	}
	return 0;
}

int
json_decode(const json_t *obj, const struct field *table, void *out,
    struct arena *arena, uint64_t *ret_seen, struct err *err)
{
	json_t *o = (json_t *)(uintptr_t)obj, *v;
	const struct field *f;
	const char *key;
	char shown[64];
	uint64_t seen = 0;
	int r;

	if (!json_is_object(obj))
		return err_set(err, ERR_PARAMETER, "must be a JSON object");
	if ((r = check_required(obj, table, err)) < 0)
		return r;
	json_object_foreach (o, key, v) {
		f = find_field(table, key);
		if (f == NULL)
			return err_set(err, ERR_PARAMETER,
			    "unknown member '%s'",
			    str_escape(shown, sizeof(shown), key, strlen(key)));
		if ((f->flags & FIELD_READONLY) != 0)
			return err_set(
			    err, ERR_PARAMETER, "'%s' can't be set", f->name);
		if (!json_is_null(v) || f->type == FIELD_TYPE_JSON)
			r = decode_value(f, v, out, arena, err);
		if (r < 0)
			return r;
		assert(f - table < 64);
		seen |= UINT64_C(1) << (f - table);
	}
	if (ret_seen != NULL)
		*ret_seen = seen;
	return 0;
}

/* Text of our own rows, but perhaps cut in the middle of a character. */
static json_t *
text_value(const char *s)
{
	_cleanup_(freep)
	char *ascii = NULL;
	json_t *v;

	if (s == NULL)
		return json_null();
	if ((v = json_string(s)) != NULL)
		return v;
	ascii = xcalloc(4, strlen(s) + 1);
	return json_string(str_escape(ascii, 4 * strlen(s) + 4, s, strlen(s)));
}

/* NULL for what JSON can't say (NaN, JSON text that is none). */
static json_t *
encode_value(const struct field *f, const void *in)
{
	const void *at = (const char *)in + f->offset;
	char when[TIME_TEXT_MAX];
	const char *s;
	int64_t us;

	switch (f->type) {
	case FIELD_TYPE_BOOL:
		return json_boolean(*(const bool *)at);
	case FIELD_TYPE_I32:
		return json_integer(*(const int32_t *)at);
	case FIELD_TYPE_I64:
		return json_integer(*(const int64_t *)at);
	case FIELD_TYPE_F64:
		return json_real(*(const double *)at);
	case FIELD_TYPE_STR:
		return text_value(*(const char *const *)at);
	case FIELD_TYPE_ENUM:
		return json_string(enum_to_str(f->words, *(const int *)at));
	case FIELD_TYPE_TIME:
		us = *(const int64_t *)at;
		return us == 0 ? json_null()
			       : json_string(time_format(when, us));
	case FIELD_TYPE_JSON:
		s = *(const char *const *)at;
		return s == NULL ? json_null()
				 : json_loads(s, JSON_DECODE_ANY, NULL);
	case FIELD_TYPE_COUNT_:
		break;
	}
	return json_null();
}

json_t *
json_encode(const struct field *table, const void *in)
{
	json_t *obj = json_object(), *v;
	const struct field *f;

	for (f = table; f->name != NULL; f++) {
		if ((f->flags & FIELD_SECRET) != 0)
			continue;
		v = encode_value(f, in);
		json_object_set_new(obj, f->name, v == NULL ? json_null() : v);
	}
	return obj;
}

static char *
dump(const json_t *value, size_t flags)
{
	char *s =
	    json_dumps(value, flags | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	if (s == NULL)
		abort();
	return s;
}

char *
json_text(const json_t *value)
{
	return dump(value, JSON_COMPACT);
}

char *
json_pretty(const json_t *value)
{
	return dump(value, JSON_INDENT(3));
}

json_t *
json_from_err(const struct err *err)
{
	return json_pack("{s:{s:s,s:o}}", "error", "id", err_id(err->code),
	    "message", text_value(err->msg));
}

int
json_to_err(const json_t *value, struct err *err)
{
	const json_t *e = json_object_get(value, "error");
	const char *id = json_get_str(e, "id", NULL);
	const char *msg = json_get_str(e, "message", NULL);

	if (id == NULL || msg == NULL)
		return err_set(
		    err, ERR_PROTOCOL, "the peer's error has no id or message");
	return err_set(err, err_from_id(id), "%s", msg);
}

const char *
json_get_str(const json_t *obj, const char *name, const char *def)
{
	const char *s = json_string_value(json_object_get(obj, name));

	return s == NULL ? def : s;
}

int64_t
json_get_int(const json_t *obj, const char *name, int64_t def)
{
	const json_t *v = json_object_get(obj, name);

	return json_is_integer(v) ? json_integer_value(v) : def;
}

bool
json_get_bool(const json_t *obj, const char *name, bool def)
{
	const json_t *v = json_object_get(obj, name);

	return json_is_boolean(v) ? json_is_true(v) : def;
}
