/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "loop/loop_test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "json/json.h"
#include "net/rpc.h"

static struct err err;

struct end { /* what one end has seen */
	int results, errors, progresses, cancels, closes;
	int fd;
	struct err err;
	struct rpc_call *kept;
	json_t *last;
};
static struct end ours, theirs;
static struct rpc *a, *b;

static void
on_closed(struct rpc *rpc, const struct err *why, void *arg)
{
	struct end *e = arg;

	e->closes++;
	e->err = *why;
}

static void
on_result(const json_t *result, int fd, const struct err *why, void *arg)
{
	struct end *e = arg;

	if (why != NULL) {
		assert_null(result);
		e->errors++;
		e->err = *why;
		return;
	}
	e->results++;
	e->fd = fd;
	json_decref(e->last);
	e->last = json_deep_copy(result);
}

static void
on_progress(const json_t *info, void *arg)
{
	struct end *e = arg;

	e->progresses++;
}

static void
on_cancel(void *arg)
{
	struct end *e = arg;

	e->cancels++;
}

static void
op_echo(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	rpc_progress(call, json_pack("{s:i}", "percent", 50));
	rpc_reply(call, json_deep_copy(args), fd);
}

static void
op_refuse(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	err_set(&err, ERR_CONFLICT, "VM %d is already running", 7);
	rpc_fail(call, &err);
}

static void
op_keep(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	theirs.kept = call;
	rpc_call_on_cancel(call, on_cancel, &theirs);
}

static void
op_big(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	char *text = xcalloc(300 * 1024 + 1, 1);

	memset(text, 'x', 300 * 1024);
	rpc_reply(call, json_pack("{s:s}", "big", text), -1);
	free(text);
}

static void
op_hang_up(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	rpc_free(rpc_call_rpc(call));
	assert_null(rpc_call_rpc(call));
	rpc_reply(call, NULL, -1);
	b = NULL;
}

static const struct rpc_op ops[] = { { "echo", op_echo },
	{ "refuse", op_refuse }, { "keep", op_keep }, { "big", op_big },
	{ "hang-up", op_hang_up }, { NULL, NULL } };

static int
setup(void **state)
{
	int fds[2];

	loop_setup(state);
	memset(&ours, 0, sizeof(ours));
	memset(&theirs, 0, sizeof(theirs));
	assert_ok(rpc_pair(fds, &err));
	a = rpc_new(loop, fds[0], NULL, on_closed, &ours);
	b = rpc_new(loop, fds[1], ops, on_closed, &theirs);
	return 0;
}

static int
teardown(void **state)
{
	if (theirs.kept != NULL)
		rpc_reply(theirs.kept, NULL, -1);
	rpc_free(a);
	rpc_free(b);
	json_decref(ours.last);
	return loop_teardown(state);
}

static void
asks_and_answers(void **state)
{
	struct rpc_request *r;

	assert_int_equal(rpc_peer(a)->pid, getpid());
	r = rpc_ask(
	    a, "echo", json_pack("{s:i}", "n", 5), -1, 1000, on_result, &ours);
	rpc_request_on_progress(r, on_progress);
	rpc_ask(a, "refuse", NULL, -1, 0, on_result, &ours);
	run_until(ours.results == 1 && ours.errors == 1);
	assert_int_equal(ours.progresses, 1);
	assert_int_equal(json_get_int(ours.last, "n", 0), 5);
	assert_int_equal(ours.err.code, ERR_CONFLICT);
	assert_string_equal(ours.err.msg, "VM 7 is already running");
	rpc_ask(a, "no-such", NULL, -1, 0, on_result, &ours);
	run_until(ours.errors == 2);
	assert_int_equal(ours.err.code, ERR_NOT_FOUND);
	rpc_tell(a, "echo", NULL, open("/dev/null", O_RDONLY));
	run_for(5);
	assert_int_equal(ours.closes + theirs.closes, 0);
}

static void
passes_a_descriptor(void **state)
{
	struct stat there, back;
	int fd = open("/dev/null", O_RDONLY);

	fstat(fd, &there);
	rpc_ask(a, "echo", NULL, fd, 0, on_result, &ours);
	run_until(ours.results == 1);
	assert_true(ours.fd >= 0);
	assert_int_equal(fcntl(ours.fd, F_GETFD), FD_CLOEXEC);
	fstat(ours.fd, &back);
	assert_int_equal(there.st_rdev, back.st_rdev);
	close(ours.fd);
}

static void
deadline_and_cancel_reach_the_other_end(void **state)
{
	struct rpc_request *r;

	rpc_ask(a, "keep", NULL, -1, 20, on_result, &ours);
	run_until(ours.errors == 1 && theirs.cancels == 1);
	assert_int_equal(ours.err.code, ERR_TIMEOUT);
	/* The answer that is still due goes nowhere. */
	rpc_reply(take_ptr(theirs.kept), NULL, -1);
	r = rpc_ask(a, "keep", NULL, -1, 0, on_result, &ours);
	run_until(theirs.kept != NULL);
	rpc_request_cancel(r);
	run_until(theirs.cancels == 2);
	run_for(5);
	assert_int_equal(ours.errors + ours.results, 1);
}

static void
an_end_that_goes_fails_what_is_open(void **state)
{
	rpc_ask(a, "keep", NULL, -1, 0, on_result, &ours);
	rpc_ask(a, "hang-up", NULL, -1, 0, on_result, &ours);
	run_until(ours.closes == 1);
	assert_int_equal(ours.errors, 2);
	assert_int_equal(ours.err.code, ERR_UNAVAILABLE);
	assert_int_equal(theirs.cancels, 1);
	/* And later ones, after rpc_ask() has returned. */
	rpc_ask(a, "echo", NULL, -1, 100, on_result, &ours);
	assert_int_equal(ours.errors, 2);
	run_until(ours.errors == 3);
}

