/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The life of the main role. Each time the database comes (back), the same
 * chain runs: this host's row, the configuration, the network, all VMs; the
 * first time also adoption. Then it is woken by notifications only; a lost
 * database stops nothing that runs.
 */
#include "hkd/node.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"
#include "db/migrate.h"
#include "hkd/farm.h"
#include "hkd/garbage.h"
#include "hkd/vm.h"
#include "json/json.h"
#include "model/states.h"

#define RETRY_MS      1000
#define RETRY_LAST_MS 30000
#define SETUP_MS      30000
#define LIST_MS       30000
#define STOP_MS       3000 /* for the last row to be written */

static const struct db_stmt host_stmt = { "host",
	"SELECT id FROM hosts WHERE name = $1", 1 };
static const struct db_stmt host_state_stmt = { "host_state",
	"INSERT INTO host_runtimes AS r (host_id, state, lease_until, "
	"memory_bytes, cpus, version) VALUES ($1, $2, "
	"now() + $3 * interval '1 millisecond', $4, $5, $6) "
	"ON CONFLICT (host_id) DO UPDATE SET state = excluded.state, "
	"state_at = CASE WHEN r.state = excluded.state THEN r.state_at "
	"ELSE now() END, lease_until = excluded.lease_until, "
	"memory_bytes = $4, cpus = $5, version = $6",
	6 };
static const struct db_stmt lease_stmt = { "lease",
	"UPDATE host_runtimes SET "
	"lease_until = now() + $2 * interval '1 millisecond' "
	"WHERE host_id = $1",
	2 };

static void read_host(struct node *node);
static void read_settings(struct node *node);
static void read_vms(struct node *node);

/* The host's own row */

static void
on_written(const struct db_result *res, const struct err *err, void *arg)
{
	if (err != NULL && err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_ERROR, err, "write the state of this host");
}

static void
write_host(struct node *node, enum host_state state, db_cb cb)
{
	struct db_params p = { 0 };
	struct sysinfo info;

	sysinfo(&info);
	db_param_i64(&p, node->host_id);
	db_param_str(&p, host_state_to_str(state));
	db_param_i64(&p, node->settings.lease_ms);
	db_param_i64(&p, (int64_t)info.totalram * info.mem_unit);
	db_param_i64(&p, get_nprocs());
	db_param_str(&p, QVD_VERSION);
	db_exec(node->db, &host_state_stmt, &p, STOP_MS, cb, node);
}

static void
on_heartbeat(void *arg)
{
	struct node *node = arg;
	struct db_params p = { 0 };

	timer_start(&node->heartbeat, node->settings.lease_ms / 3);
	if (!db_is_up(node->db))
		return; /* its return writes the row */
	db_param_i64(&p, node->host_id);
	db_param_i64(&p, node->settings.lease_ms);
	db_exec(node->db, &lease_stmt, &p, 0, on_written, node);
}

static void
host_event(
    struct node *node, const char *name, int64_t duration_ms, const char *text)
{
	const struct event event = { .name = name, .duration_ms = duration_ms };

	store_event(node, &event, "%s", text);
	log_info("%s", text);
}

/* Something went wrong that is worth another try. */
static void
on_retry(void *arg)
{
	struct node *node = arg;
	struct vm *vm;

	if (!db_is_up(node->db))
		return;
	if (!node_is_running(node) || node->chain_due)
		read_host(node);
	if (!node_is_running(node))
		return;
	MAP_EACH (&node->vms, vm)
		if (vm->dirty && !vm->saving)
			vm_save(vm);
	store_flush(node);
	imports_claim(node);
	homes_claim(node);
	fetch_claim(node);
}

void
node_retry_later(struct node *node)
{
	if (timer_active(&node->retry))
		return;
	timer_start(&node->retry, node->retry_ms);
	node->retry_ms *= 2;
	if (node->retry_ms > RETRY_LAST_MS)
		node->retry_ms = RETRY_LAST_MS;
}

/* True if the chain can't go on; it is begun again. */
static bool
chain_broke(struct node *node, const struct err *err, const char *what)
{
	if (err == NULL)
		return node->phase == NODE_STOPPING;
	if (err->code != ERR_DATABASE)
		log_err(LOG_LEVEL_ERROR, err, "%s", what);
	node->chain_due = true;
	node_retry_later(node);
	return true;
}

/* VMs */

static void
reconcile_all(struct node *node)
{
	struct vm **vms, *vm;
	size_t n = 0, i;

	/* A VM may go from the map while it is walked. */
	vms = xcalloc(map_count(&node->vms) + 1, sizeof(struct vm *));
	MAP_EACH (&node->vms, vm)
		vms[n++] = vm;
	for (i = 0; i < n; i++)
		vm_reconcile(vms[i]);
	free(vms);
}

