/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stream from a VM's agent, against agents that speak properly, in
 * pieces, nonsense, too much, or not at all. The test stands in for the
 * helper (which gives the channel) and for the rest of main.
 */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "hkd/vm.h"
#include "json/json.h"

static struct node node;
static struct vm vm;
static struct rpc *helper;
static int agent_fd = -1; /* the agent's end of the newest channel */
static int ready, failed, changes, channels;
static enum session_state last;
static bool refuse;

void
vm_agent_ready(struct vm *v)
{
	ready++;
	loop_stop(node.loop);
}

void
vm_agent_failed(struct vm *v, const struct err *err)
{
	failed++;
	loop_stop(node.loop);
}

void
vm_agent_session(struct vm *v, enum session_state session)
{
	changes++;
	v->session = last = session;
	loop_stop(node.loop);
}

static void
handle_channel(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct err err = { 0 };
	int fds[2];

	channels++;
	if (refuse) {
		err_set(&err, ERR_TIMEOUT, "nobody listens");
		rpc_fail(call, &err);
		return;
	}
	assert_int_equal(json_get_int(args, "vm_id", 0), 7);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	closep(&agent_fd);
	agent_fd = fds[0];
	rpc_reply(call, NULL, fds[1]);
	loop_stop(node.loop);
}

static void
stop_loop(void *arg)
{
	loop_stop(node.loop);
}

/* Runs the loop for so long, or until a callback of the test. */
static void
turn(int64_t ms)
{
	struct timer t;

	timer_init(&t, node.loop, stop_loop, NULL);
	timer_start(&t, ms);
	loop_run(node.loop);
	timer_done(&t);
}

static void
until(const int *counter, int want)
{
	int64_t end = time_now_ms() + 5000;

	while (*counter < want && time_now_ms() < end)
		turn(end - time_now_ms());
	assert_int_equal(*counter, want);
}

static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
}

static int
setup(void **state)
{
	static const struct rpc_op ops[] = { { "vm.channel", handle_channel },
		{ .name = NULL } };
	static const struct rpc_op none[] = { { .name = NULL } };
	struct err err;
	int fds[2];

	memset(&node, 0, sizeof(node));
	memset(&vm, 0, sizeof(vm));
	ready = failed = changes = channels = 0;
	refuse = false;
	node.loop = loop_new();
	node.settings.grace_ms = 1000;
	assert_ok(rpc_pair(fds, &err));
	node.helper = rpc_new(node.loop, fds[0], none, on_closed, NULL);
	helper = rpc_new(node.loop, fds[1], ops, on_closed, NULL);
	vm.node = &node;
	vm.id = 7;
	agent_init(&vm.agent, &vm);
	return 0;
}

static int
teardown(void **state)
{
	agent_done(&vm.agent);
	rpc_free(node.helper);
	rpc_free(helper);
	turn(0);
	loop_free(node.loop);
	closep(&agent_fd);
	return 0;
}

