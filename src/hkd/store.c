/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The outbox of events. One is sent at a time, so that a lost connection
 * leaves at most one in doubt (it is written again: a doubled line of the
 * timeline is better than a missing one).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "hkd/node.h"

/* While the database is down; the oldest go first. */
#define OUTBOX_MAX 5000

struct outgoing {
	struct list link;
	struct event event;
	char at[TIME_TEXT_MAX];
	char *error_id;
	char *ref;
	char *text;
};

static const struct db_stmt event_stmt = { "event",
	"INSERT INTO events (at, name, vm_id, user_id, host_id, image_id, "
	"text, duration_ms, error_id, ref, crowded) VALUES ($1, $2, $3, $4, "
	"$5, $6, $7, $8, $9, $10, $11)",
	11 };

void
ref_make(char ret[static REF_LEN + 1])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	unsigned char bytes[REF_LEN];
	int i;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		abort(); /* Linux gives so few bytes always */
	for (i = 0; i < REF_LEN; i++)
		ret[i] = digits[bytes[i] & 31];
	ret[REF_LEN] = '\0';
}

static void
outgoing_free(struct node *node, struct outgoing *out)
{
	list_del(&out->link);
	node->n_outbox--;
	free(out->error_id);
	free(out->ref);
	free(out->text);
	free(out);
}

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct outgoing *out = list_first(&node->outbox, struct outgoing, link);

	node->outbox_busy = false;
	if (err != NULL && err->code == ERR_DATABASE) {
		node_retry_later(node);
		return;
	}
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err, "write the event '%s'",
		    out->event.name);
	outgoing_free(node, out);
	store_flush(node);
}

static void
param_id(struct db_params *p, int64_t id)
{
	if (id != 0)
		db_param_i64(p, id);
	else
		db_param_null(p);
}

void
store_flush(struct node *node)
{
	struct outgoing *out = list_first(&node->outbox, struct outgoing, link);
	struct db_params p = { 0 };

	if (out == NULL || node->outbox_busy || !db_is_up(node->db))
		return;
	db_param_str(&p, out->at);
	db_param_str(&p, out->event.name);
	param_id(&p, out->event.vm_id);
	param_id(&p, out->event.user_id);
	param_id(&p, node->host_id);
	param_id(&p, out->event.image_id);
	db_param_str(&p, out->text);
	if (out->event.duration_ms >= 0)
		db_param_i64(&p, out->event.duration_ms);
	else
		db_param_null(&p);
	db_param_str(&p, out->error_id);
	db_param_str(&p, out->ref);
	db_param_bool(&p, out->event.crowded);
	node->outbox_busy = true;
	db_exec(node->db, &event_stmt, &p, 0, on_written, node);
}

void
store_event(struct node *node, const struct event *event, const char *fmt, ...)
{
	struct outgoing *out = new0(struct outgoing);
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	out->event = *event;
	out->text = xstrdup(text);
	out->error_id =
	    event->error_id != NULL ? xstrdup(event->error_id) : NULL;
	out->ref = event->ref != NULL ? xstrdup(event->ref) : NULL;
	time_format(out->at, time_wall_us());
	list_init(&out->link);
	list_add(&node->outbox, &out->link);
	/* The first may be under way. */
	if (++node->n_outbox > OUTBOX_MAX) {
		log_error("an event is lost, because %d wait for the "
			  "database: %s",
		    OUTBOX_MAX, text);
		outgoing_free(node, out);
	}
	store_flush(node);
}

void
store_done(struct node *node)
{
	struct outgoing *out;

	LIST_EACH (&node->outbox, out, struct outgoing, link)
		outgoing_free(node, out);
}