static void
run(struct node *node)
{
	_cleanup_(freep)
	char *started =
	    xasprintf("the house-keeper runs%s", apparmor_says(node->apparmor));

	node->phase = NODE_RUNNING;
	write_host(node, HOST_RUNNING, on_written);
	on_heartbeat(node);
	host_event(node, "host.started", -1, started);
	reconcile_all(node);
	imports_claim(node);
	repair_at_start(node);
	garbage_soon(node); /* what went while nobody was here */
	homes_claim(node);
	farm_begin(node);
	disks_begin(node);
}

void
node_adopted_one(struct node *node)
{
	if (--node->n_adopting == 0 && node->phase == NODE_PREPARING)
		run(node);
}

static void
adopt(struct vm *vm)
{
	if (vm->adopting)
		return;
	vm->node->n_adopting++;
	vm_adopt(vm);
}

/* What is on the node, also if no row speaks of it; and what rows speak of,
 * also if nothing of it is on the node any more. */
static void
on_list(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node *node = arg;
	const json_t *id;
	struct vm *vm;
	size_t i;

	closep(&fd);
	node->listing = false;
	if (chain_broke(node, err, "look for VMs on this node"))
		return;
	node->n_adopting++; /* until all are asked about */
	json_array_foreach (json_object_get(result, "vms"), i, id)
		adopt(vm_get(node, json_integer_value(id)));
	MAP_EACH (&node->vms, vm)
		if (vm->state != VM_STATE_STOPPED)
			adopt(vm);
	node_adopted_one(node);
}

static void
adopt_all(struct node *node)
{
	if (node->listing || node->n_adopting > 0)
		return;
	node->listing = true;
	rpc_ask(node->helper, "vm.list", NULL, -1, LIST_MS, on_list, node);
}

static void
on_vm_row(const struct db_result *res, const struct err *err, void *arg)
{
	struct vm *vm = arg;

	if (err != NULL) {
		if (err->code != ERR_DATABASE)
			log_err(LOG_LEVEL_ERROR, err, "read VM %lld",
			    (long long)vm->id);
		return; /* all are read when the database is back */
	}
	if (db_rows(res) == 0) {
		vm->want.exists = false;
		vm->want.here = false;
	} else {
		vm_take_row(vm->node, res, 0);
	}
	vm_reconcile(vm);
}

static void
on_new_row(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;

	if (res != NULL && db_rows(res) > 0 &&
	    db_i64(res, 0, "host_id") == node->host_id)
		vm_reconcile(vm_take_row(node, res, 0));
}

void
node_read_vm(struct node *node, int64_t vm_id)
{
	struct vm *vm = map_get(&node->vms, (uint64_t)vm_id);
	struct db_params p = { 0 };

	db_param_i64(&p, vm_id);
	if (vm != NULL)
		db_exec(node->db, &vm_row_stmt, &p, 0, on_vm_row, vm);
	else
		db_exec(node->db, &vm_row_stmt, &p, 0, on_new_row, node);
}

static void
on_vms(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct vm *vm;
	int i;

	if (chain_broke(node, err, "read the VMs of this host"))
		return;
	node->chain_due = false;
	node->retry_ms = RETRY_MS;
	/* A row that isn't in the answer has gone, or was placed elsewhere. */
	MAP_EACH (&node->vms, vm)
		vm->want.here = vm->want.exists = false;
	for (i = 0; i < db_rows(res); i++)
		vm_take_row(node, res, i);
	if (node_is_running(node)) {
		reconcile_all(node);
		imports_claim(node);
		homes_claim(node);
		fetch_claim(node);
	} else {
		adopt_all(node);
	}
}

static void
read_vms(struct node *node)
{
	struct db_params p = { 0 };

	db_param_i64(&p, node->host_id);
	db_exec(node->db, &vm_rows_stmt, &p, 0, on_vms, node);
}

/* The network */

static void
on_network(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node *node = arg;

	closep(&fd);
	if (chain_broke(node, err, "set up the desktops' network"))
		return;
	apparmor_from_str(
	    json_get_str(result, "apparmor", ""), &node->apparmor);
	node->network_ready = true;
	read_vms(node);
}

