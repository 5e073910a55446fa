/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hkd/helper_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "hkd/op_forge.h"
#include "json/json.h"
#include "storage/storage.h"

/* Everything that main can ask for. */
static const struct rpc_op operations[] = {
	{ "node.setup", handle_node_setup },
	{ "image.import", handle_image_import },
	{ "image.checkout", handle_image_checkout },
	{ "image.verify", handle_image_verify },
	{ "storage.check", handle_storage_check },
	{ "home.look", handle_home_look },
	{ "home.snapshot", handle_home_snapshot },
	{ "home.restore", handle_home_restore },
	{ "home.forget", handle_home_forget },
	{ "home.grow", handle_home_grow },
	{ "home.convert", handle_home_convert },
	{ "storage.collect", handle_storage_collect },
	{ "image.commit", handle_image_commit },
	{ "image.diff", handle_image_diff },
	{ "image.export", handle_image_export },
	{ "image.refs", handle_image_refs },
	{ "image.gc", handle_image_gc },
	{ "image.pull", handle_image_pull },
	{ "image.serve", handle_image_serve },
	{ "farm.identity", handle_farm_identity },
	{ "vm.start", handle_vm_start },
	{ "vm.adopt", handle_vm_adopt },
	{ "vm.list", handle_vm_list },
	{ "vm.channel", handle_vm_channel },
	{ "vm.stop", handle_vm_stop },
	{ "vm.clean", handle_vm_clean },
	{ "vm.limits", handle_vm_limits },
	{ "vm.network", handle_vm_network },
	{ "vm.left", handle_vm_left },
	{ "vm.hook", handle_vm_hook },
	{ "node.remains", handle_node_remains },
	{ "node.remove", handle_node_remove },
	{ "vm.suspend", handle_vm_suspend },
	{ "vm.screen", handle_vm_screen },
	{ "vm.console", handle_vm_console },
	{ "vm.freeze", handle_vm_freeze },
	{ "vm.thaw", handle_vm_thaw },
	{ "vm.usage", handle_vm_usage },
	{ "vm.disks", handle_vm_disks },
	{ NULL, NULL },
};

int
helper_netns_enter(struct helper *h, struct err *err)
{
	return h->node_netns < 0 ? 0 : netns_enter(h->node_netns, err);
}

void
helper_netns_leave(struct helper *h)
{
	struct err err;

	/* Going on in the wrong namespace would start main without its
	 * network. */
	if (h->node_netns >= 0 && netns_enter(h->host_netns, &err) < 0) {
		log_err(LOG_LEVEL_ERROR, &err, "helper");
		abort();
	}
}

static int
open_network(struct helper *h, struct err *err)
{
	_cleanup_(freep)
	char *bind_path = node_conf_run_path(h->conf, "netns");
	int r;

	if (h->conf->netns[0] != '\0') {
		if ((r = netns_self(&h->host_netns, err)) < 0 ||
		    (r = netns_open(
			 h->conf->netns, bind_path, &h->node_netns, err)) < 0)
			return r;
	}
	if ((r = helper_netns_enter(h, err)) < 0)
		return r;
	h->confine = confine_new(err);
	helper_netns_leave(h);
	return h->confine == NULL ? -(int)ERR_SYSTEM : 0;
}

/* A container's root is another user outside of it, and has to get to its
 * mounts below the run directory. */
static int
check_reachable(const char *path, struct err *err)
{
	_cleanup_(freep)
	char *copy = xstrdup(path);
	char *slash;
	struct stat st;

	while ((slash = strrchr(copy, '/')) != NULL && slash != copy) {
		if (stat(copy, &st) < 0)
			return err_errno(
			    err, ERR_CONFIG, errno, "look at %s", copy);
		if ((st.st_mode & S_IXOTH) == 0)
			return err_set(err, ERR_CONFIG,
			    "[paths] run %s: others may not enter %s, so no "
			    "desktop could start; chmod o+x it, or choose a "
			    "place such as /run/qvd",
			    path, copy);
		*slash = '\0';
	}
	return 0;
}

