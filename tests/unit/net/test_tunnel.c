/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "net/io_test.h"

#include "net/tunnel.h"

#define BIG (5 * 1000 * 1000)

/* left -- [a tunnel b] -- right; left may speak TLS. */
static struct seen left, right, a, b;
static struct tunnel *tunnel;
static int ends;
static bool failed;
static struct tunnel_stats stats;

static void
on_end(struct tunnel *t, const struct err *why, const struct tunnel_stats *s,
    void *arg)
{
	ends++;
	failed = why != NULL;
	stats = *s;
	tunnel = NULL;
}

static void
open_tunnel(bool tls)
{
	ends = 0;
	io_pair(&left, &a, tls);
	io_pair(&b, &right, false);
	run_until(!tls || a.secured == 1);
	tunnel = tunnel_new(loop, a.io, b.io, on_end, NULL);
}

static void
close_tunnel(void)
{
	tunnel_free(tunnel);
	tunnel = NULL;
	seen_done(&left);
	seen_done(&right);
	buf_done(&a.got);
	buf_done(&b.got);
}

static void
carry(bool tls)
{
	_cleanup_(freep)
	char *data = pattern(BIG);

	open_tunnel(tls);
	io_write(left.io, data, BIG);
	io_write(right.io, data, BIG / 2);
	io_shutdown(left.io);
	run_until(right.eof == 1);
	assert_int_equal(right.got.len, BIG);
	assert_memory_equal(buf_head(&right.got), data, BIG);
	assert_int_equal(ends, 0);
	/* Half-closed, and the other half goes on. */
	io_write(right.io, "end", 3);
	io_shutdown(right.io);
	run_until(left.eof == 1 && ends == 1);
	assert_int_equal(left.got.len, BIG / 2 + 3);
	assert_memory_equal(buf_head(&left.got), data, BIG / 2);
	assert_false(failed);
	assert_int_equal(stats.bytes_ab, BIG);
	assert_int_equal(stats.bytes_ba, BIG / 2 + 3);
	close_tunnel();
}

static void
carries_both_ways(void **state)
{
	carry(false);
	carry(true);
}

static void
passes_on_what_is_there_already(void **state)
{
	ends = 0;
	io_pair(&left, &a, false);
	io_pair(&b, &right, false);
	a.leave = true;
	io_write(left.io, "early", 5);
	io_shutdown(left.io);
	run_until(a.eof == 1);
	tunnel = tunnel_new(loop, a.io, b.io, on_end, NULL);
	run_until(right.eof == 1);
	assert_memory_equal(buf_head(&right.got), "early", 5);
	close_tunnel();
}

/* How much the relay took off a writer whose reader doesn't read. */
static size_t
taken(struct seen *writer, struct seen *reader, const char *data)
{
	size_t before = io_bytes_out(writer->io), held;
	int i;

	io_pause(reader->io);
	for (i = 0; i < 20; i++) {
		io_write(writer->io, data, BIG / 20);
		run_for(2);
	}
	run_for(50);
	held = io_queued(a.io) + io_queued(b.io);
	/* Two buffers a direction, not more. */
	assert_true(held <= 2 * 80 * 1024);
	return io_bytes_out(writer->io) - before;
}

static void
slow(bool tls)
{
	_cleanup_(freep)
	char *data = pattern(BIG);
	size_t n;

	/* To a slow left, then to a slow right: each fills only the
	 * sockets' buffers and the relay's. */
	open_tunnel(tls);
	n = taken(&right, &left, data);
	assert_true(n < 2 * 1000 * 1000);
	io_resume(left.io);
	run_until(left.bytes == BIG / 20 * 20);
	n = taken(&left, &right, data);
	assert_true(n < 2 * 1000 * 1000);
	io_resume(right.io);
	run_until(right.bytes == BIG / 20 * 20);
	assert_int_equal(io_queued(a.io) + io_queued(b.io), 0);
	assert_int_equal(ends, 0);
	close_tunnel();
}

static void
a_slow_consumer_holds_the_producer_back(void **state)
{
	slow(false);
	slow(true);
}

static void
a_side_that_vanishes_ends_it(void **state)
{
	int i;

	open_tunnel(true);
	io_free(take_ptr(left.io));
	run_until(right.eof == 1);
	for (i = 0; i < 50 && ends == 0; i++) {
		io_write(right.io, "x", 1);
		run_for(5);
	}
	assert_int_equal(ends, 1);
	assert_true(failed);
	close_tunnel();
}

/* Half-closed for ever is not a state that a session may be in. */
static void
lingers_only_so_long(void **state)
{
	open_tunnel(true);
	tunnel_set_linger(tunnel, 50);
	io_shutdown(left.io);
	run_until(right.eof == 1);
	assert_int_equal(ends, 0);
	run_until(ends == 1);
	assert_false(failed);
	run_until(left.eof == 1);
	close_tunnel();
}

static void
freeing_closes_both_sides(void **state)
{
	open_tunnel(true);
	tunnel_free(tunnel);
	tunnel = NULL;
	run_until(left.eof + left.error > 0 && right.eof == 1);
	assert_int_equal(ends, 0);
	close_tunnel();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		io_test(carries_both_ways),
		io_test(passes_on_what_is_there_already),
		io_test(a_slow_consumer_holds_the_producer_back),
		io_test(a_side_that_vanishes_ends_it),
		io_test(lingers_only_so_long),
		io_test(freeing_closes_both_sides),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