/* A wrong choice is said at once; what can be started without it is. */
static void
on_storage(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct event event = { .name = "host.storage-unusable",
		.duration_ms = -1 };
	char ref[REF_LEN + 1];

	closep(&fd);
	if (err == NULL || rpc_is_cut(node->helper))
		return;
	ref_make(ref);
	event.error_id = err_id(err->code);
	event.ref = ref;
	store_event(node, &event, "%s", err->msg);
	log_err(LOG_LEVEL_ERROR, err,
	    "this node can't keep desktops as chosen, reference %s", ref);
}

static void
check_storage(struct node *node)
{
	const struct node_settings *s = &node->settings;

	node->storage_asked = true;
	/* What an image's files are checked out as may be another thing. */
	map_done(&node->trees);
	map_init_str(&node->trees);
	rpc_ask(node->helper, "storage.check",
	    json_pack("{ss ss sI}", "home_store",
		home_store_to_str(s->home_store), "root_store",
		root_store_to_str(s->root_store), "root_mb",
		(json_int_t)s->root_mb),
	    -1, SETUP_MS, on_storage, node);
}

static void
on_settings(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	const struct node_settings *s = &node->settings;
	struct settings_changes changed;

	if (chain_broke(node, err, "read the configuration"))
		return;
	settings_take(&node->settings, res, &changed);
	if (node_is_running(node))
		disks_begin(node);
	if (changed.storage || !node->storage_asked)
		check_storage(node);
	if (!changed.network && node->network_ready) {
		node_pump_queue(node);
		read_vms(node);
		return;
	}
	rpc_ask(node->helper, "node.setup",
	    json_pack("{ss ss ss sb ss si}", "bridge", s->bridge, "gateway",
		s->gateway, "gateway6", s->gateway6, "nat", (int)s->nat, "dns",
		s->dns, "packets", s->packets),
	    -1, SETUP_MS, on_network, node);
}

static void
read_settings(struct node *node)
{
	struct db_params p = { .n = 0 };

	db_param_i64(&p, node->host_id);
	db_exec(node->db, &settings_stmt, &p, 0, on_settings, node);
}

/* The beginning of the chain */

static void
on_host(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	char channel[40];

	if (chain_broke(node, err, "read this host's row"))
		return;
	if (db_rows(res) == 0) {
		/* qvd_hosts tells when there is one. */
		log_warn("the farm has no host '%s'; add it with 'qvd host "
			 "add %s'",
		    node->conf->name, node->conf->name);
		return;
	}
	node->host_id = db_i64(res, 0, "id");
	snprintf(channel, sizeof(channel), "qvd_host_%lld",
	    (long long)node->host_id);
	db_listen(node->db, channel);
	if (node->phase == NODE_WAITING)
		node->phase = NODE_PREPARING;
	write_host(node, node_is_running(node) ? HOST_RUNNING : HOST_STARTING,
	    on_written);
	read_settings(node);
}

static void
read_host(struct node *node)
{
	struct db_params p = { 0 };

	if (node->phase == NODE_STOPPING)
		return;
	db_param_str(&p, node->conf->name);
	db_exec(node->db, &host_stmt, &p, 0, on_host, node);
}

static void
on_schema(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;
	struct err bad;

	if (chain_broke(node, err,
		"read the schema's version; has 'qvd db "
		"migrate' been run?"))
		return;
	if (db_schema_check((int)db_i64(res, 0, "version"), &bad) < 0) {
		log_err(LOG_LEVEL_ERROR, &bad, "qvd-hkd can't run");
		node->exit_code = err_exit_code(bad.code);
		loop_stop(node->loop);
		return;
	}
	read_host(node);
}

static void
on_up(struct db *db, void *arg)
{
	struct node *node = arg;

	if (node->was_up && node->db_told)
		host_event(node, "database.back",
		    time_now_ms() - node->down_since_ms,
		    "the database is back");
	node->was_up = true;
	node->db_told = false;
	node->retry_ms = RETRY_MS;
	db_exec(db, &db_schema_stmt, NULL, 0, on_schema, node);
	if (node_is_running(node))
		node_retry_later(node); /* what could not be written */
}

static void
on_down(struct db *db, const struct err *err, void *arg)
{
	struct node *node = arg;

	node->db_told = true;
	node->down_since_ms = time_now_ms();
	log_err(LOG_LEVEL_WARN, err, "without the database; what runs goes on");
}

