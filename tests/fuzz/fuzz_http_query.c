/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The query of a URL: names and values, decoded. */
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "net/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(arena_freep)
	struct arena *arena = arena_new(size * 4 + 65536);
	_cleanup_(freep)
	char *text = xcalloc(size + 1, 1);
	struct http_params q = { 0 };
	struct err err = { 0 };
	size_t i, total = 0;

	memcpy(text, data, size);
	if (http_query_parse(text, size, arena, &q, &err) < 0) {
		if (!err_is_set(&err))
			abort();
		return 0;
	}
	if (q.n > HTTP_PARAMS_MAX)
		abort();
	for (i = 0; i < q.n; i++) {
		total += strlen(q.v[i].name) + strlen(q.v[i].value);
		if (http_query(&q, q.v[i].name) == NULL)
			abort();
	}
	if (total > size)
		abort();
	return 0;
}
