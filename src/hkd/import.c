/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Images on their way into the store: a row in state 'new' that this host
 * may import is claimed by one update (of several hosts one wins), imported
 * and checked out by the helper, and published. A daemon that is restarted
 * begins again what it had claimed. The result is written even if the
 * database was away meanwhile.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "hkd/garbage.h"
#include "hkd/node.h"
#include "json/json.h"
#include "model/states.h"

#define IMPORT_MS   (2 * 60 * 60 * 1000)
#define CHECKOUT_MS (30 * 60 * 1000)
#define PROGRESS_MS 500
/* Told when the import has ended, and what desktops start from is made. */
#define CHECKOUT_PERCENT 98

struct import {
	struct list link;
	struct node *node;
	int64_t image_id;
	char *name; /* "demo/1" */
	struct rpc_request *request;
	int64_t since_ms, progress_ms;
	char step[80];  /* last told */
	const char *op; /* asked of the helper */
	json_t *args;   /* of it, while something has to come before */
	json_t *result; /* of the import */
	bool hold;      /* to be published by somebody */
	bool kvm;       /* its OSF runs virtual machines */
	bool ended;     /* the row is to be written */
	bool writing;
	struct err err;
};

#define CLAIM_COLUMNS                                               \
	"SELECT c.id, c.source, c.author, c.message, c.version, "   \
	"c.hold, c.vm_id, o.name AS osf, p.checksum AS parent, "    \
	"u.login, t.idmap_slot, b.checksum AS base, o.hypervisor, " \
	"y.hypervisor AS vm_hypervisor, y.accel AS vm_accel, "      \
	"ul.sha256 AS upload_sha256 "                               \
	"FROM c JOIN osfs o ON o.id = c.osf_id "                    \
	"LEFT JOIN images p ON p.id = c.parent_id "                 \
	"LEFT JOIN vms v ON v.id = c.vm_id "                        \
	"LEFT JOIN osfs y ON y.id = v.osf_id "                      \
	"LEFT JOIN users u ON u.id = v.user_id "                    \
	"LEFT JOIN tenants t ON t.id = u.tenant_id "                \
	"LEFT JOIN vm_runtimes r ON r.vm_id = v.id "                \
	"LEFT JOIN images b ON b.id = r.image_id "                  \
	"LEFT JOIN uploads ul ON ul.id = c.upload_id"

static const struct db_stmt claim_stmt = { "image_claim",
	"WITH c AS (UPDATE images SET state = 'importing', "
	"state_at = now(), progress = 0 WHERE state = 'new' "
	"AND (host_id IS NULL OR host_id = $1) RETURNING *), "
	"n AS (INSERT INTO image_nodes (image_id, host_id, state) "
	"SELECT id, $1, 'importing' FROM c ON CONFLICT (image_id, host_id) "
	"DO UPDATE SET state = 'importing', state_at = now()) " CLAIM_COLUMNS,
	1 };
static const struct db_stmt again_stmt = { "image_again",
	"WITH c AS (SELECT i.* FROM images i JOIN image_nodes n "
	"ON n.image_id = i.id WHERE n.host_id = $1 "
	"AND n.state = 'importing' AND i.state = 'importing') " CLAIM_COLUMNS,
	1 };
static const struct db_stmt progress_stmt = { "image_progress",
	"WITH n AS (UPDATE image_nodes SET progress = $3, step = $4 "
	"WHERE image_id = $1 AND host_id = $2 AND state = 'importing') "
	"UPDATE images SET progress = $3 WHERE id = $1 "
	"AND state = 'importing' AND progress IS DISTINCT FROM $3",
	4 };
static const struct db_stmt end_stmt = { "image_end",
	"WITH n AS (UPDATE image_nodes SET state = $3, state_at = now(), "
	"progress = CASE WHEN $3 = 'present' THEN 100 ELSE progress END, "
	"step = NULL WHERE image_id = $1 AND host_id = $2) "
	"UPDATE images SET state = $4, state_at = now(), "
	"checksum = $5, size_bytes = $6, "
	"progress = CASE WHEN $4 = 'failed' THEN progress ELSE 100 END, "
	"error_id = $7, error = $8, content = $9, files = $10, "
	"hypervisors = $11 WHERE id = $1 AND state = 'importing'",
	11 };
static const struct db_stmt wanted_stmt = { "image_wanted",
	"SELECT id FROM images WHERE id = $1 AND state = 'importing'", 1 };

static void
import_free(struct import *im)
{
	list_del(&im->link);
	if (im->request != NULL)
		rpc_request_cancel(im->request);
	db_forget(im->node->db, im);
	free(im->name);
	json_decref(im->result);
	json_decref(im->args);
	free(im);
}

static void
on_end_written(const struct db_result *res, const struct err *err, void *arg)
{
	struct import *im = arg;

	im->writing = false;
	if (err != NULL && err->code == ERR_DATABASE) {
		node_retry_later(im->node);
		return;
	}
	if (err != NULL)
		log_err(LOG_LEVEL_ERROR, err,
		    "write the end of the import "
		    "of %s",
		    im->name);
	import_free(im);
}

