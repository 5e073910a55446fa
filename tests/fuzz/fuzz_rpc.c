/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages between our own processes, as a broken or hostile one may send
 * them: each line of the input is a packet. The end under test has asked
 * something itself, so that answers are to be understood, too.
 */
#include "fuzz_stream.h"

#include <string.h>

#include "net/rpc.h"

static int results;

static void
op(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	closep(&fd);
	if (!json_is_object(args))
		abort();
	rpc_progress(call, json_object());
	rpc_reply(call, NULL, -1);
}

static const struct rpc_op ops[] = { { "op", op }, { NULL, NULL } };

static void
on_result(const json_t *result, int fd, const struct err *err, void *arg)
{
	closep(&fd);
	if ((result == NULL) == (err == NULL))
		abort();
	results++;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size, *nl;
	struct rpc *rpc;
	int ours = -1, fd;

	fd = peer_that_sent(SOCK_SEQPACKET, NULL, 0, &ours);
	if (fd < 0)
		return 0;
	rpc = rpc_new(loop, fd, ops, NULL, NULL);
	results = 0;
	rpc_ask(rpc, "x", NULL, -1, 0, on_result, NULL);
	for (; data < end; data = nl + 1) {
		nl = memchr(data, '\n', (size_t)(end - data));
		if (nl == NULL)
			nl = end;
		if (nl > data &&
		    send(ours, data, (size_t)(nl - data), MSG_NOSIGNAL) < 0)
			break;
	}
	turn();
	close(ours);
	turn();
	if (results != 1)
		abort();
	rpc_free(rpc);
	turn();
	return 0;
}
