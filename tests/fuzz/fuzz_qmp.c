/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What QEMU's monitor may say, in pieces whose length the first byte gives.
 * Each message is complete, and after the first wrong one there is none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "hypervisor/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct qmp_message *msg)
{
	if (msg->data == NULL || strlen(msg->name) >= QMP_NAME_MAX)
		abort();
	if ((msg->kind == QMP_EVENT || msg->kind == QMP_ERROR) &&
	    msg->name[0] == '\0')
		abort();
	if (msg->kind == QMP_GREETING && !json_is_object(msg->data))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size > 0 && data[0] > 0 ? data[0] : 1, pos = 0, n;
	struct qmp_parser p;
	struct qmp_message msg;
	struct err err;
	int r = 0;

	qmp_parser_init(&p);
	while (pos < size) {
		n = size - pos < piece ? size - pos : piece;
		if (qmp_parser_feed(&p, data + pos, n, &err) < 0)
			break;
		pos += n;
		while ((r = qmp_parser_next(&p, &msg, &err)) > 0) {
			check(&msg);
			qmp_message_done(&msg);
		}
		if (r < 0 && (qmp_parser_next(&p, &msg, &err) >= 0 ||
				 qmp_parser_feed(&p, "\n", 1, &err) >= 0))
			abort();
	}
	qmp_parser_done(&p);
	return 0;
}