static void
number_param(struct db_params *p, const json_t *result, const char *name)
{
	if (json_object_get(result, name) != NULL)
		db_param_i64(p, json_get_int(result, name, 0));
	else
		db_param_null(p);
}

static void
write_end(struct import *im)
{
	bool bad = err_is_set(&im->err);
	struct db_params p = { 0 };

	if (im->writing)
		return;
	im->writing = true;
	db_param_i64(&p, im->image_id);
	db_param_i64(&p, im->node->host_id);
	db_param_str(&p, bad ? "failed" : "present");
	db_param_str(&p, bad ? "failed" : im->hold ? "ready" : "published");
	db_param_str(&p, json_get_str(im->result, "checksum", NULL));
	number_param(&p, im->result, "size_bytes");
	db_param_str(&p, bad ? err_id(im->err.code) : NULL);
	db_param_str(&p, bad ? im->err.msg : NULL);
	db_param_str(&p, json_get_str(im->result, "content", NULL));
	number_param(&p, im->result, "files");
	db_param_str(&p, json_get_str(im->result, "hypervisors", NULL));
	db_exec(im->node->db, &end_stmt, &p, 0, on_end_written, im);
}

static void
end(struct import *im, const struct err *err)
{
	struct event event = { .name = "image.published",
		.image_id = im->image_id,
		.duration_ms = time_now_ms() - im->since_ms };
	char ref[REF_LEN + 1];

	im->ended = true;
	if (err == NULL) {
		if (im->hold)
			event.name = "image.imported";
		store_event(im->node, &event, "image %s is %s: %lld MB",
		    im->name,
		    im->hold ? "imported, to be published" : "published",
		    (long long)(json_get_int(im->result, "size_bytes", 0) /
				1000000));
		log_info("image %s is %s", im->name,
		    im->hold ? "imported" : "published");
	} else {
		im->err.code = err->code;
		str_escape(im->err.msg, sizeof(im->err.msg), err->msg,
		    strlen(err->msg));
		ref_make(ref);
		event.name = "image.import-failed";
		event.error_id = err_id(err->code);
		event.ref = ref;
		store_event(im->node, &event, "import of image %s: %s",
		    im->name, im->err.msg);
		log_err(LOG_LEVEL_ERROR, &im->err,
		    "import of image %s, reference %s", im->name, ref);
		if (im->result != NULL)
			garbage_soon(im->node); /* it is in the store */
	}
	write_end(im);
}

static void
on_checked_out(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct import *im = arg;

	closep(&fd);
	im->request = NULL;
	end(im, err);
}

static void
ignore(const struct db_result *res, const struct err *err, void *arg)
{
}

static void
tell(struct import *im, int64_t percent, const char *step)
{
	struct db_params p = { 0 };

	if (!db_is_up(im->node->db))
		return;
	im->progress_ms = time_now_ms();
	str_copy(im->step, sizeof(im->step), step);
	db_param_i64(&p, im->image_id);
	db_param_i64(&p, im->node->host_id);
	db_param_i64(&p, percent);
	db_param_str(&p, im->step);
	db_exec(im->node->db, &progress_stmt, &p, 0, ignore, im);
}

static void
on_progress(const json_t *info, void *arg)
{
	const char *step = json_get_str(info, "text", "");
	struct import *im = arg;

	/* Many percents, and few steps. */
	if (!str_eq(step, im->step) ||
	    time_now_ms() - im->progress_ms >= PROGRESS_MS)
		tell(im, json_get_int(info, "percent", 0), step);
}

/* Of a machine's OSF it is seen when it is checked out. */
static int
check_hypervisor(const struct import *im, struct err *err)
{
	if (im->kvm || !str_eq(json_get_str(im->result, "hypervisors", ""),
			   hypervisor_to_str(HYPERVISOR_KVM)))
		return 0;
	return err_set(err, ERR_IMAGE,
	    "it is the disk of a virtual machine, and the VMs of its OSF are "
	    "containers: import it into an OSF of virtual machines ('qvd osf "
	    "add NAME --hypervisor kvm')");
}

static void
on_imported(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct import *im = arg;
	struct err bad;

	closep(&fd);
	im->request = NULL;
	if (err != NULL) {
		end(im, err);
		return;
	}
	im->result = json_deep_copy(result);
	if (check_hypervisor(im, &bad) < 0) {
		end(im, &bad);
		return;
	}
	tell(im, CHECKOUT_PERCENT, "checking it out");
	/* Published means: a desktop can start at once. */
	im->request = rpc_ask(im->node->helper, "image.checkout",
	    json_pack("{ss ss sb}", "checksum",
		json_get_str(result, "checksum", ""), "root_store",
		root_store_to_str(im->kvm ? ROOT_STORE_OVERLAY
					  : im->node->settings.root_store),
		"machine", (int)im->kvm),
	    -1, CHECKOUT_MS, on_checked_out, im);
}

static struct import *
find(const struct node *node, int64_t image_id)
{
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		if (im->image_id == image_id)
			return im;
	return NULL;
}

