/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * JSON objects to structs and back by field tables (base/field.h). Decoded
 * strings live in the caller's arena. An unknown member, a wrong type or a
 * value out of range is ERR_PARAMETER and names the member. Every process.
 */
#ifndef JSON_JSON_H
#define JSON_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/field.h"

/* Parses text from a peer: at most 32 levels (jansson's own limit is 2048),
 * duplicate members refused. The caller owns *ret (json_decref). */
int json_parse(const char *text, size_t len, json_t **ret, struct err *err);

/* Object to struct. Members that are absent leave *out as it was, so fill in
 * the defaults first. ret_seen (may be NULL) gets a bit per table row that
 * was present, for partial updates (tables of at most 64 rows). */
int json_decode(const json_t *obj, const struct field *table, void *out,
    struct arena *arena, uint64_t *ret_seen, struct err *err);

/* Struct to object: every row that isn't FIELD_SECRET; NULL strings and
 * zero times become null. The caller owns the result. */
json_t *json_encode(const struct field *table, const void *in);

/* Compact text, ASCII-escaped; heap. */
char *json_text(const json_t *value);
/* Pretty text as old QVD clients saw it: indented, ASCII-escaped; heap. */
char *json_pretty(const json_t *value);

/* {"error": {"id": ..., "message": ...}} and back. json_to_err returns the
 * negative code and fills *err; ERR_PROTOCOL if it is no such object. */
json_t *json_from_err(const struct err *err);
int json_to_err(const json_t *value, struct err *err);

/* Convenience reads of members: the fallback when absent or of another
 * type. The string stays owned by the object. */
const char *json_get_str(const json_t *obj, const char *name, const char *def);
int64_t json_get_int(const json_t *obj, const char *name, int64_t def);
bool json_get_bool(const json_t *obj, const char *name, bool def);

#endif
