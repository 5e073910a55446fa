/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The operation process's side; its socket is descriptor 0. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "hkd/op.h"
#include "hkd/op_wire.h"
#include "json/json.h"

/* What libraries lose with each operation doesn't add up for ever. */
#define SERVED_MAX 200

json_t *
op_recv(struct err *err)
{
	json_t *request = NULL;
	int fd = -1, r;

	r = op_wire_recv(STDIN_FILENO, 0, &request, &fd, err);
	closep(&fd);
	if (r == 0)
		err_set(err, ERR_PROTOCOL,
		    "no request on descriptor 0: this program is started by "
		    "qvd-hkd only");
	return r > 0 ? request : NULL;
}

bool
op_wait(void)
{
	char c;
	ssize_t n;

	do
		n = recv(STDIN_FILENO, &c, 1, MSG_PEEK);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

void
op_send_progress(int percent, const char *text)
{
	json_t *msg = json_pack(
	    "{s{si ss}}", "progress", "percent", percent, "text", text);

	op_wire_send(STDIN_FILENO, msg, -1, NULL);
	json_decref(msg);
}

static int
send_result(json_t *result, int fd, bool stay)
{
	json_t *msg = json_pack("{so sb}", "result", result, "stay", (int)stay);
	struct err err = { 0 };
	int r;

	r = op_wire_send(STDIN_FILENO, msg, fd, &err);
	json_decref(msg);
	if (r < 0)
		return op_send_error(&err);
	return stay ? OP_STAY : EXIT_SUCCESS;
}

int
op_send_result(json_t *result, int fd)
{
	return send_result(result, fd, false);
}

int
op_send_result_and_stay(json_t *result, int fd)
{
	static int served;

	return send_result(result, fd, ++served < SERVED_MAX);
}

int
op_send_error(const struct err *err)
{
	json_t *msg = json_from_err(err);

	op_wire_send(STDIN_FILENO, msg, -1, NULL);
	json_decref(msg);
	return err_exit_code(err->code);
}
