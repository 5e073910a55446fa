/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "vma/request.h"

static enum err_code
code_of(const char *text)
{
	struct request *req = NULL;
	struct err err = { 0 };

	if (request_parse(text, strlen(text), &req, &err) == 0) {
		request_free(req);
		return ERR_NONE;
	}
	assert_true(err_is_set(&err));
	assert_null(req);
	return err.code;
}

/* A request with these members of the user, of the display. */
static enum err_code
with(const char *user, const char *display)
{
	char text[2048];

	snprintf(text, sizeof(text),
	    "{\"generation\":1,\"user\":{%s},\"display\":{%s}}", user, display);
	return code_of(text);
}

static void
reads_everything(void **state)
{
	static const char text[] =
	    "{\"generation\":17,\"user\":{\"name\":\"alice\",\"uid\":2000,"
	    "\"full_name\":\"Al:i,ce\\nX\",\"groups\":[\"audio\"],"
	    "\"shell\":\"/bin/zsh\"},\"display\":{\"kind\":\"nx\"},"
	    "\"params\":{\"qvd.slave.key\":\"s\",\"custom.x\":\"y\"}}";
	struct request *req;
	struct err err;

	assert_int_equal(request_parse(text, strlen(text), &req, &err), 0);
	assert_int_equal(req->generation, 17);
	assert_string_equal(req->user.name, "alice");
	assert_string_equal(req->user.full_name, "Al i ce X");
	assert_string_equal(request_param(req, "custom.x"), "y");
	assert_null(request_param(req, "custom.y"));
	assert_true(request_param_is_secret("qvd.slave.key"));
	assert_false(request_param_is_secret("custom.x"));
	request_free(req);
}

static void
root_and_system_users_get_no_desktop(void **state)
{
	assert_int_equal(
	    with("\"name\":\"root\",\"uid\":2000", ""), ERR_FORBIDDEN);
	assert_int_equal(
	    with("\"name\":\"alice\",\"uid\":0", ""), ERR_FORBIDDEN);
	assert_int_equal(
	    with("\"name\":\"alice\",\"uid\":-1", ""), ERR_FORBIDDEN);
	assert_int_equal(
	    with("\"name\":\"alice\",\"uid\":33", ""), ERR_FORBIDDEN);
	assert_int_equal(
	    with("\"name\":\"alice\",\"uid\":65534", ""), ERR_FORBIDDEN);
	assert_int_equal(with("\"name\":\"alice\",\"uid\":1000", ""), 0);
}

static void
refuses_what_would_break_a_file(void **state)
{
	static const char *const users[] = { "\"name\":\"\"",
		"\"name\":\"a:b\"", "\"name\":\"a/b\"", "\"name\":\"..\"",
		"\"name\":\"a\\nb\"", "\"name\":\"-a\"", "\"name\":\"1a\"",
		"\"name\":\"abcdefghijklmnopqrstuvwxyz0123456\"",
		"\"name\":\"a\",\"shell\":\"/bin/sh:x\"",
		"\"name\":\"a\",\"shell\":\"bash\"",
		"\"name\":\"a\",\"home\":\"/home/../etc\"",
		"\"name\":\"a\",\"group\":\"x y\"",
		"\"name\":\"a\",\"groups\":\"audio\"",
		"\"name\":\"a\",\"groups\":[1]",
		"\"name\":\"a\",\"groups\":[\"a,b\"]" };
	static const char *const displays[] = { "\"link\":\"a,b\"",
		"\"geometry\":\"1:2\"", "\"keyboard\":\"a=b\"",
		"\"client\":\"a b\"", "\"client\":\"a\\n\"", "\"kind\":\"vnc\"",
		"\"fullscreen\":\"yes\"" };
	char user[256];

	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		snprintf(user, sizeof(user), "%s,\"uid\":2000", users[i]);
		assert_int_not_equal(with(user, ""), ERR_NONE);
	}
	for (size_t i = 0; i < ARRAY_SIZE(displays); i++)
		assert_int_equal(
		    with("\"name\":\"a\",\"uid\":2000", displays[i]),
		    ERR_PARAMETER);
}

static void
refuses_what_is_no_request(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "1", "null", "{}",
		"{\"generation\":1}",
		"{\"generation\":-1,\"user\":{\"name\":\"a\",\"uid\":2000},"
		"\"display\":{}}",
		"{\"generation\":1,\"user\":[],\"display\":{}}",
		"{\"generation\":1,\"user\":{\"name\":\"a\",\"uid\":2000},"
		"\"display\":3}",
		"{\"generation\":1,\"user\":{\"name\":\"a\",\"uid\":2000},"
		"\"display\":{},\"params\":[]}",
		"{\"generation\":1,\"user\":{\"name\":\"a\",\"uid\":2000},"
		"\"display\":{},\"params\":{\"a\":1}}",
		"{\"generation\":1,\"user\":{\"name\":\"a\",\"uid\":2000},"
		"\"display\":{},\"params\":{\"a b\":\"1\"}}" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_not_equal(code_of(bad[i]), ERR_NONE);
}

static void
names_of_users(void **state)
{
	assert_true(request_user_name_ok("alice.b@example.org"));
	assert_true(request_user_name_ok("_x-1+"));
	assert_false(request_user_name_ok(".hidden"));
	assert_false(request_user_name_ok("a b"));
	assert_false(request_user_name_ok("\xc3\xa4"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_everything),
		cmocka_unit_test(root_and_system_users_get_no_desktop),
		cmocka_unit_test(refuses_what_would_break_a_file),
		cmocka_unit_test(refuses_what_is_no_request),
		cmocka_unit_test(names_of_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
