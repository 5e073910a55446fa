/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hypervisor/qmp.h"
#include "json/json.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

static struct err err;

static int
next_of(const char *text, struct qmp_message *msg)
{
	struct qmp_parser p;
	int r;

	qmp_parser_init(&p);
	assert_ok(qmp_parser_feed(&p, text, strlen(text), &err));
	r = qmp_parser_next(&p, msg, &err);
	qmp_parser_done(&p);
	return r;
}

static void
knows_each_kind(void **state)
{
	struct qmp_message msg;

	assert_int_equal(next_of(GREETING, &msg), 1);
	assert_int_equal(msg.kind, QMP_GREETING);
	qmp_message_done(&msg);
	assert_int_equal(
	    next_of("{\"return\": {\"a\": 5}, \"id\": 7}\r\n", &msg), 1);
	assert_int_equal(msg.kind, QMP_RETURN);
	assert_int_equal(msg.id, 7);
	assert_int_equal(json_get_int(msg.data, "a", 0), 5);
	qmp_message_done(&msg);
	assert_int_equal(next_of("{\"id\": 8, \"error\": {\"class\": "
				 "\"GenericError\", \"desc\": \"no\\u0007\"}}"
				 "\n",
			     &msg),
	    1);
	assert_int_equal(msg.kind, QMP_ERROR);
	assert_string_equal(msg.name, "GenericError");
	assert_string_equal(msg.text, "no\\x07");
	qmp_message_done(&msg);
	assert_int_equal(
	    next_of(
		"\r\n{\"event\": \"POWERDOWN\", \"timestamp\": {}}\n", &msg),
	    1);
	assert_int_equal(msg.kind, QMP_EVENT);
	assert_string_equal(msg.name, "POWERDOWN");
	assert_int_equal(msg.id, -1);
	qmp_message_done(&msg);
}

static void
takes_any_pieces(void **state)
{
	static const char text[] = GREETING "{\"return\": {}, \"id\": 1}\r\n"
					    "{\"event\": \"STOP\"}\r\n";
	struct qmp_message msg;
	struct qmp_parser p;
	size_t i;
	int n = 0;

	qmp_parser_init(&p);
	for (i = 0; i < sizeof(text) - 1; i++) {
		assert_ok(qmp_parser_feed(&p, text + i, 1, &err));
		while (qmp_parser_next(&p, &msg, &err) == 1) {
			n++;
			qmp_message_done(&msg);
		}
	}
	assert_int_equal(n, 3);
	assert_int_equal(qmp_parser_next(&p, &msg, &err), 0);
	qmp_parser_done(&p);
}

static void
refuses_what_is_no_qmp(void **state)
{
	static const char *const bad[] = { "SSH-2.0-x\n", "[1]\n", "{}\n",
		"{\"QMP\": 1}\n", "{\"event\": 1}\n", "{\"event\": \"\"}\n",
		"{\"event\": \"a b\"}\n", "{\"error\": 1}\n",
		"{\"error\": {\"class\": \"\\n\"}}\n",
		"{\"a\": 1, \"a\": 1}\n" };
	struct qmp_message msg;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(next_of(bad[i], &msg), PROTOCOL, "monitor");
}

static void
stays_broken(void **state)
{
	struct qmp_message msg;
	struct qmp_parser p;

	qmp_parser_init(&p);
	assert_ok(qmp_parser_feed(&p, "x\n" GREETING, 2, &err));
	assert_err(qmp_parser_next(&p, &msg, &err), PROTOCOL, "no JSON");
	assert_err(qmp_parser_feed(&p, "{", 1, &err), PROTOCOL, "monitor");
	assert_err(qmp_parser_next(&p, &msg, &err), PROTOCOL, "monitor");
	qmp_parser_done(&p);
}

static void
limits_a_message(void **state)
{
	_cleanup_(freep)
	char *big = xcalloc(1, QMP_MESSAGE_MAX);
	struct qmp_message msg;
	struct qmp_parser p;

	memset(big, 'x', QMP_MESSAGE_MAX);
	qmp_parser_init(&p);
	assert_ok(qmp_parser_feed(&p, big, QMP_MESSAGE_MAX, &err));
	assert_int_equal(qmp_parser_next(&p, &msg, &err), 0);
	assert_ok(qmp_parser_feed(&p, "x", 1, &err));
	assert_err(qmp_parser_next(&p, &msg, &err), PROTOCOL, "more than");
	qmp_parser_done(&p);
	qmp_parser_init(&p);
	assert_ok(qmp_parser_feed(&p, big, QMP_MESSAGE_MAX, &err));
	assert_ok(qmp_parser_feed(&p, big, QMP_MESSAGE_MAX, &err));
	assert_err(qmp_parser_feed(&p, "x", 1, &err), TOO_LARGE, "more than");
	qmp_parser_done(&p);
}

