/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "base/mem.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define ROW_BYTES     (64 * 1024)
#define DOWN_GRACE_MS 10000 /* a restart or a failover of the database */

static void read_row(struct wait *w);

/* Gives the row to the owner, unless it has changed again meanwhile. */
static void
on_row(const struct db_result *res, const struct err *err, void *arg)
{
	_cleanup_(arena_freep)
	struct arena *arena = NULL;
	struct vm_runtime_row row = { 0 };
	struct wait *w = arg;
	struct err bad = { 0 };

	w->reading = false;
	if (w->again) {
		read_row(w);
		return;
	}
	/* Read again when the database is back. */
	if (err != NULL && err->code == ERR_DATABASE)
		return;
	if (err == NULL && db_rows(res) > 0) {
		arena = arena_new(ROW_BYTES);
		if (db_row_decode(
			res, 0, vm_runtime_fields, &row, arena, &bad) < 0)
			err = &bad;
	}
	w->cb(err == NULL && db_rows(res) > 0 ? &row : NULL, err, w->arg);
}

static void
read_row(struct wait *w)
{
	struct db_params p = { 0 };

	w->again = w->reading;
	if (w->reading)
		return;
	w->reading = true;
	db_param_i64(&p, w->vm_id);
	db_exec(w->broker->db, &sql_runtime, &p, 0, on_row, w);
}

void
wait_start(struct wait *w, struct broker *b, int64_t vm_id,
    void (*cb)(const struct vm_runtime_row *, const struct err *, void *),
    void *arg)
{
	*w = (struct wait){
		.broker = b,
		.vm_id = vm_id,
		.cb = cb,
		.arg = arg,
	};
	list_init(&w->link);
	list_add(&b->waits, &w->link);
	if (!db_is_up(b->db) && !timer_active(&b->down))
		wait_db_down(b);
	read_row(w);
}

void
wait_done(struct wait *w)
{
	if (w->broker == NULL)
		return;
	list_del(&w->link);
	db_forget(w->broker->db, w);
	w->broker = NULL;
}

void
wait_notify(struct broker *b, int64_t vm_id)
{
	struct wait *w;

	LIST_EACH (&b->waits, w, struct wait, link)
		if (w->vm_id == vm_id)
			read_row(w);
}

void
wait_db_up(struct broker *b)
{
	struct wait *w;

	timer_stop(&b->down);
	LIST_EACH (&b->waits, w, struct wait, link)
		read_row(w);
}

void
wait_db_down(struct broker *b)
{
	timer_start(&b->down, DOWN_GRACE_MS);
}

void
wait_db_lost(struct broker *b, const struct err *err)
{
	struct wait *w;

	/* Each is taken off the list by its owner. */
	while ((w = list_first(&b->waits, struct wait, link)) != NULL)
		w->cb(NULL, err, w->arg);
}
