/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For harnesses that need a whole connection: a loop that lives as long as
 * the program, and a socketpair of which the harness writes one end and the
 * code under test owns the other. Static state of the program.
 */
#ifndef FUZZ_STREAM_H
#define FUZZ_STREAM_H

#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "loop/loop.h"

#define FUZZ_INPUT_MAX 65536
#define FUZZ_TURNS     6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;

static void
stop_now(void *arg)
{
	loop_stop(loop);
}

/* A few turns that don't wait for anything. */
static void
turn(void)
{
	int i;

	for (i = 0; i < FUZZ_TURNS; i++) {
		loop_defer(loop, stop_now, NULL);
		loop_run(loop);
	}
}

/* The other end of a socket of that type on which data has been sent. */
static int
peer_that_sent(int type, const uint8_t *data, size_t size, int *ret_ours)
{
	int fds[2];

	if (loop == NULL)
		loop = loop_new();
	if (size > FUZZ_INPUT_MAX ||
	    socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) <
		0)
		return -1;
	if (size > 0 && send(fds[0], data, size, 0) != (ssize_t)size) {
		close(fds[0]);
		close(fds[1]);
		return -1;
	}
	*ret_ours = fds[0];
	return fds[1];
}

#endif
