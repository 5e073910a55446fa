/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vm.channel of a virtual machine: TCP to its agent (model/channel.h). The
 * firewall sees to it that nobody else has its address. Tried again, ever
 * less often, until the guest has booted that far or the time is over.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/helper_priv.h"
#include "json/json.h"
#include "model/channel.h"

#define ATTEMPT_MS     3000 /* a guest that isn't up yet says nothing */
#define RETRY_FIRST_MS 20
#define RETRY_LAST_MS  500

struct dial {
	struct list link; /* helper->dials */
	struct helper *helper;
	struct rpc_call *call;
	struct timer timer; /* of the attempt, or until the next one */
	struct watch watch;
	bool watched;
	int sock;
	int64_t vm_id;
	int64_t until_ms;
	int64_t retry_ms;
	struct sockaddr_in address;
	char secret[VM_SECRET_LEN + 2]; /* with its newline */
	bool over;
};

static void
dial_destroy(void *arg)
{
	struct dial *d = arg;

	timer_done(&d->timer);
	explicit_bzero(d, sizeof(*d));
	free(d);
}

static void
hang_up(struct dial *d)
{
	if (d->watched)
		watch_done(&d->watch);
	d->watched = false;
	closep(&d->sock);
}

static void
dial_end(struct dial *d)
{
	d->over = true;
	hang_up(d);
	timer_stop(&d->timer);
	list_del(&d->link);
	loop_defer(d->helper->loop, dial_destroy, d);
}

static void
dial_fail(struct dial *d, const struct err *err)
{
	rpc_fail(d->call, err);
	dial_end(d);
}

static void
again(struct dial *d)
{
	int64_t left = d->until_ms - time_now_ms();
	struct err err = { 0 };

	hang_up(d);
	if (left <= 0) {
		err_set(&err, ERR_TIMEOUT,
		    "the agent of VM %lld doesn't answer on TCP port %d of "
		    "%s; look at its console (%s/vms/%lld/console.sock): has "
		    "its system booted, is qvd-vma.service enabled in its "
		    "image?",
		    (long long)d->vm_id, VM_CHANNEL_PORT,
		    inet_ntoa(d->address.sin_addr), d->helper->conf->run_dir,
		    (long long)d->vm_id);
		dial_fail(d, &err);
		return;
	}
	timer_start(&d->timer, d->retry_ms < left ? d->retry_ms : left);
	if ((d->retry_ms *= 2) > RETRY_LAST_MS)
		d->retry_ms = RETRY_LAST_MS;
}

static void
on_connected(int events, void *arg)
{
	struct dial *d = arg;
	size_t len = strlen(d->secret);
	socklen_t size = sizeof(int);
	int errnum = 0;

	if (d->over || d->sock < 0)
		return;
	if (getsockopt(d->sock, SOL_SOCKET, SO_ERROR, &errnum, &size) < 0 ||
	    errnum != 0 ||
	    send(d->sock, d->secret, len, MSG_NOSIGNAL) != (ssize_t)len) {
		again(d);
		return;
	}
	watch_done(&d->watch);
	d->watched = false;
	rpc_reply(d->call, NULL, take_fd(&d->sock));
	dial_end(d);
}

/* The socket belongs to the node's network, wherever we are. */
static int
make_socket(struct dial *d, struct err *err)
{
	const int on = 1;
	int r;

	if ((r = helper_netns_enter(d->helper, err)) < 0)
		return r;
	d->sock =
	    socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r = d->sock < 0 ? err_errno(err, ERR_SYSTEM, errno, "socket") : 0;
	helper_netns_leave(d->helper);
	if (r == 0)
		setsockopt(d->sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return r;
}

static void
attempt(struct dial *d)
{
	struct err err = { 0 };

	if (make_socket(d, &err) < 0) {
		dial_fail(d, &err);
		return;
	}
	if (connect(d->sock, (struct sockaddr *)&d->address,
		sizeof(d->address)) < 0 &&
	    errno != EINPROGRESS) {
		again(d);
		return;
	}
	watch_init(&d->watch, d->helper->loop, d->sock, on_connected, d);
	d->watched = true;
	watch_set(&d->watch, WATCH_WRITE);
	timer_start(&d->timer, ATTEMPT_MS);
}

static void
on_timer(void *arg)
{
	struct dial *d = arg;

	if (d->over)
		return;
	if (d->sock >= 0)
		again(d);
	else
		attempt(d);
}

static void
on_cancel(void *arg)
{
	struct dial *d = arg;
	struct err err = { 0 };

	if (d->over)
		return;
	err_set(&err, ERR_CANCELLED, "cancelled");
	dial_fail(d, &err);
}

void
dials_end(struct helper *h)
{
	struct dial *d;
	struct err err = { 0 };

	err_set(&err, ERR_CANCELLED, "the node's helper is ending");
	LIST_EACH (&h->dials, d, struct dial, link)
		dial_fail(d, &err);
}

int
dial_start(struct helper *h, struct rpc_call *call, int64_t vm_id,
    int64_t wait_ms, const json_t *record, struct err *err)
{
	const char *secret = json_get_str(record, "secret", "");
	struct dial *d = new0(struct dial);

	d->helper = h;
	d->call = call;
	d->vm_id = vm_id;
	d->sock = -1;
	d->until_ms = time_now_ms() + wait_ms;
	d->retry_ms = RETRY_FIRST_MS;
	d->address.sin_family = AF_INET;
	d->address.sin_port = htons(VM_CHANNEL_PORT);
	if (inet_pton(AF_INET, json_get_str(record, "address", ""),
		&d->address.sin_addr) != 1 ||
	    strlen(secret) != VM_SECRET_LEN) {
		free(d);
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)vm_id);
	}
	snprintf(d->secret, sizeof(d->secret), "%s\n", secret);
	list_init(&d->link);
	list_add(&h->dials, &d->link);
	timer_init(&d->timer, h->loop, on_timer, d);
	rpc_call_on_cancel(call, on_cancel, d);
	attempt(d);
	return 0;
}
