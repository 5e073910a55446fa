/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "l7r/request.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"

#define LOGIN_MAX    160 /* login, separator, tenant, and some air */
#define PASSWORD_MAX 512
#define TOKEN_MAX    512
#define VALUE_MAX    4096
#define DISPLAY_MAX  64

static const char bad_credentials[] =
    "the header Authorization is not 'Basic' or 'Bearer' with base64";

/* Copies secrets out of a heap buffer, which is wiped. */
static void
wipe_bufp(char **p)
{
	if (*p != NULL)
		explicit_bzero(*p, strlen(*p));
	freep(p);
}

static int
parse_basic(char *text, size_t n, struct arena *arena, struct cred *ret,
    struct err *err)
{
	char *colon = memchr(text, ':', n);
	const char *login, *password;

	if (colon == NULL || memchr(text, '\0', n) != NULL)
		return err_set(err, ERR_AUTH, "%s", bad_credentials);
	*colon = '\0';
	if (!str_is_text(text, LOGIN_MAX) || text[0] == '\0')
		return err_set(err, ERR_AUTH,
		    "the login is empty, too long "
		    "or not UTF-8 text");
	if (strlen(colon + 1) > PASSWORD_MAX)
		return err_set(err, ERR_AUTH,
		    "the password is longer than %d bytes", PASSWORD_MAX);
	login = arena_strdup(arena, text);
	password = arena_strdup(arena, colon + 1);
	if (login == NULL || password == NULL)
		return err_set(err, ERR_TOO_LARGE, "the request is too large");
	*ret = (struct cred){
		.kind = CRED_BASIC,
		.login = login,
		.password = password,
	};
	return 0;
}

static int
parse_bearer(const char *text, size_t n, struct arena *arena, struct cred *ret,
    struct err *err)
{
	const char *token;

	/* Tokens of the original end with a newline. */
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	if ((token = arena_strndup(arena, text, n)) == NULL)
		return err_set(err, ERR_TOO_LARGE, "the request is too large");
	if (!str_is_token(token, TOKEN_MAX) || strlen(token) != n)
		return err_set(err, ERR_AUTH, "%s", bad_credentials);
	*ret = (struct cred){ .kind = CRED_BEARER, .token = token };
	return 0;
}

int
cred_parse(const struct http_params *headers, struct arena *arena,
    struct cred *ret, struct err *err)
{
	_cleanup_(wipe_bufp)
	char *text = NULL;
	const char *value = http_header(headers, "Authorization"), *space;
	size_t scheme, n;
	int r;

	if (value == NULL)
		return err_set(err, ERR_AUTH, "no header Authorization");
	arena_set_secret(arena);
	if ((space = strchr(value, ' ')) == NULL)
		return err_set(err, ERR_AUTH, "%s", bad_credentials);
	scheme = (size_t)(space - value);
	space += strspn(space, " ");
	text = str_unbase64(space, strlen(space), &n);
	if (text == NULL)
		return err_set(err, ERR_AUTH, "%s", bad_credentials);
	if (scheme == 5 && strncasecmp(value, "Basic", 5) == 0)
		r = parse_basic(text, n, arena, ret, err);
	else if (scheme == 6 && strncasecmp(value, "Bearer", 6) == 0)
		r = parse_bearer(text, n, arena, ret, err);
	else
		r = err_set(err, ERR_AUTH, "%s", bad_credentials);
	explicit_bzero(text, n);
	return r;
}

json_t *
auth_headers(const struct http_params *headers)
{
	json_t *out = json_object();
	size_t i;

	for (i = 0; i < headers->n; i++) {
		const struct http_param *h = &headers->v[i];
		_cleanup_(freep)
		char *value = NULL;
		char name[129];
		size_t n;

		if (strncasecmp(h->name, "Auth-", 5) != 0 ||
		    !str_unhex(h->name + 5, name, sizeof(name) - 1, &n))
			continue;
		name[n] = '\0';
		if (n == 0 || !str_is_token(name, 128) || strlen(name) != n)
			continue;
		value = str_unbase64(h->value, strlen(h->value), &n);
		if (value != NULL && strlen(value) == n &&
		    str_is_text(value, VALUE_MAX))
			json_object_set_new(out, name, json_string(value));
	}
	return out;
}

int
vm_id_parse(const struct http_params *query, int *ret_vm_id, struct err *err)
{
	const char *id = http_query(query, "id");

	if (id == NULL)
		return err_set(err, ERR_PARAMETER, "parameter id is missing");
	if (!str_to_int(id, 0, INT32_MAX, ret_vm_id))
		return err_set(err, ERR_PARAMETER,
		    "parameter id is not the number of a virtual machine");
	return 0;
}

