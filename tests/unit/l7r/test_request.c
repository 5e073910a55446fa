/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "base/str.h"
#include "json/json.h"
#include "l7r/request.h"

static int
parse(const char *value, struct arena *arena, struct cred *ret, struct err *err)
{
	struct http_param h = { "Authorization", value };
	struct http_params headers = { &h, value != NULL ? 1 : 0 };

	return cred_parse(&headers, arena, ret, err);
}

/* "Basic " and base64 of len bytes. */
static int
parse_bytes(const char *scheme, const char *bytes, size_t len,
    struct arena *arena, struct cred *ret, struct err *err)
{
	_cleanup_(freep)
	char *encoded = str_base64(bytes, len);
	_cleanup_(freep)
	char *value = xasprintf("%s %s", scheme, encoded);

	return parse(value, arena, ret, err);
}

static void
basic(void **state)
{
	static const struct {
		const char *text, *login, *password;
	} cases[] = {
		{ "alice:secret", "alice", "secret" },
		{ "alice:", "alice", "" },
		{ "alice:a:b:c", "alice", "a:b:c" },
		{ "alice@acme:x", "alice@acme", "x" },
		{ "alice:p\xe4ss", "alice", "p\xe4ss" }, /* Latin-1 */
		{ "Zo\xc3\xab:x", "Zo\xc3\xab", "x" },
	};
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(65536);
	struct cred cred;
	struct err err = { 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_ok(parse_bytes("Basic", cases[i].text,
		    strlen(cases[i].text), arena, &cred, &err));
		assert_int_equal(cred.kind, CRED_BASIC);
		assert_string_equal(cred.login, cases[i].login);
		assert_string_equal(cred.password, cases[i].password);
	}
	assert_ok(parse("basic   YWxpY2U6c2VjcmV0", arena, &cred, &err));
	assert_ok(parse("BASIC YWxpY2U6c2VjcmV0", arena, &cred, &err));
	/* Without padding. */
	assert_ok(parse("Basic YTpi", arena, &cred, &err));
	assert_ok(parse("Basic YTpiYw", arena, &cred, &err));
}

static void
bearer(void **state)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(65536);
	struct cred cred;
	struct err err = { 0 };

	assert_ok(parse_bytes("Bearer", "AbC123", 6, arena, &cred, &err));
	assert_int_equal(cred.kind, CRED_BEARER);
	assert_string_equal(cred.token, "AbC123");
	assert_ok(parse_bytes("Bearer", "AbC123\r\n", 8, arena, &cred, &err));
	assert_string_equal(cred.token, "AbC123");
	assert_err(parse_bytes("Bearer", "a b", 3, arena, &cred, &err), AUTH,
	    "base64");
	assert_err(parse_bytes("Bearer", "a\0b", 3, arena, &cred, &err), AUTH,
	    "base64");
	assert_err(
	    parse_bytes("Bearer", "\n", 1, arena, &cred, &err), AUTH, "base64");
}

static void
bad_credentials(void **state)
{
	static const char *const bad[] = { "", "Basic", "Basic ", "Basic  ",
		"Basic !", "Basic YWxpY2U=", "BasicYTpi", "Basicx YTpi",
		"Digest YTpi", " Basic YTpi", "Bearer", "Bearer ", "Bearer !",
		"Negotiate YTpi" };
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(65536);
	struct cred cred;
	struct err err = { 0 };
	char big[2000];
	size_t i;

	assert_err(parse(NULL, arena, &cred, &err), AUTH, "no header");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(parse(bad[i], arena, &cred, &err), AUTH, "");
	assert_err(
	    parse_bytes("Basic", ":x", 2, arena, &cred, &err), AUTH, "login");
	assert_err(parse_bytes("Basic", "a:b\0c", 5, arena, &cred, &err), AUTH,
	    "base64");
	assert_err(parse_bytes("Basic", "a\n:b", 4, arena, &cred, &err), AUTH,
	    "login");
	assert_err(parse_bytes("Basic", "\xff:b", 3, arena, &cred, &err), AUTH,
	    "login");
	memset(big, 'a', sizeof(big));
	big[1000] = ':';
	assert_err(parse_bytes("Basic", big, sizeof(big), arena, &cred, &err),
	    AUTH, "login");
	big[3] = ':';
	assert_err(parse_bytes("Basic", big, sizeof(big), arena, &cred, &err),
	    AUTH, "longer");
}

