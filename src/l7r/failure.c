/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "l7r/failure.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/str.h"
#include "json/json.h"

void
ref_new(char ret_ref[static REF_LEN + 1])
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	unsigned char r[REF_LEN];
	int i;

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		abort();
	for (i = 0; i < REF_LEN; i++)
		ret_ref[i] = alphabet[r[i] & 31];
	ret_ref[REF_LEN] = '\0';
}

void
failure_from_err(struct failure *f, const struct err *err)
{
	*f = (struct failure){ .err = *err };
	ref_new(f->ref);
}

void
failure_set(
    struct failure *f, int status, enum err_code code, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*f = (struct failure){ .status = status };
	err_set(&f->err, code, "%s", text);
	ref_new(f->ref);
}

int
failure_status(const struct failure *f)
{
	return f->status != 0 ? f->status : err_http_status(f->err.code);
}

json_t *
failure_to_json(const struct failure *f)
{
	json_t *o = json_object(), *in = json_object();
	json_t *msg = json_string(f->err.msg);

	json_object_set_new(in, "id", json_string(err_id(f->err.code)));
	json_object_set_new(
	    in, "message", msg != NULL ? msg : json_string("unknown failure"));
	json_object_set_new(in, "ref", json_string(f->ref));
	json_object_set_new(in, "status", json_integer(f->status));
	json_object_set_new(o, "failed", in);
	return o;
}

bool
failure_from_json(const json_t *answer, struct failure *ret)
{
	const json_t *in = json_object_get(answer, "failed");
	struct failure f = { 0 };

	if (!json_is_object(in))
		return false;
	err_set(&f.err, err_from_id(json_get_str(in, "id", "")), "%s",
	    json_get_str(in, "message", "unknown failure"));
	str_copy(f.ref, sizeof(f.ref), json_get_str(in, "ref", ""));
	if (strlen(f.ref) != REF_LEN)
		ref_new(f.ref);
	f.status = (int)json_get_int(in, "status", 0);
	*ret = f;
	return true;
}
