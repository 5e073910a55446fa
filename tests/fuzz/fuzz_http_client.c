/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a VM answers to the host: the whole client, with a request that asks
 * for an upgrade. Exactly one of answer, stream and error must come.
 */
#include "fuzz_stream.h"

#include <string.h>

#include "net/http_client.h"

static int ends;
static struct http_client *client;
static struct io *upgraded;

static void
on_interim(int status, const struct http_params *headers, void *arg)
{
	if (status < 100 || status > 199 || status == 101)
		abort();
}

static void
on_response(const struct http_response *res, void *arg)
{
	if (res->body == NULL || res->body[res->body_len] != '\0')
		abort();
	ends++;
}

static void
on_upgrade(struct io *io, const struct http_params *headers, void *arg)
{
	upgraded = io;
	client = NULL;
	ends++;
}

static void
on_error(const struct err *err, void *arg)
{
	if (!err_is_set(err))
		abort();
	ends++;
}

static const struct http_client_handlers handlers = { on_interim, NULL,
	on_response, on_upgrade, on_error };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_client_request req = { .method = "GET",
		.target = "/",
		.upgrade = "qvd-stream/1",
		.body_max = 4096 };
	int ours = -1, fd;

	fd = peer_that_sent(SOCK_STREAM, NULL, 0, &ours);
	if (fd < 0)
		return 0;
	ends = 0;
	upgraded = NULL;
	client = http_client_new(io_new(loop, fd, NULL, NULL));
	http_client_send(client, &req, &handlers, NULL);
	if (size > 0 && size <= FUZZ_INPUT_MAX)
		(void)!send(ours, data, size, MSG_NOSIGNAL);
	shutdown(ours, SHUT_WR);
	turn();
	if (ends != 1)
		abort();
	http_client_free(client);
	io_free(upgraded);
	close(ours);
	turn();
	return 0;
}
