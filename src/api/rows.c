/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rows of the database as JSON, and names of objects as people write them. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "json/json.h"

static json_t *
value_to_json(const char *s, enum field_type type)
{
	char text[TIME_TEXT_MAX];
	json_t *value = NULL;
	int64_t n = 0;

	switch (type) {
	case FIELD_TYPE_BOOL:
		return json_boolean(s[0] == 't');
	case FIELD_TYPE_I32:
	case FIELD_TYPE_I64:
		str_to_i64(s, INT64_MIN, INT64_MAX, &n);
		return json_integer(n);
	case FIELD_TYPE_F64:
		return json_real(strtod(s, NULL));
	case FIELD_TYPE_TIME:
		return time_parse(s, &n) ? json_string(time_format(text, n))
					 : json_null();
	case FIELD_TYPE_JSON:
		value = json_loads(s, JSON_DECODE_ANY, NULL);
		break;
	case FIELD_TYPE_STR:
	case FIELD_TYPE_ENUM:
	case FIELD_TYPE_COUNT_:
		value = json_string(s);
		break;
	}
	return value != NULL ? value : json_null();
}

json_t *
row_to_json(const struct db_result *res, int row, const struct field *view)
{
	json_t *object = json_object();
	const struct field *f;
	const char *s;

	for (f = view; f->name != NULL; f++) {
		s = db_str(res, row, f->name);
		json_object_set_new(object, f->name,
		    s != NULL ? value_to_json(s, f->type) : json_null());
	}
	return object;
}

json_t *
rows_to_json(const struct db_result *res, const struct field *view)
{
	json_t *items = json_array(), *answer = json_object();
	int i, n = db_rows(res);

	for (i = 0; i < n; i++)
		json_array_append_new(items, row_to_json(res, i, view));
	json_object_set_new(answer, "items", items);
	return answer;
}

/*
 * NAME, NAME@TENANT, OWNER/NAME, OWNER@TENANT/NAME, and the same with
 * :TAG instead of /NAME (images).
 */
bool
ref_parse(struct arena *arena, const char *text, struct ref *ret)
{
	struct ref ref = { NULL, NULL, NULL, NULL };
	char *copy = arena_strdup(arena, text), *at, *sep;

	if (copy == NULL)
		return false;
	if ((sep = strpbrk(copy, "/:")) != NULL) {
		if (*sep == ':')
			ref.tag = sep + 1;
		else
			ref.name = sep + 1;
		*sep = '\0';
		ref.owner = copy;
	} else {
		ref.name = copy;
	}
	if ((at = strchr(copy, '@')) != NULL) {
		*at = '\0';
		ref.tenant = at + 1;
	}
	if ((ref.tenant != NULL && !str_is_name(ref.tenant, 64)) ||
	    (ref.owner != NULL && !str_is_name(ref.owner, 64)) ||
	    (ref.name != NULL && !str_is_name(ref.name, 64)) ||
	    (ref.tag != NULL && !str_is_name(ref.tag, 128)))
		return false;
	*ret = ref;
	return true;
}
