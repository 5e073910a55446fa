/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session being relayed. Nothing goes to the client before it has spoken:
 * its end of NX speaks first, and libqvdclient throws away what comes in one
 * read with the 101 (an honest agent is silent till then anyway).
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "l7r/worker.h"
#include "net/tunnel.h"

/* The session ends when either side closes; what the other one still has to
 * say, to a client or a desktop that is leaving, it may say so long. */
#define LINGER_MS 10000
#define SHORT_MS  (120 * 1000) /* the original's internal.l7r.short_session */

struct relay {
	struct session *session;
	struct io *client, *vm; /* until the client speaks */
	struct tunnel *tunnel;  /* from then on */
	int64_t started_ms;
	char address[64];
};

static void
note_end(
    struct relay *relay, const struct tunnel_stats *stats, const char *reason)
{
	struct session *s = relay->session;
	int64_t ms = time_now_ms() - relay->started_ms;

	log_info("%s left VM %d (session %lld) after %lld s, %llu bytes up, "
		 "%llu down: %s%s",
	    relay->address, s->vm_id, (long long)s->generation,
	    (long long)ms / 1000, (unsigned long long)stats->bytes_ab,
	    (unsigned long long)stats->bytes_ba, reason,
	    ms < SHORT_MS ? " (short)" : "");
	worker_note(s->worker, "disconnected",
	    json_pack("{s:i, s:I, s:I, s:I, s:I, s:s}", "vm_id", s->vm_id,
		"generation", (json_int_t)s->generation, "duration_ms",
		(json_int_t)ms, "bytes_up", (json_int_t)stats->bytes_ab,
		"bytes_down", (json_int_t)stats->bytes_ba, "reason", reason));
}

static void
relay_free(struct relay *relay)
{
	struct worker *w = relay->session->worker;

	if (relay->client != NULL)
		io_free(relay->client);
	if (relay->vm != NULL)
		io_free(relay->vm);
	session_free(relay->session);
	free(relay);
	worker_closed_one(w);
}

void
relay_end(struct relay *relay, const char *reason)
{
	struct tunnel_stats stats = { 0 };

	if (relay->tunnel != NULL) {
		tunnel_get_stats(relay->tunnel, &stats);
		tunnel_free(relay->tunnel);
	}
	note_end(relay, &stats, reason);
	relay_free(relay);
}

static void
on_tunnel_end(struct tunnel *tunnel, const struct err *err,
    const struct tunnel_stats *stats, void *arg)
{
	struct relay *relay = arg;
	char reason[200];

	if (err == NULL)
		str_copy(reason, sizeof(reason), "closed");
	else
		str_escape(reason, sizeof(reason), err->msg, strlen(err->msg));
	note_end(relay, stats, reason);
	relay_free(relay);
}

static void
on_client(struct io *io, enum io_event event, void *arg)
{
	struct relay *relay = arg;

	if (event == IO_DATA) {
		relay->tunnel = tunnel_new(relay->session->worker->loop,
		    take_ptr(relay->client), take_ptr(relay->vm), on_tunnel_end,
		    relay);
		tunnel_set_linger(relay->tunnel, LINGER_MS);
	} else if (event == IO_EOF || event == IO_ERROR)
		relay_end(relay, "the client left without a word");
}

static void
on_vm(struct io *io, enum io_event event, void *arg)
{
	struct relay *relay = arg;

	if (event == IO_EOF || event == IO_ERROR)
		relay_end(relay, "the desktop closed its display");
}

void
relay_new(
    struct session *s, struct io *client, struct io *vm, const char *address)
{
	struct relay *relay = new0(struct relay);

	relay->session = s;
	relay->client = client;
	relay->vm = vm;
	relay->started_ms = time_now_ms();
	str_copy(relay->address, sizeof(relay->address), address);
	s->connect = NULL;
	s->relay = relay;
	io_set_timeout(client, 0);
	io_set_deadline(client, 0);
	io_set_timeout(vm, 0);
	io_set_deadline(vm, 0);
	io_set_cb(client, on_client, relay);
	io_set_cb(vm, on_vm, relay);
	log_info("%s is in VM %d (session %lld)", address, s->vm_id,
	    (long long)s->generation);
}