static void
on_notify(struct db *db, const char *channel, const char *payload, void *arg)
{
	struct node *node = arg;
	int64_t id;

	if (str_eq(channel, "qvd_images_gone")) {
		garbage_soon(node);
	} else if (str_eq(channel, "qvd_images")) {
		if (node_is_running(node))
			imports_claim(node);
		fetch_claim(node);
	} else if (str_eq(channel, "qvd_configs")) {
		if (node->host_id != 0)
			read_settings(node);
	} else if (str_eq(channel, "qvd_policies")) {
		if (node->network_ready)
			read_vms(node);
	} else if (str_eq(channel, "qvd_hosts")) {
		if (node->host_id == 0)
			read_host(node);
		fetch_claim(node); /* somebody who has it may be back */
	} else if (str_starts(payload, "home ")) {
		if (node_is_running(node))
			homes_claim(node);
	} else if (str_starts(payload, "vm ") &&
		   str_to_i64(payload + 3, 1, INT64_MAX, &id)) {
		node_read_vm(node, id);
	}
}

/* Stopping: what runs goes on, the next house-keeper adopts it. */

static void
on_last_word(const struct db_result *res, const struct err *err, void *arg)
{
	struct node *node = arg;

	loop_stop(node->loop);
}

static void
on_patience(void *arg)
{
	loop_stop(((struct node *)arg)->loop);
}

static void
on_term(int signum, void *arg)
{
	struct node *node = arg;

	if (node->phase == NODE_STOPPING)
		return;
	node->phase = NODE_STOPPING;
	log_info("stopping; the desktops go on");
	timer_done(&node->retry);
	timer_init(&node->retry, node->loop, on_patience, node);
	timer_start(&node->retry, STOP_MS);
	if (node->host_id == 0 || !db_is_up(node->db)) {
		loop_stop(node->loop);
		return;
	}
	host_event(node, "host.stopped", -1, "the house-keeper stops");
	write_host(node, HOST_STOPPED, on_last_word);
}

static void
on_helper_gone(struct rpc *rpc, const struct err *err, void *arg)
{
	struct node *node = arg;

	if (node->phase != NODE_STOPPING)
		log_err(LOG_LEVEL_WARN, err, "the helper is gone; ending");
	loop_stop(node->loop);
}

static void
node_init(struct node *node, const struct node_conf *conf)
{
	node->loop = loop_new();
	node->conf = conf;
	node->retry_ms = RETRY_MS;
	list_init(&node->ctl_peers);
	list_init(&node->imports);
	list_init(&node->hooks);
	list_init(&node->collects);
	list_init(&node->garbages);
	farm_init(node);
	disks_init(node);
	timer_init(&node->garbage, node->loop, garbage_on_timer, node);
	timer_init(&node->exports, node->loop, garbage_on_timer, node);
	list_init(&node->home_jobs);
	list_init(&node->outbox);
	map_init(&node->vms);
	map_init_str(&node->trees);
	settings_init(&node->settings);
	timer_init(&node->heartbeat, node->loop, on_heartbeat, node);
	timer_init(&node->retry, node->loop, on_retry, node);
	queue_init(node);
	sigwatch_init(&node->term, node->loop, SIGTERM, on_term, node);
}

static void
node_done(struct node *node)
{
	struct vm *vm;

	node->phase = NODE_STOPPING;
	ctl_close(node);
	MAP_EACH (&node->vms, vm)
		vm_free(vm);
	imports_done(node);
	collects_done(node);
	repair_done(node);
	garbage_done(node);
	farm_done(node);
	disks_done(node);
	timer_done(&node->garbage);
	timer_done(&node->exports);
	homes_done(node);
	hooks_done(node);
	store_done(node);
	db_free(node->db);
	rpc_free(node->helper);
	timer_done(&node->heartbeat);
	timer_done(&node->retry);
	timer_done(&node->admission);
	sigwatch_done(&node->term);
	settings_done(&node->settings);
	map_done(&node->vms);
	map_done(&node->trees);
	loop_free(node->loop);
}

int
node_run(const struct node_conf *conf, int fd, int ctl_fd)
{
	static const char *const channels[] = { "qvd_images", "qvd_images_gone",
		"qvd_configs", "qvd_hosts", "qvd_policies", NULL };
	static const struct db_callbacks cbs = { on_up, on_down, on_notify };
	static const struct rpc_op none[] = { { .name = NULL } };
	_cleanup_(freep)
	char *conninfo = node_conf_conninfo(conf, "qvd_hkd");
	const struct db_conf db_conf = {
		.conninfo = conninfo, .program = "qvd-hkd", .channels = channels
	};
	struct node node = { 0 };

	node_init(&node, conf);
	node.helper = rpc_new(node.loop, fd, none, on_helper_gone, &node);
	node.db = db_new(node.loop, &db_conf, &cbs, &node);
	ctl_open(&node, ctl_fd);
	loop_run(node.loop);
	node_done(&node);
	return node.exit_code;
}
