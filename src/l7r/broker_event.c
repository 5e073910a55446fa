/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "l7r/broker.h"
#include "l7r/broker_sql.h"

#define PENDING_MAX         2000
#define PENDING_DEADLINE_MS (10 * 60 * 1000)
#define TRIES               5

/* One that the database has not confirmed. */
struct pending {
	struct list link;
	struct broker *broker;
	struct db_params params; /* texts are heap */
	int tries;
};

static void try_write(struct pending *p);

void
event_params(struct db_params *p, const struct broker *b, const struct event *e)
{
	const int64_t ids[] = { e->vm_id, e->user_id, b->host_id };
	size_t i;

	db_param_str(p, e->name);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		if (ids[i] != 0)
			db_param_i64(p, ids[i]);
		else
			db_param_null(p);
	db_param_str(p, e->text);
	if (e->duration_ms >= 0)
		db_param_i64(p, e->duration_ms);
	else
		db_param_null(p);
	db_param_str(
	    p, e->failure != NULL ? err_id(e->failure->err.code) : NULL);
	db_param_str(p, e->failure != NULL ? e->failure->ref : NULL);
	db_param_bool(p, e->of_image);
}

static void
pending_free(struct pending *p)
{
	union {
		const char *in;
		char *out;
	} u;
	int i;

	list_del(&p->link);
	p->broker->n_events--;
	for (i = 0; i < p->params.n; i++) {
		u.in = p->params.v[i];
		free(u.out);
	}
	free(p);
}

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct pending *p = arg;

	if (err == NULL) {
		pending_free(p);
	} else if (err->code == ERR_DATABASE && ++p->tries < TRIES) {
		try_write(p);
	} else {
		log_err(
		    LOG_LEVEL_ERROR, err, "event '%s' is lost", p->params.v[0]);
		pending_free(p);
	}
}

static void
try_write(struct pending *p)
{
	db_exec(p->broker->db, &sql_event, &p->params, PENDING_DEADLINE_MS,
	    on_written, p);
}

void
event_write(struct broker *b, const struct event *e)
{
	struct db_params params = { 0 };
	struct pending *p;
	int i;

	if (b->n_events >= PENDING_MAX || b->db == NULL) {
		log_warn("the database is away and too many events wait: "
			 "'%s' for VM %lld is lost",
		    e->name, (long long)e->vm_id);
		return;
	}
	event_params(&params, b, e);
	p = new0(struct pending);
	p->broker = b;
	list_init(&p->link);
	list_add(&b->events, &p->link);
	b->n_events++;
	p->params.n = params.n;
	for (i = 0; i < params.n; i++)
		p->params.v[i] =
		    params.v[i] != NULL ? xstrdup(params.v[i]) : NULL;
	try_write(p);
}

void
events_free(struct broker *b)
{
	struct pending *p;

	LIST_EACH (&b->events, p, struct pending, link)
		pending_free(p);
}
