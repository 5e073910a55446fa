/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The body of POST /session, and the option file made of it: one line,
 * whatever the client sent. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "vma/options.h"
#include "vma/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(request_freep)
	struct request *req = NULL;
	struct err err = { 0 };
	const char *refused, *end;
	struct buf out;

	if (request_parse((const char *)data, size, &req, &err) < 0)
		return 0;
	assert(req->user.uid >= 1000);
	assert(request_user_name_ok(req->user.name));
	buf_init(&out, OPTIONS_MAX);
	if (options_build(req, "/run/s/nx.sock", 100, &out, &refused, &err) ==
	    0) {
		end = memchr(buf_head(&out), '\n', buf_len(&out));
		assert(end == buf_head(&out) + buf_len(&out) - 1);
	}
	buf_done(&out);
	return 0;
}
