/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is to be done with homes: rows of `home_jobs` for this host are
 * claimed, done by the helper, and their end is written with what the home
 * is now. Jobs of one VM, and its starts and stops, follow each other in the
 * helper. A job that was under way when the daemon ended may have been done
 * or not: it is said to have failed, and how to look.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/node.h"
#include "json/json.h"

#define JOB_MS (4 * 3600 * 1000)

struct home_job {
	struct list link;
	struct node *node;
	int64_t id, vm_id, user_id, since_ms;
	enum home_action action;
	char *name; /* of the snapshot, or "" */
	struct rpc_request *request;
	json_t *facts; /* the helper's answer */
	struct err err;
	char ref[REF_LEN + 1];
	bool ended, writing;
};

/* The event's text is what stands around the snapshot's name, or the size. */
static const struct {
	const char *op;
	const char *event; /* NULL: nothing has changed */
	const char *before;
	const char *after;
} actions[HOME_ACTION_COUNT_] = {
	[HOME_ACTION_LOOK] = { "home.look", NULL, "", "" },
	[HOME_ACTION_SNAPSHOT] = { "home.snapshot", "home.snapshot-made",
	    "snapshot '", "' of its home was made" },
	[HOME_ACTION_RESTORE] = { "home.restore", "home.restored",
	    "its home is as in the snapshot '", "' again" },
	[HOME_ACTION_FORGET] = { "home.forget", "home.snapshot-removed",
	    "snapshot '", "' of its home was removed" },
	[HOME_ACTION_GROW] = { "home.grow", "home.grown", "its home has ", "" },
	[HOME_ACTION_CONVERT] = { "home.convert", "home.converted",
	    "its home was converted, ", "" },
};

#define JOB_COLUMNS                                                  \
	"c.id, c.vm_id, c.action, c.name, v.user_id, "               \
	"coalesce(v.home_mb, o.home_mb) AS size_mb, o.hypervisor "   \
	"FROM c JOIN vms v ON v.id = c.vm_id JOIN osfs o ON o.id = " \
	"v.osf_id ORDER BY c.id"

static const struct db_stmt claim_stmt = { "home_claim",
	"WITH c AS (UPDATE home_jobs SET state = 'running', state_at = now() "
	"WHERE host_id = $1 AND state = 'new' RETURNING *) SELECT " JOB_COLUMNS,
	1 };
static const struct db_stmt lost_stmt = { "home_lost",
	"WITH c AS (SELECT * FROM home_jobs WHERE host_id = $1 "
	"AND state = 'running') SELECT " JOB_COLUMNS,
	1 };
/* id, state, error id, error, ref; then as homes_stmt */
static const struct db_stmt end_stmt = { "home_end",
	"WITH j AS (UPDATE home_jobs SET state = $2, state_at = now(), "
	"error_id = $3, error = $4, error_ref = $5 WHERE id = $1 "
	"RETURNING vm_id, host_id) "
	"INSERT INTO homes (vm_id, host_id, store, size_mb, used_mb, "
	"snapshots) SELECT vm_id, host_id, $6, $7::bigint, $8::bigint, "
	"$9::jsonb FROM j WHERE $6::text IS NOT NULL "
	"ON CONFLICT (vm_id) DO UPDATE SET host_id = excluded.host_id, "
	"store = excluded.store, size_mb = excluded.size_mb, "
	"used_mb = excluded.used_mb, snapshots = excluded.snapshots, "
	"seen_at = now()",
	9 };
static const struct db_stmt seen_stmt = { "home_seen",
	"INSERT INTO homes (vm_id, host_id, store, size_mb, used_mb) "
	"VALUES ($1, $2, $3, $4, $5) "
	"ON CONFLICT (vm_id) DO UPDATE SET host_id = excluded.host_id, "
	"store = excluded.store, size_mb = excluded.size_mb, "
	"used_mb = excluded.used_mb, seen_at = now()",
	5 };

static void
job_free(struct home_job *job)
{
	list_del(&job->link);
	if (job->request != NULL)
		rpc_request_cancel(job->request);
	db_forget(job->node->db, job);
	json_decref(job->facts);
	free(job->name);
	free(job);
}

/* Rows */

/* store, size, used */
static void
param_facts(struct db_params *p, const json_t *facts)
{
	int64_t size = json_get_int(facts, "size_mb", 0);
	int64_t used = json_get_int(facts, "used_mb", -1);

	db_param_str(p, json_get_str(facts, "store", NULL));
	if (size > 0)
		db_param_i64(p, size);
	else
		db_param_null(p);
	if (used >= 0)
		db_param_i64(p, used);
	else
		db_param_null(p);
}

static void
on_end_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct home_job *job = arg;

	job->writing = false;
	if (err != NULL && err->code == ERR_DATABASE) {
		node_retry_later(job->node);
		return;
	}
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err, "write the end of job %lld",
		    (long long)job->id);
	job_free(job);
}

static void
write_end(struct home_job *job)
{
	_cleanup_(freep)
	char *snapshots = NULL;
	bool bad = err_is_set(&job->err);
	struct db_params p = { 0 };

	if (job->writing || !db_is_up(job->node->db))
		return; /* its return writes the row */
	job->writing = true;
	if (job->facts != NULL)
		snapshots = json_text(json_object_get(job->facts, "snapshots"));
	db_param_i64(&p, job->id);
	db_param_str(&p, bad ? "failed" : "done");
	db_param_str(&p, bad ? err_id(job->err.code) : NULL);
	db_param_str(&p, bad ? job->err.msg : NULL);
	db_param_str(&p, bad ? job->ref : NULL);
	param_facts(&p, job->facts);
	db_param_str(&p, snapshots);
	db_exec(job->node->db, &end_stmt, &p, 0, on_end_written, job);
}

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
	if (err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_ERROR, err, "write what a home is");
}

