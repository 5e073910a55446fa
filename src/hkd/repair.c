/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a crash left on the node: found, and removed one thing after the
 * other, with a word about each; `dry` only finds. A run's bits are those of
 * VMs that this node doesn't walk just now; a VM's changes to its image are
 * dead when the farm has no such VM, which only an administrator's repair
 * touches: at the daemon's own start the rows may be the ones that are wrong.
 * What runs is never looked at. One at a time; owned by the node.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/vm.h"
#include "json/json.h"

#define LOOK_MS   60000
#define CLEAN_MS  60000
#define REMOVE_MS 360000

struct repair {
	struct node *node;
	struct rpc_request *request; /* to the helper */
	bool dry;
	bool at_start;
	json_t *ids;   /* of VMs of which something is here */
	json_t *items; /* of node.remains */
	size_t next;
	json_t *done; /* {what, vm_id, name, error} */
	repair_done_cb cb;
	void *arg;
};

/* Which of these are VMs of the farm. */
static const struct db_stmt exist_stmt = { "repair_vms",
	"SELECT id FROM vms WHERE id = ANY($1::int[])", 1 };

static void clean_next(struct repair *rp);
static void remove_next(struct repair *rp);

static void
repair_free(struct repair *rp)
{
	rp->node->repair = NULL;
	if (rp->request != NULL)
		rpc_request_cancel(rp->request);
	db_forget(rp->node->db, rp);
	json_decref(rp->ids);
	json_decref(rp->items);
	json_decref(rp->done);
	free(rp);
}

static void
finish(struct repair *rp, const struct err *err)
{
	const struct event event = { .name = "host.repaired",
		.duration_ms = -1 };
	size_t n = json_array_size(rp->done);

	if (err == NULL && n > 0 && !rp->dry)
		store_event(rp->node, &event,
		    "removed what a crash had left: %zu thing%s", n,
		    n == 1 ? "" : "s");
	if (err != NULL && rp->cb == NULL)
		log_err(LOG_LEVEL_ERROR, err, "repair");
	if (rp->cb != NULL)
		rp->cb(err == NULL ? rp->done : NULL, err, rp->arg);
	repair_free(rp);
}

static void
note(struct repair *rp, const char *what, int64_t vm_id, const char *name,
    const struct err *err)
{
	json_t *item = json_pack("{ss sI ss}", "what", what, "vm_id",
	    (json_int_t)vm_id, "name", name);

	if (err != NULL) {
		json_object_set_new(item, "error", json_string(err->msg));
		log_err(LOG_LEVEL_ERROR, err, "repair");
	} else {
		log_info("repair: %s %s %s", rp->dry ? "found" : "removed",
		    what, name);
	}
	json_array_append_new(rp->done, item);
}

/* What is left of no run */

static void
on_removed(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct repair *rp = arg;
	const json_t *item = json_array_get(rp->items, rp->next++);

	closep(&fd);
	rp->request = NULL;
	note(rp, json_get_str(item, "kind", "?"),
	    json_get_int(item, "vm_id", 0), json_get_str(item, "name", "?"),
	    err);
	remove_next(rp);
}

/* A device of a VM that is here is its own business, and so is a volume that
 * is being made just now. */
static bool
is_dead(const struct repair *rp, const json_t *item)
{
	int64_t vm_id = json_get_int(item, "vm_id", 0);
	const struct vm *vm = map_get(&rp->node->vms, (uint64_t)vm_id);

	if (homes_are_worked_on(rp->node, vm_id))
		return false;
	if (str_eq(json_get_str(item, "kind", ""), "changes"))
		return !rp->at_start && vm == NULL;
	return vm_id == 0 || vm == NULL || vm->state == VM_STATE_STOPPED;
}

static void
remove_next(struct repair *rp)
{
	const json_t *item;

	for (;; rp->next++) {
		item = json_array_get(rp->items, rp->next);
		if (item == NULL) {
			finish(rp, NULL);
			return;
		}
		if (!is_dead(rp, item))
			continue;
		if (!rp->dry)
			break;
		note(rp, json_get_str(item, "kind", "?"),
		    json_get_int(item, "vm_id", 0),
		    json_get_str(item, "name", "?"), NULL);
	}
	rp->request = rpc_ask(rp->node->helper, "node.remove",
	    json_deep_copy(item), -1, REMOVE_MS, on_removed, rp);
}

