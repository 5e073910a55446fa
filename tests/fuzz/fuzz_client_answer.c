/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client's parser of a server's answers. The first byte says in what
 * steps the rest arrives. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"
#include "client/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct answer *a, int r)
{
	assert(str_is_text(a->headers.info, sizeof(a->headers.info)) ||
	       a->headers.info[0] == '\0');
	assert(buf_len(&a->body) <= ANSWER_BODY_MAX);
	if (r == ANSWER_UPGRADED)
		assert(a->status == 101);
	if (r == ANSWER_FINAL)
		assert(a->status >= 200 && a->status <= 999);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct err err = { 0 };
	size_t step, used, n;
	struct answer a;
	int r = ANSWER_MORE;

	if (size < 1)
		return 0;
	step = 1 + data[0] % 64;
	size--;
	answer_init(&a);
	while (size > 0 && (r == ANSWER_MORE || r == ANSWER_INTERIM)) {
		n = size < step ? size : step;
		used = 0;
		r = answer_feed(&a, text, n, &used, &err);
		if (r < 0)
			break;
		assert(used > 0 && used <= n);
		assert(r != ANSWER_MORE || used == n);
		if (r != ANSWER_MORE)
			check(&a, r);
		text += used;
		size -= used;
	}
	if (r == ANSWER_MORE)
		answer_eof(&a, &err);
	answer_done(&a);
	return 0;
}