/* A client, and its peer, which has said all that it will say. */
static void
client_of(struct qmp *q, const char *said, int *ret_peer)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(
	    write(fds[1], said, strlen(said)), (ssize_t)strlen(said));
	assert_ok(qmp_init(q, fds[0], 5000, &err));
	*ret_peer = fds[1];
}

static void
finds_answers_among_events(void **state)
{
	_cleanup_(json_decrefp)
	json_t *answer = NULL;
	_cleanup_(json_decrefp)
	json_t *data = NULL;
	_cleanup_(closep)
	int peer = -1;
	struct qmp q;
	char heard[512];
	ssize_t n;

	client_of(&q,
	    GREETING "{\"return\": {}, \"id\": 1}\n"
		     "{\"event\": \"RESUME\"}\n"
		     "{\"return\": {\"old\": 1}, \"id\": 99}\n"
		     "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n"
		     "{\"return\": {\"status\": \"paused\"}, \"id\": 2}\n"
		     "{\"id\": 3, \"error\": {\"class\": \"GenericError\", "
		     "\"desc\": \"not now\"}}\n",
	    &peer);
	assert_ok(qmp_run(&q, "query-status", NULL, -1, 5000, &answer, &err));
	assert_string_equal(json_get_str(answer, "status", ""), "paused");
	assert_err(qmp_run(&q, "cont", json_pack("{sb}", "x", 1), -1, 5000,
		       NULL, &err),
	    VM_LOST, "QEMU refuses cont: not now");
	assert_ok(qmp_wait(&q, "SHUTDOWN", 0, &data, &err));
	assert_true(json_get_bool(data, "guest", false));
	assert_err(qmp_wait(&q, "RESUME", 0, NULL, &err), TIMEOUT, "RESUME");
	n = read(peer, heard, sizeof(heard) - 1);
	assert_true(n > 0);
	heard[n] = '\0';
	assert_non_null(strstr(heard, "{\"execute\":\"qmp_capabilities\","
				      "\"id\":1}"));
	assert_non_null(strstr(heard, "\"arguments\":{\"x\":true}"));
	qmp_done(&q);
}

static void
hands_descriptors_over(void **state)
{
	_cleanup_(closep)
	int peer = -1;
	char text[512], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct qmp q;
	int got;

	client_of(&q,
	    GREETING "{\"return\": {}, \"id\": 1}\n{\"return\": {}, \"id\": 2}"
		     "\n",
	    &peer);
	assert_true(recv(peer, text, sizeof(text), 0) > 0);
	assert_ok(qmp_run(&q, "getfd", json_pack("{ss}", "fdname", "x"),
	    STDERR_FILENO, 5000, NULL, &err));
	assert_true(recvmsg(peer, &msg, 0) > 0);
	assert_non_null(CMSG_FIRSTHDR(&msg));
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
	close(got);
	qmp_done(&q);
}

static void
says_that_it_is_gone(void **state)
{
	int peer = -1;
	struct qmp q;

	client_of(&q, GREETING "{\"return\": {}, \"id\": 1}\n", &peer);
	assert_err(qmp_run(&q, "cont", NULL, -1, 20, NULL, &err), TIMEOUT,
	    "doesn't answer");
	close(peer);
	assert_err(qmp_run(&q, "cont", NULL, -1, 5000, NULL, &err), VM_LOST,
	    "QEMU has ended");
	assert_err(
	    qmp_wait(&q, "STOP", 5000, NULL, &err), VM_LOST, "has ended");
	qmp_done(&q);
}

static void
limits_events(void **state)
{
	static const char event[] = "{\"event\": \"E\"}\n";
	static char many[(QMP_EVENTS_MAX + 1) * (sizeof(event) - 1)];
	_cleanup_(closep)
	int peer = -1;
	struct qmp q;
	size_t i;

	client_of(&q, GREETING "{\"return\": {}, \"id\": 1}\n", &peer);
	/* In one piece: each write costs the socket much more than its bytes.
	 */
	for (i = 0; i <= QMP_EVENTS_MAX; i++)
		memcpy(
		    many + i * (sizeof(event) - 1), event, sizeof(event) - 1);
	assert_int_equal(
	    write(peer, many, sizeof(many)), (ssize_t)sizeof(many));
	assert_err(qmp_run(&q, "cont", NULL, -1, 5000, NULL, &err), PROTOCOL,
	    "floods");
	qmp_done(&q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_each_kind),
		cmocka_unit_test(takes_any_pieces),
		cmocka_unit_test(refuses_what_is_no_qmp),
		cmocka_unit_test(stays_broken),
		cmocka_unit_test(limits_a_message),
		cmocka_unit_test(finds_answers_among_events),
		cmocka_unit_test(hands_descriptors_over),
		cmocka_unit_test(says_that_it_is_gone),
		cmocka_unit_test(limits_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