static void
no_room(void **state)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(4);
	struct cred cred;
	struct err err = { 0 };

	assert_err(parse_bytes("Basic", "alice:secret", 12, arena, &cred, &err),
	    TOO_LARGE, "too large");
}

static void
extra_headers(void **state)
{
	struct http_param h[] = {
		{ "Auth-52454d4f5445", "YWxpY2U=" }, /* REMOTE: alice */
		{ "auth-41", "Yg==" },               /* A: b */
		{ "Auth-", "YWxpY2U=" },
		{ "Auth-4", "YWxpY2U=" },
		{ "Auth-zz", "YWxpY2U=" },
		{ "Auth-42", "!" },
		{ "Auth-43", "AA==" },   /* a NUL */
		{ "Auth-4400", "YQ==" }, /* a NUL in the name */
		{ "Auth-20", "YQ==" },   /* a space as name */
		{ "Authorization", "YWxpY2U=" },
		{ "X", "Y" },
	};
	struct http_params headers = { h, ARRAY_SIZE(h) };
	json_t *json = auth_headers(&headers);

	assert_int_equal(json_object_size(json), 2);
	assert_string_equal(json_get_str(json, "REMOTE", ""), "alice");
	assert_string_equal(json_get_str(json, "A", ""), "b");
	json_decref(json);
}

static void
ids(void **state)
{
	struct http_param p = { "id", "17" };
	struct http_params query = { &p, 1 }, none = { NULL, 0 };
	static const char *const bad[] = { "", "x", "1x", "-1", "+1", " 1",
		"2147483648", "99999999999999999999" };
	struct err err = { 0 };
	size_t i;
	int id = -1;

	assert_ok(vm_id_parse(&query, &id, &err));
	assert_int_equal(id, 17);
	assert_err(vm_id_parse(&none, &id, &err), PARAMETER,
	    "parameter id is missing");
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		p.value = bad[i];
		assert_err(vm_id_parse(&query, &id, &err), PARAMETER, "id");
	}
	assert_int_equal(id, 17);
}

static void
parameters(void **state)
{
	struct http_param p[] = {
		{ "id", "1" },
		{ "qvd.client.os", "linux" },
		{ "custom.x", "y" },
		{ "bad", "" },
		{ "qvd.client", "" },
		{ "Custom.x", "" },
		{ "evil\r\nX: y", "" },
	};
	struct http_params query = { p, 3 };
	struct err err = { 0 };

	assert_ok(params_check(&query, &err));
	query.n = ARRAY_SIZE(p);
	assert_err(params_check(&query, &err), FORBIDDEN, "Invalid parameters");
	assert_string_equal(err.msg,
	    "Invalid parameters bad, qvd.client, Custom.x, evil??X: y");
}

static void
many_bad_parameters_fit(void **state)
{
	struct http_param p[HTTP_PARAMS_MAX];
	struct http_params query = { p, HTTP_PARAMS_MAX };
	struct err err = { 0 };
	size_t i;

	for (i = 0; i < HTTP_PARAMS_MAX; i++)
		p[i] =
		    (struct http_param){ "a-rather-long-name-of-nothing", "" };
	assert_err(params_check(&query, &err), FORBIDDEN, "Invalid");
}

/* The display of the parameters given, or NULL with *err. */
static json_t *
display_of(struct http_param *p, size_t n, struct err *err)
{
	struct http_params query = { p, n };
	json_t *params, *display = NULL;

	if (params_to_json(&query, &params, err) < 0)
		return NULL;
	if (params_to_display(params, &display, err) < 0)
		display = NULL;
	json_decref(params);
	return display;
}