static void
set_text(json_t *args, const char *name, const char *value)
{
	if (value != NULL)
		json_object_set_new(args, name, json_string(value));
}

/* What the helper is asked: the import of a source, or of the changes that a
 * stopped VM has made to the image that it ran from. */
static void
describe(struct import *im, const struct db_result *res, int row)
{
	json_t *args = json_object();
	bool commit = db_i64(res, row, "vm_id") != 0;
	enum osf_accel accel = OSF_ACCEL_NODE;

	json_object_set_new(args, "image_id", json_integer(im->image_id));
	set_text(args, "author", db_str(res, row, "author"));
	set_text(args, "message", db_str(res, row, "message"));
	set_text(args, "version", db_str(res, row, "version"));
	set_text(args, "parent", db_str(res, row, "parent"));
	im->args = args;
	im->op = "image.import";
	if (!commit) {
		set_text(args, "source", db_str(res, row, "source"));
		set_text(args, "sha256", db_str(res, row, "upload_sha256"));
		return;
	}
	im->op = "image.commit";
	json_object_set_new(
	    args, "vm_id", json_integer(db_i64(res, row, "vm_id")));
	json_object_set_new(
	    args, "idmap_slot", json_integer(db_i64(res, row, "idmap_slot")));
	set_text(args, "login", db_str(res, row, "login"));
	set_text(args, "base", db_str(res, row, "base"));
	set_text(args, "hypervisor", db_str(res, row, "vm_hypervisor"));
	/* As its start would. */
	if (db_str(res, row, "vm_accel") != NULL)
		osf_accel_from_str(db_str(res, row, "vm_accel"), &accel);
	set_text(args, "accel", settings_accel(&im->node->settings, accel));
}

static void
ask(struct import *im)
{
	im->request = rpc_ask(im->node->helper, im->op, take_ptr(im->args), -1,
	    IMPORT_MS, on_imported, im);
	rpc_request_on_progress(im->request, on_progress);
}

static void
on_base_there(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct import *im = arg;

	closep(&fd);
	im->request = NULL;
	if (err != NULL)
		end(im, err);
	else
		ask(im);
}

/* The machine that tells what was changed in one is made of the image that it
 * ran from, with the programs of today. */
static void
ask_for_base(struct import *im)
{
	im->request = rpc_ask(im->node->helper, "image.checkout",
	    json_pack("{ss sb}", "checksum", json_get_str(im->args, "base", ""),
		"machine", 1),
	    -1, CHECKOUT_MS, on_base_there, im);
}

static void
begin(struct node *node, const struct db_result *res, int row)
{
	struct import *im = new0(struct import);
	const struct event event = { .name = "image.import-started",
		.image_id = db_i64(res, row, "id"),
		.duration_ms = -1 };

	im->node = node;
	im->image_id = event.image_id;
	im->since_ms = time_now_ms();
	im->hold = db_bool(res, row, "hold");
	im->kvm = str_eq(
	    db_str(res, row, "hypervisor"), hypervisor_to_str(HYPERVISOR_KVM));
	im->name = xasprintf(
	    "%s/%s", db_str(res, row, "osf"), db_str(res, row, "version"));
	list_init(&im->link);
	list_add(&node->imports, &im->link);
	store_event(node, &event, "import of image %s from %.300s", im->name,
	    db_str(res, row, "source"));
	log_info("importing image %s", im->name);
	describe(im, res, row);
	if (str_eq(json_get_str(im->args, "hypervisor", ""),
		hypervisor_to_str(HYPERVISOR_KVM)))
		ask_for_base(im);
	else
		ask(im);
}

static void
on_claimed(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	int i;

	if (err != NULL) {
		if (err->code != ERR_DATABASE)
			log_err(LOG_LEVEL_ERROR, err, "claim images");
		return; /* asked again when the database is back */
	}
	for (i = 0; i < db_rows(res) && node_is_running(node); i++)
		if (find(node, db_i64(res, i, "id")) == NULL)
			begin(node, res, i);
}

/* Its row was taken back: `qvd image cancel`, or the image's deletion. */
static void
on_wanted(const struct db_result *res, const struct err *err, void *arg)
{
	struct import *im = arg;

	if (err != NULL || db_rows(res) > 0 || im->ended)
		return;
	log_info("import of image %s cancelled", im->name);
	if (im->result != NULL)
		garbage_soon(im->node); /* it is in the store */
	import_free(im);
}

static void
ask_if_wanted(struct import *im)
{
	struct db_params p = { 0 };

	db_param_i64(&p, im->image_id);
	db_exec(im->node->db, &wanted_stmt, &p, 0, on_wanted, im);
}

void
imports_claim(struct node *node)
{
	struct db_params p = { 0 };
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		if (im->ended)
			write_end(im);
		else
			ask_if_wanted(im);
	db_param_i64(&p, node->host_id);
	db_exec(node->db, &claim_stmt, &p, 0, on_claimed, node);
	db_exec(node->db, &again_stmt, &p, 0, on_claimed, node);
}

void
imports_done(struct node *node)
{
	struct import *im;

	LIST_EACH (&node->imports, im, struct import, link)
		import_free(im);
}
