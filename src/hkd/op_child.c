/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The operation process's side; its socket is descriptor 0. */
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "hkd/op.h"
#include "hkd/op_wire.h"
#include "json/json.h"

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

void
op_send_progress(int percent, const char *text)
{
	json_t *msg = json_pack(
	    "{s{si ss}}", "progress", "percent", percent, "text", text);

	op_wire_send(STDIN_FILENO, msg, -1, NULL);
	json_decref(msg);
}

int
op_send_result(json_t *result, int fd)
{
	json_t *msg = json_pack("{so}", "result", result);
	struct err err = { 0 };
	int r;

	r = op_wire_send(STDIN_FILENO, msg, fd, &err);
	json_decref(msg);
	return r < 0 ? op_send_error(&err) : EXIT_SUCCESS;
}

int
op_send_error(const struct err *err)
{
	json_t *msg = json_from_err(err);

	op_wire_send(STDIN_FILENO, msg, -1, NULL);
	json_decref(msg);
	return err_exit_code(err->code);
}