static void
say(const char *text)
{
	assert_int_equal(
	    write(agent_fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void
say_chunk(const char *text)
{
	char head[24];

	snprintf(head, sizeof(head), "%zx\r\n", strlen(text));
	say(head);
	say(text);
	say("\r\n");
}

#define HEAD                                                    \
	"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson" \
	"\r\nTransfer-Encoding: chunked\r\n\r\n"

static void
read_request(const char *want)
{
	char text[512];
	ssize_t n;

	turn(50);
	n = recv(agent_fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	assert_true(n > 0);
	text[n] = '\0';
	assert_memory_equal(text, want, strlen(want));
}

static void
open_agent(void)
{
	int n = channels;

	agent_open(&vm.agent, 1000);
	until(&channels, n + 1);
	read_request("GET /events HTTP/1.1\r\n");
}

static void
test_speaks(void **state)
{
	open_agent();
	say(HEAD);
	say_chunk("{\"session\": \"stopped\", \"generation\": 0}\n");
	until(&ready, 1);
	/* In pieces; two lines at once; words that nobody knows. */
	say_chunk("{\"session\": \"star");
	say_chunk("ting\"}\n");
	until(&changes, 1);
	assert_int_equal(last, SESSION_STARTING);
	say_chunk("{\"session\": \"purple\"}\n{\"event\": \"x\"}\nnonsense\n");
	say_chunk("{\"session\": \"listening\"}\n"
		  "{\"session\": \"connected\"}\n");
	/* Faster than one a second: only the newest is passed on. */
	until(&changes, 2);
	assert_int_equal(last, SESSION_CONNECTED);
	assert_int_equal(ready, 1);
	assert_int_equal(channels, 1);
}

static void
test_comes_back(void **state)
{
	open_agent();
	say(HEAD);
	say_chunk("{\"session\": \"connected\"}\n");
	until(&ready, 1);
	closep(&agent_fd);
	until(&channels, 2);
	read_request("GET /events HTTP/1.1\r\n");
	say(HEAD);
	say_chunk("{\"session\": \"suspended\"}\n");
	until(&changes, 2);
	assert_int_equal(last, SESSION_SUSPENDED);
}

static void
test_floods(void **state)
{
	static const char line[] = "{\"session\": \"connected\"}\n";
	char text[400 * sizeof(line)] = "";
	size_t i, n = sizeof(line) - 1;

	for (i = 0; i < 400; i++)
		memcpy(text + i * n, line, n + 1);
	open_agent();
	say(HEAD);
	say_chunk(text);
	until(&ready, 1);
	turn(300);
	turn(300);
	/* It is cut off, and not asked again for a minute. */
	assert_null(vm.agent.client);
	assert_int_equal(channels, 1);
	assert_true(changes <= 2);
}

static void
test_endless_line(void **state)
{
	char text[1001];
	int i;

	memset(text, 'x', 1000);
	text[1000] = '\0';
	open_agent();
	say(HEAD);
	for (i = 0; i < 6; i++)
		say_chunk(text);
	turn(200);
	turn(200);
	assert_null(vm.agent.client);
	assert_int_equal(ready, 0);
	assert_int_equal(channels, 1);
}

static void
test_no_http(void **state)
{
	open_agent();
	say("SSH-2.0-surprise\r\n\r\n");
	/* Tried again, with growing pauses. */
	until(&channels, 2);
	assert_int_equal(ready, 0);
}

static void
test_refused(void **state)
{
	refuse = true;
	agent_open(&vm.agent, 10);
	until(&failed, 1);
	agent_close(&vm.agent);
	turn(300);
	assert_int_equal(channels, 1);
}

/* Asked to power off */

static int answers;
static struct err answer;

static void
on_asked(const struct err *err, void *arg)
{
	answers++;
	answer = err != NULL ? *err : (struct err){ 0 };
	loop_stop(node.loop);
}

static void
test_poweroff(void **state)
{
	struct agent_call *call;

	answers = 0;
	agent_poweroff(&vm, on_asked, NULL);
	until(&channels, 1);
	read_request("POST /poweroff HTTP/1.1\r\n");
	say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	until(&answers, 1);
	assert_int_equal(answer.code, ERR_NONE);

	agent_poweroff(&vm, on_asked, NULL);
	until(&channels, 2);
	read_request("POST /poweroff HTTP/1.1\r\n");
	say("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
	until(&answers, 2);
	assert_int_equal(answer.code, ERR_PROTOCOL);

	refuse = true;
	agent_poweroff(&vm, on_asked, NULL);
	until(&answers, 3);
	assert_int_equal(answer.code, ERR_TIMEOUT);

	refuse = false;
	call = agent_poweroff(&vm, on_asked, NULL);
	until(&channels, 4);
	agent_call_cancel(call);
	turn(50);
	assert_int_equal(answers, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_speaks, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_floods, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_endless_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_http, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poweroff, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