static void
display(void **state)
{
	struct http_param p[] = {
		{ "id", "1" },
		{ "qvd.client.os", "windows" },
		{ "qvd.client.link", "modem" },
		{ "qvd.client.keyboard", "pc105/es" },
		{ "qvd.client.geometry", "1024x768+0+0" },
		{ "qvd.client.fullscreen", "1" },
		{ "qvd.client.nxagent.extra_args", "images=1,,cache=8M" },
		{ "custom.text", "anything \xc3\xa9" },
	};
	struct err err = { 0 };
	json_t *json = display_of(p, ARRAY_SIZE(p), &err);

	assert_non_null(json);
	assert_string_equal(json_get_str(json, "kind", ""), "nx");
	assert_string_equal(json_get_str(json, "client", ""), "windows");
	assert_string_equal(json_get_str(json, "link", ""), "modem");
	assert_string_equal(json_get_str(json, "keyboard", ""), "pc105/es");
	assert_string_equal(json_get_str(json, "geometry", ""), "1024x768+0+0");
	assert_true(json_get_bool(json, "fullscreen", false));
	json_decref(json);
}

static void
display_defaults(void **state)
{
	struct http_param p[] = {
		{ "qvd.client.geometry", "" },
		{ "qvd.client.fullscreen", "" },
		{ "qvd.client.link", "" },
	};
	struct err err = { 0 };
	json_t *json = display_of(p, ARRAY_SIZE(p), &err);

	assert_non_null(json);
	assert_null(json_object_get(json, "geometry"));
	assert_string_equal(json_get_str(json, "link", ""), "adsl");
	assert_string_equal(json_get_str(json, "keyboard", ""), "pc105/us");
	assert_string_equal(json_get_str(json, "client", ""), "linux");
	assert_false(json_get_bool(json, "fullscreen", true));
	json_decref(json);
}

static void
bad_values(void **state)
{
	static const struct http_param bad[] = {
		{ "qvd.client.link", "a,b" },
		{ "qvd.client.link", "a b" },
		{ "qvd.client.link", "a:100" },
		{ "qvd.client.keyboard", "pc105/us=1" },
		{ "qvd.client.geometry", "1x1\n" },
		{ "qvd.client.os", "li\xc3\xb1ux" },
		{ "qvd.client.nxagent.extra_args", "images"
						   ",auth=x" },
		{ "qvd.client.nxagent.extra_args", "client=x" },
		{ "qvd.client.nxagent.extra_args", "listen=4000" },
		{ "qvd.client.nxagent.extra_args", "images =1" },
		{ "custom.x", "a\x01" },
		{ "custom.x", "\xff" },
		{ "custom.a b", "x" },
		{ "custom.a\n", "x" },
	};
	struct err err = { 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct http_param p = bad[i];

		err = (struct err){ 0 };
		assert_null(display_of(&p, 1, &err));
		assert_int_equal(err.code, ERR_PARAMETER);
	}
}

static void
lines(void **state)
{
	char dst[8];

	assert_string_equal(line_of(dst, sizeof(dst), "abc"), "abc");
	assert_string_equal(line_of(dst, sizeof(dst), "a\r\nb\x7f"), "a??b?");
	assert_string_equal(line_of(dst, sizeof(dst), "\xc3\xa9"), "??");
	assert_string_equal(line_of(dst, sizeof(dst), "123456789"), "1234567");
	assert_string_equal(line_of(dst, sizeof(dst), ""), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(basic),
		cmocka_unit_test(bearer),
		cmocka_unit_test(bad_credentials),
		cmocka_unit_test(no_room),
		cmocka_unit_test(extra_headers),
		cmocka_unit_test(ids),
		cmocka_unit_test(parameters),
		cmocka_unit_test(many_bad_parameters_fit),
		cmocka_unit_test(display),
		cmocka_unit_test(display_defaults),
		cmocka_unit_test(bad_values),
		cmocka_unit_test(lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