int
params_check(const struct http_params *query, struct err *err)
{
	char names[400], name[80];
	size_t i, used = 0;

	for (i = 0; i < query->n; i++) {
		if (str_eq(query->v[i].name, "id") ||
		    str_starts(query->v[i].name, "qvd.client.") ||
		    str_starts(query->v[i].name, "custom."))
			continue;
		line_of(name, sizeof(name), query->v[i].name);
		if (used + strlen(name) + 3 < sizeof(names))
			used +=
			    (size_t)snprintf(names + used, sizeof(names) - used,
				"%s%s", used > 0 ? ", " : "", name);
	}
	if (used > 0)
		return err_set(
		    err, ERR_FORBIDDEN, "Invalid parameters %s", names);
	return 0;
}

/* What the agent's option string can hold (docs/internals.md). */
static bool
is_option_text(const char *s, size_t max)
{
	size_t n =
	    strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		      "0123456789_/+.-");

	return s[n] == '\0' && n <= max;
}

/* Options of nxagent that change how the picture travels, nothing else. */
static bool
is_harmless_option(const char *name, size_t n)
{
	static const char *const names[] = { "autodpi", "backingstore", "cache",
		"clipboard", "composite", "data", "delta", "fullscreen",
		"geometry", "images", "keyboard", "keyconv", "kbtype", "limit",
		"link", "magicpixel", "menu", "pack", "quality", "render",
		"resize", "shmem", "shpix", "sleep", "stream", "streaming",
		"taint", "textclipboard", "tolerancechecks", "xinerama" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
			return true;
	return false;
}

static int
check_extra_args(const char *list, struct err *err)
{
	char name[60];
	size_t len, eq;

	for (; *list != '\0'; list += len + (list[len] == ',')) {
		len = strcspn(list, ",");
		eq = strcspn(list, "=,");
		if (len == 0 || is_harmless_option(list, eq))
			continue;
		str_escape(name, sizeof(name), list, eq);
		return err_set(err, ERR_PARAMETER,
		    "option '%s' in parameter qvd.client.nxagent.extra_args "
		    "is not allowed",
		    name);
	}
	return 0;
}

static int
check_value(const struct http_param *p, struct err *err)
{
	char name[60];

	if (str_is_name(p->name, 128) &&
	    (p->value[0] == '\0' || str_is_text(p->value, VALUE_MAX)))
		return 0;
	str_escape(name, sizeof(name), p->name, strlen(p->name));
	return err_set(err, ERR_PARAMETER,
	    "parameter %s has a name that is none, or is not UTF-8 text of at "
	    "most %d bytes",
	    name, VALUE_MAX);
}

int
params_to_json(
    const struct http_params *query, json_t **ret_params, struct err *err)
{
	json_t *params = json_object();
	size_t i;
	int r;

	for (i = 0; i < query->n; i++) {
		if (str_eq(query->v[i].name, "id"))
			continue;
		if ((r = check_value(&query->v[i], err)) < 0) {
			json_decref(params);
			return r;
		}
		json_object_set_new(
		    params, query->v[i].name, json_string(query->v[i].value));
	}
	*ret_params = params;
	return 0;
}

static int
set_option(json_t *display, const json_t *params, const char *key,
    const char *param, const char *def, struct err *err)
{
	const char *value = json_get_str(params, param, "");

	if (value[0] == '\0')
		value = def;
	if (value == NULL)
		return 0;
	if (!is_option_text(value, DISPLAY_MAX))
		return err_set(err, ERR_PARAMETER,
		    "invalid characters in parameter %s", param);
	json_object_set_new(display, key, json_string(value));
	return 0;
}

int
params_to_display(const json_t *params, json_t **ret_display, struct err *err)
{
	static const struct {
		const char *key, *param, *def;
	} options[] = {
		{ "link", "qvd.client.link", "adsl" },
		{ "keyboard", "qvd.client.keyboard", "pc105/us" },
		{ "geometry", "qvd.client.geometry", NULL },
		{ "client", "qvd.client.os", "linux" },
	};
	json_t *display = json_pack("{s:s}", "kind", "nx");
	const char *full = json_get_str(params, "qvd.client.fullscreen", "");
	size_t i;
	int r;

	json_object_set_new(
	    display, "fullscreen", json_boolean(str_eq(full, "1")));
	r = check_extra_args(
	    json_get_str(params, "qvd.client.nxagent.extra_args", ""), err);
	for (i = 0; r == 0 && i < ARRAY_SIZE(options); i++)
		r = set_option(display, params, options[i].key,
		    options[i].param, options[i].def, err);
	if (r < 0) {
		json_decref(display);
		return r;
	}
	*ret_display = display;
	return 0;
}

char *
line_of(char *dst, size_t size, const char *text)
{
	size_t i;

	for (i = 0; text[i] != '\0' && i < size - 1; i++)
		dst[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	dst[i] = '\0';
	return dst;
}
