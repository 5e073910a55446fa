/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the router reads of a client's request: line one the query, line two
 * the value of Authorization, the rest "Auth-<hex>: value" lines. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "l7r/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_params(const struct http_params *query)
{
	json_t *params = NULL, *display = NULL;
	struct err err;
	int id;

	vm_id_parse(query, &id, &err);
	params_check(query, &err);
	if (params_to_json(query, &params, &err) < 0)
		return;
	if (params_to_display(params, &display, &err) == 0 &&
	    json_object_get(display, "link") == NULL)
		abort();
	json_decref(params);
	json_decref(display);
}

static void
check_cred(const struct http_params *headers, struct arena *arena)
{
	struct cred cred = { 0 };
	struct err err;

	if (cred_parse(headers, arena, &cred, &err) < 0)
		return;
	if (cred.kind == CRED_BASIC ? cred.login[0] == '\0'
				    : cred.token[0] == '\0')
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(256 * 1024);
	_cleanup_(freep)
	char *text = xstrndup((const char *)data, size);
	struct http_param h[HTTP_PARAMS_MAX];
	struct http_params headers = { h, 0 }, query;
	char *line, *rest = text, *colon;
	struct err err;
	int n = 0;

	while (headers.n < HTTP_PARAMS_MAX &&
	       (line = strsep(&rest, "\n")) != NULL) {
		colon = strchr(line, ':');
		if (n++ == 0) {
			if (http_query_parse(
				line, strlen(line), arena, &query, &err) == 0)
				check_params(&query);
		} else if (n == 2) {
			h[headers.n++] =
			    (struct http_param){ "Authorization", line };
		} else if (colon != NULL) {
			*colon = '\0';
			h[headers.n++] = (struct http_param){ line, colon + 1 };
		}
	}
	check_cred(&headers, arena);
	json_decref(auth_headers(&headers));
	return 0;
}
