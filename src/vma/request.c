/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vma/request.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"

#define ARENA_LIMIT (512 * 1024)
#define NAME_MAX_   32 /* as Linux' useradd */

struct top {
	int64_t generation;
	const char *user, *display, *params;
	bool resume;
};

static const struct field top_fields[] = {
	FIELD(struct top, generation, I64, .flags = FIELD_REQUIRED, .min = 0,
	    .max = INT64_MAX,
	    .doc = "Grows with each client that takes the session."),
	FIELD(struct top, user, JSON, .flags = FIELD_REQUIRED, .max = 65536),
	FIELD(struct top, display, JSON, .flags = FIELD_REQUIRED),
	FIELD(struct top, params, JSON, .max = REQUEST_BODY_MAX),
	FIELD(struct top, resume, BOOL,
	    .doc = "From a client that lost its link: begin no new session "
		   "after the user logged out."),
	FIELD_END
};

static const struct field user_fields[] = { FIELD(struct request_user, name,
						STR, .flags = FIELD_REQUIRED,
						.max = NAME_MAX_),
	FIELD(struct request_user, uid, I32, .flags = FIELD_REQUIRED,
	    .min = INT32_MIN, .max = INT32_MAX),
	FIELD(struct request_user, gid, I32, .min = 0, .max = INT32_MAX),
	FIELD(struct request_user, group, STR, .max = NAME_MAX_),
	FIELD(struct request_user, groups, JSON),
	FIELD(struct request_user, full_name, STR, .max = 256),
	FIELD(struct request_user, home, STR, .max = 256),
	FIELD(struct request_user, shell, STR, .max = 256), FIELD_END };

static const struct field display_fields[] = { FIELD(struct request_display,
						   kind, STR, .max = 16),
	FIELD(struct request_display, link, STR, .max = 32),
	FIELD(struct request_display, keyboard, STR, .max = 128),
	FIELD(struct request_display, geometry, STR, .max = 64),
	FIELD(struct request_display, client, STR, .max = 32),
	FIELD(struct request_display, fullscreen, BOOL), FIELD_END };

bool
request_user_name_ok(const char *name)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "abcdefghijklmnopqrstuvwxyz_";
	static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "abcdefghijklmnopqrstuvwxyz_"
				   "0123456789.@+-";
	size_t len = strlen(name);

	return len > 0 && len <= NAME_MAX_ && strchr(first, name[0]) != NULL &&
	       strspn(name, rest) == len;
}

static bool
path_ok(const char *path)
{
	return path[0] == '/' && str_is_token(path, 256) &&
	       strpbrk(path, ":,\\\"'") == NULL && strstr(path, "/..") == NULL;
}

static int
groups_check(const json_t *list, struct err *err)
{
	const json_t *g;
	size_t i;

	if (list == NULL || json_is_null(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) > REQUEST_GROUPS_MAX)
		return err_set(err, ERR_PARAMETER,
		    "user.groups must be a list of at most %d names",
		    REQUEST_GROUPS_MAX);
	json_array_foreach (list, i, g) {
		if (!json_is_string(g) ||
		    !request_user_name_ok(json_string_value(g)))
			return err_set(err, ERR_PARAMETER,
			    "user.groups has a name that no group can have");
	}
	return 0;
}

static int
user_check(struct request_user *u, struct err *err)
{
	char *p;

	if (!request_user_name_ok(u->name)) {
		char shown[128];

		return err_set(err, ERR_PARAMETER,
		    "'%s' can't be the name of a Linux user: letters, digits "
		    "and _ . @ + - only, a letter first, at most %d",
		    str_escape(shown, sizeof(shown), u->name, strlen(u->name)),
		    NAME_MAX_);
	}
	if (u->uid <= 0 || str_eq(u->name, "root"))
		return err_set(err, ERR_FORBIDDEN,
		    "a desktop never runs as root: give the user '%s' another "
		    "name and a uid from 1000 up",
		    u->name);
	if (u->uid < 1000 || u->uid == 65534 || u->uid == 65535)
		return err_set(err, ERR_FORBIDDEN,
		    "uid %d is one of the system's: give the user '%s' a uid "
		    "from 1000 up",
		    (int)u->uid, u->name);
	if (u->group != NULL && !request_user_name_ok(u->group))
		return err_set(err, ERR_PARAMETER,
		    "user.group is a name that no group can have");
	if ((u->home != NULL && !path_ok(u->home)) ||
	    (u->shell != NULL && !path_ok(u->shell)))
		return err_set(err, ERR_PARAMETER,
		    "user.home and user.shell must be absolute paths without "
		    "blanks, ':', ',' and quotes");
	/* What would end the field, or the line, becomes a blank. */
	for (p = (char *)(uintptr_t)u->full_name; p != NULL && *p != '\0';
	     p++) {
		if (*p == ':' || *p == ',' || (unsigned char)*p < ' ' ||
		    *p == 127)
			*p = ' ';
	}
	return 0;
}

