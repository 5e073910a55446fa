/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>

#include "vma/options.h"
#include "vma/request.h"

#define USER "\"user\":{\"name\":\"alice\",\"uid\":2000}"
#define REQUEST(display, params)                                \
	"{\"generation\":1," USER ",\"display\":{" display "}," \
	"\"params\":{" params "}}"

static struct request *
parse(const char *text)
{
	struct request *req = NULL;
	struct err err = { 0 };

	if (request_parse(text, strlen(text), &req, &err) < 0)
		fail_msg("%s", err.msg);
	return req;
}

static char *
build(struct request *req, const char **refused)
{
	struct err err;
	struct buf out;
	char *text;

	buf_init(&out, OPTIONS_MAX);
	assert_int_equal(
	    options_build(req, "/run/s/nx.sock", 100, &out, refused, &err), 0);
	text = buf_take_str(&out);
	buf_done(&out);
	return text;
}

static void
builds_the_options_of_a_display(void **state)
{
	struct request *req = parse(REQUEST(
	    "\"kind\":\"nx\",\"link\":\"adsl\",\"keyboard\":\"pc105/us\","
	    "\"geometry\":\"1024x768\",\"fullscreen\":true,"
	    "\"client\":\"linux\"",
	    ""));
	const char *refused;
	char *text = build(req, &refused);

	assert_string_equal(text,
	    "nx/nx,client=linux,keyboard=pc105/us,link=adsl,geometry=1024x768"
	    ",fullscreen=1,resize=1,clipboard=both,sleep=0,"
	    "tolerancechecks=risky,xinerama=0,listen=unix:/run/s/"
	    "nx.sock:100\n");
	assert_null(refused);
	free(text);
	request_free(req);
}

static void
takes_only_harmless_arguments_of_a_client(void **state)
{
	struct request *req = parse(
	    REQUEST("", "\"qvd.client.nxagent.extra_args\":"
			"\"pack=16m-jpeg-9,options=/etc/shadow,,cache,delta=1,"
			"listen=tcp:1,images=a:b,autodpi=,xinerama=1\""));
	const char *refused;
	char *text = build(req, &refused);

	assert_string_equal(text,
	    "nx/nx,fullscreen=0,resize=1,clipboard=both,sleep=0,"
	    "tolerancechecks=risky,xinerama=0,pack=16m-jpeg-9,delta=1,"
	    "xinerama=1,listen=unix:/run/s/nx.sock:100\n");
	assert_string_equal(refused, "options");
	free(text);
	request_free(req);
}

static void
the_cookie_is_for_the_display_and_new(void **state)
{
	unsigned char a[XAUTHORITY_MAX], b[XAUTHORITY_MAX];
	size_t n = options_xauthority(100, a);

	assert_int_equal(n, options_xauthority(100, b));
	assert_int_equal(n, 2 + 2 + 2 + 3 + 2 + 18 + 2 + 16);
	assert_memory_equal(a,
	    "\xff\xff\0\0\0\3"
	    "100\0\22MIT-MAGIC-COOKIE-1\0\20",
	    n - 16);
	assert_memory_not_equal(a + n - 16, b + n - 16, 16);
}

static void
no_binding_ends_a_session(void **state)
{
	assert_null(strstr(options_keystrokes, "close_session"));
	assert_null(strstr(options_keystrokes, "reread"));
	assert_non_null(strstr(options_keystrokes, "</keystrokes>"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_the_options_of_a_display),
		cmocka_unit_test(takes_only_harmless_arguments_of_a_client),
		cmocka_unit_test(the_cookie_is_for_the_display_and_new),
		cmocka_unit_test(no_binding_ends_a_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
