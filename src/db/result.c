/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "db/db_priv.h"

#include <string.h>

#include "base/str.h"
#include "base/time.h"

/* What a SQLSTATE means for the caller (PostgreSQL manual, appendix A). */
static enum err_code
code_of_state(const char *state)
{
	if (str_starts(state, "23"))
		return ERR_CONFLICT; /* integrity constraint */
	if (str_eq(state, "53100"))
		return ERR_NO_SPACE;
	if (str_eq(state, "57014") || str_eq(state, "55P03"))
		return ERR_TIMEOUT; /* cancelled; lock not available */
	if (str_starts(state, "22"))
		return ERR_PARAMETER; /* data exception */
	if (str_starts(state, "42"))
		return ERR_INTERNAL; /* syntax, privilege: our mistake */
	return ERR_DATABASE;
}

int
result_err(const PGresult *res, struct err *err)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *more = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);

	if (state == NULL)
		state = "?";
	if (text == NULL)
		text = PQresultErrorMessage(res);
	return err_set(err, code_of_state(state), "database: %.500s%s%.200s%s",
	    text, more != NULL ? " (" : "", more != NULL ? more : "",
	    more != NULL ? ")" : "");
}

int
conn_err(PGconn *pg, const char *what, struct err *err)
{
	const char *text = pg != NULL ? PQerrorMessage(pg) : "out of memory";

	return err_set(err, ERR_DATABASE, "%s: %.*s", what,
	    (int)strcspn(text, "\n"), text);
}

bool
db_violates(const struct err *err, const char *constraint)
{
	char quoted[160];

	if (err == NULL || err->code != ERR_CONFLICT)
		return false;
	if (constraint == NULL)
		return strstr(err->msg, "constraint \"") != NULL;
	snprintf(quoted, sizeof(quoted), "constraint \"%s\"", constraint);
	return strstr(err->msg, quoted) != NULL;
}

int
db_rows(const struct db_result *res)
{
	return PQntuples(res->pg);
}

/* Some functions of libpq want it writable, but only read. */
static PGresult *
writable(const struct db_result *res)
{
	union {
		const PGresult *in;
		PGresult *out;
	} u = { .in = res->pg };

	return u.out;
}

const char *
result_command(const struct db_result *res)
{
	return PQcmdStatus(writable(res));
}

int64_t
db_affected(const struct db_result *res)
{
	int64_t n = 0;

	str_to_i64(PQcmdTuples(writable(res)), 0, INT64_MAX, &n);
	return n;
}

const char *
db_str(const struct db_result *res, int row, const char *col)
{
	int c = PQfnumber(res->pg, col);

	if (c < 0 || row < 0 || row >= PQntuples(res->pg) ||
	    PQgetisnull(res->pg, row, c))
		return NULL;
	return PQgetvalue(res->pg, row, c);
}

int64_t
db_i64(const struct db_result *res, int row, const char *col)
{
	const char *s = db_str(res, row, col);
	int64_t v = 0;

	if (s != NULL)
		str_to_i64(s, INT64_MIN, INT64_MAX, &v);
	return v;
}

const char *
db_lookup(const struct db_result *res, const char *col, const char *key,
    const char *value)
{
	int i;

	for (i = 0; res != NULL && i < db_rows(res); i++)
		if (str_eq(db_str(res, i, col), key))
			return db_str(res, i, value);
	return NULL;
}

bool
db_bool(const struct db_result *res, int row, const char *col)
{
	const char *s = db_str(res, row, col);

	return s != NULL && s[0] == 't';
}

bool
db_has_id(const struct db_result *res, int64_t id)
{
	int i;

	for (i = 0; i < db_rows(res); i++)
		if (db_i64(res, i, "id") == id)
			return true;
	return false;
}

static bool
decode_number(const struct field *f, const char *s, char *at)
{
	int64_t v;

	if (f->type == FIELD_TYPE_I32) {
		if (!str_to_i64(s, INT32_MIN, INT32_MAX, &v))
			return false;
		*(int32_t *)(void *)at = (int32_t)v;
		return true;
	}
	if (!str_to_i64(s, INT64_MIN, INT64_MAX, &v))
		return false;
	*(int64_t *)(void *)at = v;
	return true;
}

/* s is not NULL; false: it is not of the field's type. */
static bool
decode_value(const struct field *f, const char *s, char *at,
    struct arena *arena, struct err *err)
{
	char *end;

	switch (f->type) {
	case FIELD_TYPE_BOOL:
		*(bool *)(void *)at = s[0] == 't';
		return s[1] == '\0' && (s[0] == 't' || s[0] == 'f');
	case FIELD_TYPE_I32:
	case FIELD_TYPE_I64:
		return decode_number(f, s, at);
	case FIELD_TYPE_F64:
		*(double *)(void *)at = strtod(s, &end);
		return *end == '\0' && end != s;
	case FIELD_TYPE_STR:
	case FIELD_TYPE_JSON:
		*(const char **)(void *)at = arena_strdup(arena, s);
		if (*(const char **)(void *)at == NULL)
			err_set(err, ERR_TOO_LARGE, "the rows are too large");
		return true;
	case FIELD_TYPE_ENUM:
		return enum_from_str(f->words, s, (int *)(void *)at);
	case FIELD_TYPE_TIME:
		return time_parse(s, (int64_t *)(void *)at);
	case FIELD_TYPE_COUNT_:
		break;
	}
	return false;
}

static size_t
field_size(enum field_type type)
{
	switch (type) {
	case FIELD_TYPE_BOOL:
		return sizeof(bool);
	case FIELD_TYPE_I32:
		return sizeof(int32_t);
	case FIELD_TYPE_ENUM:
		return sizeof(int);
	case FIELD_TYPE_STR:
	case FIELD_TYPE_JSON:
		return sizeof(char *);
	default:
		return sizeof(int64_t);
	}
}

int
db_row_decode(const struct db_result *res, int row, const struct field *table,
    void *out, struct arena *arena, struct err *err)
{
	const struct field *f;
	struct err cut = { 0 };
	const char *s;
	char *at;
	int c;

	for (f = table; f->name != NULL; f++) {
		if ((c = PQfnumber(res->pg, f->name)) < 0)
			continue;
		at = (char *)out + f->offset;
		if (PQgetisnull(res->pg, row, c)) {
			memset(at, 0, field_size(f->type));
			continue;
		}
		s = PQgetvalue(res->pg, row, c);
		if (!decode_value(f, s, at, arena, &cut))
			return err_set(err, ERR_INTERNAL,
			    "database: column %s holds what this version "
			    "doesn't know: '%.40s'",
			    f->name, s);
		if (err_is_set(&cut)) {
			if (err != NULL)
				*err = cut;
			return -(int)cut.code;
		}
	}
	return 0;
}

static const char **
next_param(struct db_params *p)
{
	if (p->n >= DB_PARAMS_MAX)
		abort(); /* a statement of ours that is too long */
	return &p->v[p->n++];
}

void
db_param_str(struct db_params *p, const char *s)
{
	*next_param(p) = s;
}

void
db_param_i64(struct db_params *p, int64_t v)
{
	const char **at = next_param(p);
	char *text = p->numbers[p->n - 1];

	snprintf(text, sizeof(p->numbers[0]), "%lld", (long long)v);
	*at = text;
}

void
db_param_bool(struct db_params *p, bool v)
{
	*next_param(p) = v ? "t" : "f";
}

void
db_param_null(struct db_params *p)
{
	*next_param(p) = NULL;
}