static void
too_large_is_an_error_of_one_request(void **state)
{
	char *text = xcalloc(300 * 1024 + 1, 1);

	memset(text, 'x', 300 * 1024);
	rpc_ask(
	    a, "echo", json_pack("{s:s}", "x", text), -1, 0, on_result, &ours);
	rpc_ask(a, "big", NULL, -1, 0, on_result, &ours);
	run_until(ours.errors == 2);
	assert_int_equal(ours.err.code, ERR_TOO_LARGE);
	/* One that just fits does, through sockets with default buffers. */
	text[255 * 1024] = '\0';
	rpc_ask(
	    a, "echo", json_pack("{s:s}", "x", text), -1, 0, on_result, &ours);
	run_until(ours.results == 1);
	free(text);
}

static void
queues_while_the_peer_does_not_read(void **state)
{
	int i;

	/* Nothing is read before the loop turns. */
	for (i = 0; i < 2000; i++)
		rpc_ask(a, "echo", json_pack("{s:i}", "i", i), -1, 0, on_result,
		    &ours);
	run_until(ours.results == 2000);
	assert_int_equal(json_get_int(ours.last, "i", 0), 1999);
}

static void
a_deaf_peer_is_cut_off(void **state)
{
	char *text = xcalloc(200 * 1024 + 1, 1);
	int i;

	memset(text, 'x', 200 * 1024);
	for (i = 0; i < 100; i++)
		rpc_tell(a, "echo", json_pack("{s:s}", "x", text), -1);
	free(text);
	run_until(ours.closes == 1);
	assert_non_null(strstr(ours.err.msg, "doesn't read"));
}

/* Sends raw bytes with n descriptors to a fresh end. */
static void
send_raw(const char *text, int n_fds)
{
	int fds[2], pass[4] = { 0, 0, 0, 0 };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	char control[CMSG_SPACE(sizeof(pass))] = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	rpc_free(b);
	memset(&theirs, 0, sizeof(theirs));
	assert_ok(rpc_pair(fds, &err));
	b = rpc_new(loop, fds[1], ops, on_closed, &theirs);
	if (n_fds > 0) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), pass, (size_t)n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(fds[0], &msg, 0), (ssize_t)strlen(text));
	run_for(2);
	close(fds[0]);
}

static int
count_fds(void)
{
	int n = 0, fd;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void
what_is_not_the_protocol_is_cut_off(void **state)
{
	static const char *const bad[] = { "{", "[]", "\"x\"", "{}",
		"{\"t\":\"ask\",\"op\":\"echo\",\"args\":{}}",
		"{\"t\":\"ask\",\"id\":-1,\"op\":\"echo\",\"args\":{}}",
		"{\"t\":\"ask\",\"id\":1,\"op\":\"echo\"}",
		"{\"t\":\"ask\",\"id\":1,\"op\":5,\"args\":{}}",
		"{\"t\":\"ok\",\"id\":1,\"result\":{}}",
		"{\"t\":\"fail\",\"id\":9}", "{\"t\":\"what\",\"id\":1}" };
	size_t i;
	int before;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		send_raw(bad[i], 0);
		assert_int_equal(theirs.closes, 1);
		assert_int_equal(theirs.err.code, ERR_PROTOCOL);
	}
	before = count_fds();
	send_raw("{\"t\":\"what\",\"id\":1}", 4);
	assert_int_equal(theirs.closes, 1);
	send_raw("{\"t\":\"tell\",\"op\":\"echo\",\"args\":{}}", 4);
	assert_int_equal(theirs.closes, 0);
	rpc_free(take_ptr(b));
	assert_int_equal(count_fds(), before);
}

static void
on_accept(int fd, const struct rpc_peer *peer, void *arg)
{
	assert_int_equal(peer->uid, getuid());
	rpc_free(b);
	b = rpc_new(loop, fd, ops, on_closed, &theirs);
}

static void
listens_with_mode_and_replaces_stale_sockets(void **state)
{
	char dir[] = "/tmp/qvd-test-rpc-XXXXXX";
	_cleanup_(freep)
	char *path = NULL;
	struct rpc_listener *l;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/s", dir);
	l = rpc_listen(loop, path, 0640, (gid_t)-1, on_accept, NULL, &err);
	assert_non_null(l);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_null(
	    rpc_listen(loop, path, 0640, (gid_t)-1, on_accept, NULL, &err));
	assert_int_equal(err.code, ERR_CONFLICT);
	rpc_listener_free(l);
	l = rpc_listen(loop, path, 0600, (gid_t)-1, on_accept, NULL, &err);
	assert_non_null(l);
	rpc_free(a);
	a = rpc_connect(loop, path, NULL, on_closed, &ours, &err);
	assert_non_null(a);
	rpc_ask(a, "echo", NULL, -1, 0, on_result, &ours);
	run_until(ours.results == 1);
	rpc_listener_free(l);
	assert_null(
	    rpc_connect(loop, "/nonexistent/s", NULL, on_closed, &ours, &err));
	unlink(path);
	rmdir(dir);
}

#define rpc_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		rpc_test(asks_and_answers),
		rpc_test(passes_a_descriptor),
		rpc_test(deadline_and_cancel_reach_the_other_end),
		rpc_test(an_end_that_goes_fails_what_is_open),
		rpc_test(too_large_is_an_error_of_one_request),
		rpc_test(queues_while_the_peer_does_not_read),
		rpc_test(a_deaf_peer_is_cut_off),
		rpc_test(what_is_not_the_protocol_is_cut_off),
		rpc_test(listens_with_mode_and_replaces_stale_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