static int
make_directories(const struct helper *h, struct err *err)
{
	static const struct {
		const char *name;
		mode_t mode;
		bool run;
	} dirs[] = {
		{ "vms", 0711, true },
		{ "lxc", 0711, true },
		{ "mnt", 0755, true },
		{ "images/trees", 0700, false },
		{ "vms", 0700, false },
		{ "homes", 0700, false },
		{ "snapshots", 0700, false },
	};
	size_t i;
	int r;

	/* The first ones as the table says, however the umask is; those
	 * above them are the installation's. */
	if ((r = fs_mkdirs(h->conf->run_dir, 0755, err)) < 0 ||
	    (r = fs_mkdirs(h->conf->data_dir, 0755, err)) < 0)
		return r;
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_(freep)
		char *path = dirs[i].run
				 ? node_conf_run_path(h->conf, dirs[i].name)
				 : node_conf_data_path(h->conf, dirs[i].name);

		if ((r = fs_mkdirs(path, dirs[i].mode, err)) < 0)
			return r;
	}
	return check_reachable(h->conf->run_dir, err);
}

static int
check_conf(const struct node_conf *conf, struct err *err)
{
	struct hv_node node = {
		.run_dir = conf->run_dir,
		.data_dir = conf->data_dir,
		.programs_dir = conf->programs_dir,
		.cgroup = conf->cgroup,
	};

	if (geteuid() != 0)
		return err_set(err, ERR_CONFIG,
		    "the helper must run as root: it mounts, starts "
		    "containers and sets the firewall");
	return hv_node_check(&node, err);
}

struct helper *
helper_new(struct loop *loop, const struct node_conf *conf, struct err *err)
{
	struct helper *h = new0(struct helper);
	_cleanup_(freep)
	char *vm_program = NULL;

	h->loop = loop;
	h->conf = conf;
	h->host_netns = h->node_netns = -1;
	h->cgroup.unified = -1;
	map_init(&h->busy);
	list_init(&h->waiting);
	list_init(&h->running);
	list_init(&h->channels);
	list_init(&h->dials);
	vm_program = xasprintf("%s/qvd-hkd-vm", conf->programs_dir);
	h->forge = op_forge_new(loop, vm_program);
	h->image_program = xasprintf("%s/qvd-hkd-image", conf->programs_dir);
	if (check_conf(conf, err) < 0 || make_directories(h, err) < 0 ||
	    cgroup_init(&h->cgroup, conf->cgroup, err) < 0 ||
	    open_network(h, err) < 0) {
		helper_free(h);
		return NULL;
	}
	return h;
}

static void
job_free(struct job *job)
{
	list_del(&job->link);
	json_decref(job->args);
	closep(&job->fd);
	free(job);
}

/* On a later turn: a pump() may be due in this one. */
static void
helper_destroy(void *arg)
{
	struct helper *h = arg;

	map_done(&h->busy);
	free(h);
}

static void
end_jobs(struct list *jobs)
{
	struct job *job;
	struct err err = { 0 };

	err_set(&err, ERR_CANCELLED, "the node's helper is ending");
	LIST_EACH (jobs, job, struct job, link) {
		op_free(job->op);
		hook_free(job->hook);
		rpc_fail(job->call, &err);
		job_free(job);
	}
}

void
helper_free(struct helper *h)
{
	if (h == NULL)
		return;
	channels_end(h);
	dials_end(h);
	end_jobs(&h->waiting);
	end_jobs(&h->running);
	if (h->rpc != NULL)
		rpc_free(h->rpc);
	cgroup_done(&h->cgroup);
	confine_free(h->confine);
	closep(&h->host_netns);
	closep(&h->node_netns);
	op_forge_free(h->forge);
	free(h->image_program);
	loop_defer(h->loop, helper_destroy, h);
}

static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
	struct helper *h = arg;

	if (rpc != h->rpc)
		return;
	h->rpc = NULL;
	rpc_free(rpc);
	if (h->closed != NULL)
		h->closed(err, h->closed_arg);
}

void
helper_serve(struct helper *h, int fd,
    void (*closed)(const struct err *err, void *arg), void *arg)
{
	if (h->rpc != NULL)
		rpc_free(h->rpc);
	h->closed = closed;
	h->closed_arg = arg;
	h->rpc = rpc_new(h->loop, fd, operations, on_closed, h);
}

/* Jobs */

static void
pump(struct helper *h)
{
	struct job *job;

	LIST_EACH (&h->waiting, job, struct job, link) {
		if (h->n_running >= HELPER_OPS_MAX)
			return;
		if (job->key != 0 && map_get(&h->busy, job->key) != NULL)
			continue;
		if (job->key != 0)
			map_set(&h->busy, job->key, job);
		list_move(&h->running, &job->link);
		h->n_running++;
		job->run(job);
	}
}

