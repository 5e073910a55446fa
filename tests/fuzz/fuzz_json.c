/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A request body: parsed, decoded by a table with a row of each type, and
 * what was decoded written again. */
#include <stdint.h>

#include "base/mem.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const colors[] = { "red", "green" };
static const struct enum_words color_words = { "color", colors, 2 };

struct request {
	bool b;
	int32_t i;
	int64_t n;
	double d;
	const char *s;
	const char *name;
	int color;
	int64_t t;
	const char *j;
};

static const struct field fields[] = {
	FIELD(struct request, b, BOOL),
	FIELD(struct request, i, I32, .min = -5, .max = 5),
	FIELD(struct request, n, I64),
	FIELD(struct request, d, F64),
	FIELD(struct request, s, STR, .max = 32),
	FIELD(struct request, name, STR, .flags = FIELD_NAME),
	FIELD_ENUM_OF(struct request, color, color_words),
	FIELD(struct request, t, TIME),
	FIELD(struct request, j, JSON),
	FIELD_END,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(4096);
	_cleanup_(json_decrefp)
	json_t *in = NULL;
	_cleanup_(json_decrefp)
	json_t *out = NULL;
	_cleanup_(freep)
	char *text = NULL;
	struct request r = { 0 };
	struct err err;

	if (json_parse((const char *)data, size, &in, &err) < 0)
		return 0;
	json_to_err(in, &err);
	if (json_decode(in, fields, &r, arena, NULL, &err) < 0)
		return 0;
	out = json_encode(fields, &r);
	text = json_text(out);
	if (json_object_size(out) != ARRAY_SIZE(fields) - 1)
		abort();
	return 0;
}