void
home_seen(struct node *node, int64_t vm_id, const json_t *facts)
{
	struct db_params p = { 0 };

	if (facts == NULL || !db_is_up(node->db))
		return; /* the next start tells it again */
	db_param_i64(&p, vm_id);
	db_param_i64(&p, node->host_id);
	param_facts(&p, facts);
	db_exec(node->db, &seen_stmt, &p, 0, ignore, node);
}

/* The end of a job */

static void
tell(struct home_job *job)
{
	const char *word = home_action_to_str(job->action);
	struct event event = { .name = actions[job->action].event,
		.vm_id = job->vm_id,
		.user_id = job->user_id,
		.duration_ms = time_now_ms() - job->since_ms };
	char what[160];

	if (err_is_set(&job->err)) {
		event.name = "home.failed";
		event.error_id = err_id(job->err.code);
		event.ref = job->ref;
		store_event(
		    job->node, &event, "%s its home: %s", word, job->err.msg);
		log_err(LOG_LEVEL_WARN, &job->err,
		    "%s the home of VM %lld, reference %s", word,
		    (long long)job->vm_id, job->ref);
		return;
	}
	if (event.name == NULL)
		return;
	if (job->name[0] != '\0')
		str_copy(what, sizeof(what), job->name);
	else
		snprintf(what, sizeof(what), "%lld MiB (%s)",
		    (long long)json_get_int(job->facts, "size_mb", 0),
		    json_get_str(job->facts, "store", "?"));
	store_event(job->node, &event, "%s%s%s", actions[job->action].before,
	    what, actions[job->action].after);
}

static void
end(struct home_job *job, const struct err *err)
{
	if (err != NULL) {
		job->err.code = err->code;
		str_escape(job->err.msg, sizeof(job->err.msg), err->msg,
		    strlen(err->msg));
		ref_make(job->ref);
	}
	job->ended = true;
	tell(job);
	write_end(job);
}

static void
on_done(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct home_job *job = arg;

	closep(&fd);
	job->request = NULL;
	/* The helper has ended, and so do we: the next daemon says so. */
	if (err != NULL && rpc_is_cut(job->node->helper))
		return;
	job->facts = err == NULL ? json_deep_copy(result) : NULL;
	end(job, err);
}

/* Their beginning */

static struct home_job *
job_new(struct node *node, const struct db_result *res, int row)
{
	struct home_job *job = new0(struct home_job);
	const char *name = db_str(res, row, "name");

	job->node = node;
	job->id = db_i64(res, row, "id");
	job->vm_id = db_i64(res, row, "vm_id");
	job->user_id = db_i64(res, row, "user_id");
	/* The CHECK of the column has the same words. */
	home_action_from_str(db_str(res, row, "action"), &job->action);
	job->name = xstrdup(name != NULL ? name : "");
	job->since_ms = time_now_ms();
	list_init(&job->link);
	list_add(&node->home_jobs, &job->link);
	return job;
}

static void
begin(struct node *node, const struct db_result *res, int row)
{
	struct home_job *job = job_new(node, res, row);
	json_t *args = json_pack("{sI sI ss}", "vm_id", (json_int_t)job->vm_id,
	    "size_mb", (json_int_t)db_i64(res, row, "size_mb"), "home_store",
	    home_store_to_str(node->settings.home_store));

	json_object_set_new(args, "machine",
	    json_boolean(str_eq(db_str(res, row, "hypervisor"),
		hypervisor_to_str(HYPERVISOR_KVM))));
	if (job->name[0] != '\0')
		json_object_set_new(args, "name", json_string(job->name));
	job->request = rpc_ask(node->helper, actions[job->action].op, args, -1,
	    JOB_MS, on_done, job);
}

static void
on_claimed(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	int i;

	if (err != NULL) {
		if (err->code != ERR_DATABASE)
			log_err(LOG_LEVEL_ERROR, err, "claim jobs of homes");
		return; /* asked again when the database is back */
	}
	for (i = 0; i < db_rows(res) && node_is_running(node); i++)
		begin(node, res, i);
}

static bool
is_ours(const struct node *node, int64_t id)
{
	struct home_job *job;

	LIST_EACH (&node->home_jobs, job, struct home_job, link)
		if (job->id == id)
			return true;
	return false;
}

static void
on_lost(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct err why;
	int i;

	for (i = 0; err == NULL && i < db_rows(res); i++) {
		if (is_ours(node, db_i64(res, i, "id")))
			continue;
		err_set(&why, ERR_CANCELLED,
		    "the house-keeper was started again meanwhile; it may "
		    "have been done all the same: 'qvd home look' and 'qvd "
		    "home show' tell");
		end(job_new(node, res, i), &why);
	}
}

bool
homes_are_worked_on(const struct node *node, int64_t vm_id)
{
	struct home_job *job;

	LIST_EACH (&node->home_jobs, job, struct home_job, link)
		if (job->vm_id == vm_id && !job->ended)
			return true;
	return false;
}

void
homes_claim(struct node *node)
{
	struct db_params p = { 0 };
	struct home_job *job;

	LIST_EACH (&node->home_jobs, job, struct home_job, link)
		if (job->ended)
			write_end(job);
	db_param_i64(&p, node->host_id);
	/* First what was running before us: what is claimed is, too. */
	db_exec(node->db, &lost_stmt, &p, 0, on_lost, node);
	db_exec(node->db, &claim_stmt, &p, 0, on_claimed, node);
}

void
homes_done(struct node *node)
{
	struct home_job *job;

	LIST_EACH (&node->home_jobs, job, struct home_job, link)
		job_free(job);
}