/* No comma, colon or equals sign may reach the agent's option file. */
static int
display_check(const struct request_display *d, struct err *err)
{
	static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "abcdefghijklmnopqrstuvwxyz"
				 "0123456789_/+.-";
	const struct {
		const char *name, *value;
	} v[] = { { "link", d->link }, { "keyboard", d->keyboard },
		{ "geometry", d->geometry }, { "client", d->client } };
	size_t i;

	if (d->kind != NULL && !str_eq(d->kind, "nx"))
		return err_set(err, ERR_PARAMETER,
		    "display.kind must be 'nx', the kind this agent serves");
	for (i = 0; i < ARRAY_SIZE(v); i++) {
		if (v[i].value != NULL &&
		    strspn(v[i].value, ok) != strlen(v[i].value))
			return err_set(err, ERR_PARAMETER,
			    "display.%s may only hold letters, digits and "
			    "_ / + . -",
			    v[i].name);
	}
	return 0;
}

static int
params_check(json_t *params, struct err *err)
{
	const char *name;
	json_t *v;

	if (params == NULL || json_is_null(params))
		return 0;
	if (!json_is_object(params) ||
	    json_object_size(params) > REQUEST_PARAMS_MAX)
		return err_set(err, ERR_PARAMETER,
		    "params must be an object of at most %d members",
		    REQUEST_PARAMS_MAX);
	json_object_foreach (params, name, v) {
		if (!str_is_token(name, 128))
			return err_set(err, ERR_PARAMETER,
			    "params has a name with blanks, not ASCII or "
			    "longer than 128");
		if (!json_is_string(v) || json_string_length(v) > 4096 ||
		    strlen(json_string_value(v)) != json_string_length(v))
			return err_set(err, ERR_PARAMETER,
			    "params.%s must be a string of at most 4096 bytes",
			    name);
	}
	return 0;
}

int
request_parse(
    const char *text, size_t len, struct request **ret, struct err *err)
{
	_cleanup_(request_freep)
	struct request *req = new0(struct request);
	json_t *root, *params;
	struct top top = { 0 };
	int r;

	req->arena = arena_new(ARENA_LIMIT);
	arena_set_secret(req->arena);
	if ((r = json_parse(text, len, &root, err)) < 0)
		return r;
	params = json_object_get(root, "params");
	if ((r = json_decode(root, top_fields, &top, req->arena, NULL, err)) <
		0 ||
	    (r = json_decode(json_object_get(root, "user"), user_fields,
		 &req->user, req->arena, NULL, err)) < 0 ||
	    (r = json_decode(json_object_get(root, "display"), display_fields,
		 &req->display, req->arena, NULL, err)) < 0 ||
	    (r = user_check(&req->user, err)) < 0 ||
	    (r = groups_check(
		 json_object_get(json_object_get(root, "user"), "groups"),
		 err)) < 0 ||
	    (r = display_check(&req->display, err)) < 0 ||
	    (r = params_check(params, err)) < 0) {
		json_decref(root);
		return err_wrap(err, r, "start the session");
	}
	req->generation = top.generation;
	req->resume = top.resume;
	req->params =
	    json_is_object(params) ? json_incref(params) : json_object();
	json_decref(root);
	*ret = take_ptr(req);
	return 0;
}

void
request_free(struct request *req)
{
	if (req == NULL)
		return;
	arena_free(req->arena);
	json_decref(req->params);
	free(req);
}

void
request_freep(struct request **req)
{
	request_free(*req);
}

const char *
request_param(const struct request *req, const char *name)
{
	return json_string_value(json_object_get(req->params, name));
}

bool
request_param_is_secret(const char *name)
{
	return strstr(name, "key") != NULL || strstr(name, "token") != NULL ||
	       strstr(name, "passw") != NULL || strstr(name, "secret") != NULL;
}