/* Changes of VMs that exist, here or elsewhere, are theirs. */
static void
on_rows(const struct db_result *res, const struct err *err, void *arg)
{
	struct repair *rp = arg;
	const json_t *item;
	size_t i = 0;

	if (err != NULL) {
		finish(rp, err);
		return;
	}
	while ((item = json_array_get(rp->items, i)) != NULL) {
		if (str_eq(json_get_str(item, "kind", ""), "changes") &&
		    db_has_id(res, json_get_int(item, "vm_id", 0)))
			json_array_remove(rp->items, i);
		else
			i++;
	}
	remove_next(rp);
}

static void
ask_rows(struct repair *rp)
{
	struct db_params p = { .n = 0 };
	const json_t *item;
	struct buf buf;
	char *text;
	size_t i;

	buf_init(&buf, 4 << 20);
	buf_printf(&buf, "{");
	json_array_foreach (rp->items, i, item)
		buf_printf(&buf, "%s%lld", i > 0 ? "," : "",
		    (long long)json_get_int(item, "vm_id", 0));
	buf_printf(&buf, "}");
	text = buf_take_str(&buf);
	db_param_str(&p, text);
	db_exec(rp->node->db, &exist_stmt, &p, 0, on_rows, rp);
	free(text);
	buf_done(&buf);
}

static void
on_remains(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct repair *rp = arg;

	closep(&fd);
	rp->request = NULL;
	if (err != NULL) {
		finish(rp, err);
		return;
	}
	rp->items = json_deep_copy(json_object_get(result, "items"));
	rp->next = 0;
	ask_rows(rp);
}

/* What is left of runs */

static bool
is_walked(const struct node *node, int64_t vm_id)
{
	const struct vm *vm = map_get(&node->vms, (uint64_t)vm_id);

	return vm != NULL && (vm->state != VM_STATE_STOPPED || vm->adopting ||
				 vm->request != NULL);
}

static void
on_cleaned(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct repair *rp = arg;
	int64_t id = json_integer_value(json_array_get(rp->ids, rp->next++));
	const json_t *words =
	    json_object_get(result, rp->dry ? "left" : "removed");
	const json_t *word;
	char name[32];
	size_t i;

	closep(&fd);
	rp->request = NULL;
	snprintf(name, sizeof(name), "of VM %lld", (long long)id);
	if (err != NULL)
		note(rp, "remains", id, name, err);
	else
		json_array_foreach (words, i, word)
			note(rp, json_string_value(word), id, name, NULL);
	clean_next(rp);
}

static void
clean_next(struct repair *rp)
{
	const json_t *id;

	while ((id = json_array_get(rp->ids, rp->next)) != NULL &&
	       is_walked(rp->node, json_integer_value(id)))
		rp->next++;
	if (id == NULL) {
		rp->request = rpc_ask(rp->node->helper, "node.remains", NULL,
		    -1, LOOK_MS, on_remains, rp);
		return;
	}
	rp->request =
	    rpc_ask(rp->node->helper, rp->dry ? "vm.left" : "vm.clean",
		json_pack("{sI}", "vm_id", json_integer_value(id)), -1,
		CLEAN_MS, on_cleaned, rp);
}

static void
on_list(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct repair *rp = arg;

	closep(&fd);
	rp->request = NULL;
	if (err != NULL) {
		finish(rp, err);
		return;
	}
	rp->ids = json_deep_copy(json_object_get(result, "vms"));
	clean_next(rp);
}

static void
begin(struct node *node, bool dry, bool at_start, repair_done_cb cb, void *arg)
{
	struct repair *rp = new0(struct repair);

	rp->node = node;
	rp->dry = dry;
	rp->at_start = at_start;
	rp->done = json_array();
	rp->cb = cb;
	rp->arg = arg;
	node->repair = rp;
	rp->request =
	    rpc_ask(node->helper, "vm.list", NULL, -1, LOOK_MS, on_list, rp);
}

int
repair_begin(
    struct node *node, bool dry, repair_done_cb cb, void *arg, struct err *err)
{
	if (!node_is_running(node))
		return err_set(err, ERR_UNAVAILABLE,
		    "the house-keeper of '%s' isn't ready yet; try again in a "
		    "moment",
		    node->conf->name);
	if (node->repair != NULL)
		return err_set(err, ERR_CONFLICT,
		    "a repair of '%s' is under way; try again when it is done",
		    node->conf->name);
	begin(node, dry, false, cb, arg);
	return 0;
}

void
repair_at_start(struct node *node)
{
	if (node->repair == NULL)
		begin(node, false, true, NULL, NULL);
}

void
repair_done(struct node *node)
{
	struct err err;

	err_set(&err, ERR_CANCELLED, "the house-keeper of '%s' is ending",
	    node->conf->name);
	if (node->repair != NULL)
		finish(node->repair, &err);
}
