/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The client that doesn't wait: for who asks many at once. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "hypervisor/qmp.h"

/* A few bytes into a socket that is empty, or nothing. */
static int
send_text(const struct qmp_ask *a, const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (send(a->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len)
		return 0;
	return err_set(err, ERR_VM_LOST, "QEMU's monitor doesn't listen");
}

int
qmp_ask_next(struct qmp_ask *a, const char *command, struct err *err)
{
	_cleanup_(freep)
	char *text = xasprintf("{\"execute\": \"%s\", \"id\": %lld}\n", command,
	    (long long)++a->id);

	return send_text(a, text, err);
}

int
qmp_ask_init(
    struct qmp_ask *a, const char *path, const char *command, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int r;

	*a = (struct qmp_ask){ .fd = -1 };
	qmp_parser_init(&a->in);
	if (!str_copy(sun.sun_path, sizeof(sun.sun_path), path))
		return err_set(
		    err, ERR_CONFIG, "'%s' is too long for a socket", path);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0)
		return err_errno(err, ERR_SYSTEM, errno, "socket");
	if (connect(a->fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return err_errno(err, ERR_VM_LOST, errno,
		    "connect to QEMU's monitor %s", path);
	/* QEMU takes them one after the other, once it has greeted. */
	if ((r = qmp_ask_next(a, "qmp_capabilities", err)) < 0)
		return r;
	return qmp_ask_next(a, command, err);
}

/* Events, the greeting and the answer before are passed over. */
int
qmp_ask_read(struct qmp_ask *a, json_t **ret, struct err *err)
{
	struct qmp_message msg;
	char bytes[16384];
	ssize_t n = recv(a->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	int r;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return err_set(err, ERR_VM_LOST, "QEMU has ended");
	if ((r = qmp_parser_feed(&a->in, bytes, (size_t)n, err)) < 0)
		return r;
	while ((r = qmp_parser_next(&a->in, &msg, err)) > 0) {
		bool error = msg.kind == QMP_ERROR;

		if ((msg.kind == QMP_RETURN || error) && msg.id == a->id) {
			if (error)
				r = err_set(err, ERR_VM_LOST,
				    "QEMU refuses it: %s", msg.text);
			else
				*ret = take_ptr(msg.data);
			qmp_message_done(&msg);
			return r;
		}
		qmp_message_done(&msg);
	}
	return r;
}

void
qmp_ask_done(struct qmp_ask *a)
{
	qmp_parser_done(&a->in);
	closep(&a->fd);
	a->fd = -1;
}