static void
pump_later(void *arg)
{
	pump(arg);
}

static void
on_cancel(void *arg)
{
	struct job *job = arg;

	job->cancelled = true;
	if (job->op != NULL && job->undo)
		op_cancel(job->op);
	if (job->hook != NULL && job->undo)
		hook_cancel(job->hook);
}

static bool
has_to_wait(const struct helper *h, uint64_t key)
{
	struct job *job;

	if (key == 0)
		return false;
	if (map_get(&h->busy, key) != NULL)
		return true;
	LIST_EACH (&h->waiting, job, struct job, link)
		if (job->key == key)
			return true;
	return false;
}

void
job_queue(struct helper *h, struct rpc_call *call, uint64_t key,
    const json_t *args, void (*run)(struct job *job), bool undo)
{
	job_queue_fd(h, call, key, args, run, undo, -1);
}

void
job_queue_fd(struct helper *h, struct rpc_call *call, uint64_t key,
    const json_t *args, void (*run)(struct job *job), bool undo, int fd)
{
	struct job *job = new0(struct job);

	job->helper = h;
	job->call = call;
	job->key = key;
	job->vm_id = json_get_int(args, "vm_id", 0);
	str_copy(job->address, sizeof(job->address),
	    json_get_str(args, "address", ""));
	job->args = json_deep_copy(args);
	job->run = run;
	job->undo = undo;
	job->fd = fd;
	if (has_to_wait(h, key))
		rpc_progress(call, json_pack("{si ss}", "percent", 0, "text",
				       "waiting for its turn"));
	list_init(&job->link);
	list_add(&h->waiting, &job->link);
	rpc_call_on_cancel(call, on_cancel, job);
	/* On a later turn: handlers end before their jobs begin. */
	loop_defer(h->loop, pump_later, h);
}

static void
job_end(struct job *job)
{
	struct helper *h = job->helper;

	if (job->key != 0)
		map_del(&h->busy, job->key);
	h->n_running--;
	job_free(job);
	loop_defer(h->loop, pump_later, h);
}

void
job_done(struct job *job, json_t *result, int fd)
{
	rpc_reply(job->call, result, fd);
	job_end(job);
}

void
job_fail(struct job *job, const struct err *err)
{
	rpc_fail(job->call, err);
	job_end(job);
}

static json_t *
node_json(const struct helper *h)
{
	char gateway6[CONFINE_ADDR6_MAX] = "", dns[RESOLVERS_TEXT_MAX];
	const struct hv_node node = {
		.run_dir = h->conf->run_dir,
		.data_dir = h->conf->data_dir,
		.programs_dir = h->conf->programs_dir,
		.cgroup = h->conf->cgroup,
		.bridge = h->net.bridge,
		.gateway = h->net.gateway,
		.prefix = h->net.prefix,
		.gateway6 = gateway6,
		.prefix6 = h->net.net6.prefix,
		/* None named: this node. */
		.dns = resolvers_text(&h->net.dns, h->net.gateway, dns),
		.limits_optional = h->conf->limits_optional,
	};

	if (h->net.ipv6)
		ipv6_format(gateway6, h->net.net6.address);
	return json_encode(hv_node_fields, &node);
}

static void
on_progress(const json_t *info, void *arg)
{
	struct job *job = arg;

	rpc_progress(job->call, json_deep_copy(info));
}

static void
on_op_done(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct job *job = arg;

	job->op = NULL;
	job->done(result, fd, err, job);
}

void
job_op(struct job *job, const char *op, int64_t deadline_ms, op_done_cb done)
{
	struct helper *h = job->helper;
	bool image = str_starts(op, "image.");
	struct err err = { 0 };
	struct op_spec spec = {
		.program = h->image_program,
		.forge = image ? NULL : h->forge,
		.name = op,
		.request = json_pack("{ss sO so sb}", "op", strchr(op, '.') + 1,
		    "args", job->args, "node", node_json(h), "netns",
		    h->node_netns >= 0),
		.fd = image ? job->fd : h->node_netns,
		.deadline_ms = deadline_ms,
		.done = on_op_done,
		.progress = on_progress,
		.arg = job,
	};

	job->done = done;
	job->op = op_start(h->loop, &spec, &err);
	if (job->op == NULL)
		done(NULL, -1, &err, job);
}
