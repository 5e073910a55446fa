/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hkd.sock: what the other daemons of this node may ask. The socket's mode
 * lets only root and the group qvd in; each operation names its users. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "hkd/ctl.h"
#include "hkd/vm.h"
#include "json/json.h"

#define CHANNEL_WAIT_MS 5000
#define CHANNEL_MS      (CHANNEL_WAIT_MS + 5000)
#define LOOK_MS         20000

struct ctl_peer {
	struct list link;
	struct node *node;
	struct rpc *rpc;
	bool channels; /* it may ask for streams into VMs */
	bool admin;    /* it speaks for an administrator: images, repairs */
};

struct node *
ctl_node(const struct ctl_peer *peer)
{
	return peer->node;
}

bool
ctl_may_images(const struct ctl_peer *peer)
{
	return peer->admin;
}

/* A vm.channel on its way to the helper and back. */
struct relay {
	struct rpc_call *call;
	struct rpc_request *request;
};

static void
on_channel(const json_t *result, int fd, const struct err *err, void *arg)
{
	struct relay *relay = arg;

	if (err != NULL) {
		closep(&fd);
		rpc_fail(relay->call, err);
	} else {
		rpc_reply(relay->call, NULL, fd);
	}
	free(relay);
}

/* The asker went away: so does the question. */
static void
on_cancel(void *arg)
{
	struct relay *relay = arg;

	rpc_request_cancel(relay->request);
	rpc_reply(relay->call, NULL, -1);
	free(relay);
}

static int
find_running(const struct ctl_peer *peer, const json_t *args, struct vm **ret,
    struct err *err)
{
	int64_t id = json_get_int(args, "vm_id", 0);
	int64_t epoch = json_get_int(args, "epoch", 0);
	struct vm *vm = map_get(&peer->node->vms, (uint64_t)id);

	if (!peer->channels)
		return err_set(err, ERR_FORBIDDEN,
		    "only qvd-l7r may ask for streams into VMs");
	if (vm == NULL || vm->state != VM_STATE_RUNNING || vm->epoch != epoch)
		return err_set(err, ERR_NOT_FOUND,
		    "run %lld of VM %lld isn't running on this node",
		    (long long)epoch, (long long)id);
	*ret = vm;
	return 0;
}

static void
handle_channel(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct ctl_peer *peer = arg;
	struct relay *relay;
	struct vm *vm = NULL;
	struct err err;

	closep(&fd);
	if (find_running(peer, args, &vm, &err) < 0) {
		rpc_fail(call, &err);
		return;
	}
	vm_stream_given(vm);
	relay = new0(struct relay);
	relay->call = call;
	relay->request = rpc_ask(peer->node->helper, "vm.channel",
	    json_pack("{sI si}", "vm_id", (json_int_t)vm->id, "wait_ms",
		CHANNEL_WAIT_MS),
	    -1, CHANNEL_MS, on_channel, relay);
	rpc_call_on_cancel(call, on_cancel, relay);
}

/* The console or the screen of a virtual machine, for its administrator. */
static int
find_machine(const struct ctl_peer *peer, const json_t *args, struct vm **ret,
    struct err *err)
{
	int64_t id = json_get_int(args, "vm_id", 0);
	struct vm *vm = map_get(&peer->node->vms, (uint64_t)id);

	if (!peer->admin)
		return err_set(err, ERR_FORBIDDEN,
		    "only root and qvd-api may look at machines");
	if (vm == NULL || vm->pid == 0)
		return err_set(err, ERR_NOT_FOUND,
		    "VM %lld isn't running on this node", (long long)id);
	*ret = vm;
	return 0;
}

static void
ask_look(struct rpc_call *call, const json_t *args, int fd,
    struct ctl_peer *peer, const char *op)
{
	struct relay *relay;
	struct vm *vm = NULL;
	struct err err;

	closep(&fd);
	if (find_machine(peer, args, &vm, &err) < 0) {
		rpc_fail(call, &err);
		return;
	}
	vm_wake(vm, "for its administrator");
	relay = new0(struct relay);
	relay->call = call;
	relay->request = rpc_ask(peer->node->helper, op,
	    json_pack("{sI}", "vm_id", (json_int_t)vm->id), -1, LOOK_MS,
	    on_channel, relay);
	rpc_call_on_cancel(call, on_cancel, relay);
}

static void
handle_console(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	ask_look(call, args, fd, arg, "vm.console");
}

static void
handle_screen(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	ask_look(call, args, fd, arg, "vm.screen");
}

static void
handle_state(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct ctl_peer *peer = arg;
	struct node *node = peer->node;
	int count[VM_STATE_COUNT_] = { 0 }, i;
	json_t *vms = json_object();
	struct vm *vm;

	closep(&fd);
	MAP_EACH (&node->vms, vm)
		count[vm->state]++;
	for (i = 0; i < VM_STATE_COUNT_; i++)
		json_object_set_new(
		    vms, vm_state_to_str(i), json_integer(count[i]));
	rpc_reply(call,
	    json_pack("{ss sI sb so}", "name", node->conf->name, "host_id",
		(json_int_t)node->host_id, "running",
		(int)node_is_running(node), "vms", vms),
	    -1);
}

static void
on_repaired(const json_t *items, const struct err *err, void *arg)
{
	struct rpc_call *call = arg;

	if (err != NULL)
		rpc_fail(call, err);
	else
		rpc_reply(call, json_pack("{sO}", "items", items), -1);
}

static void
handle_repair(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct ctl_peer *peer = arg;
	struct err err;
	int r = 0;

	closep(&fd);
	if (!peer->admin)
		r = err_set(&err, ERR_FORBIDDEN,
		    "only root and qvd-api may have the node repaired");
	if (r < 0 ||
	    repair_begin(peer->node, json_get_bool(args, "dry_run", false),
		on_repaired, call, &err) < 0)
		rpc_fail(call, &err);
}

static void
handle_usage(struct rpc_call *call, const json_t *args, int fd, void *arg)
{
	struct ctl_peer *peer = arg;

	closep(&fd);
	ctl_usage(peer->node, call);
}

static const struct rpc_op operations[] = {
	{ "vm.channel", handle_channel },
	{ "vm.console", handle_console },
	{ "vm.screen", handle_screen },
	{ "host.repair", handle_repair },
	{ "host.state", handle_state },
	{ "host.usage", handle_usage },
	{ "image.diff", ctl_image_diff },
	{ "image.export", ctl_image_export },
	{ "image.verify", ctl_image_verify },
	{ "image.gc", ctl_image_gc },
	{ .name = NULL },
};

static void
peer_free(struct ctl_peer *peer)
{
	list_del(&peer->link);
	rpc_free(peer->rpc);
	free(peer);
}

static void
on_closed(struct rpc *rpc, const struct err *err, void *arg)
{
	peer_free(arg);
}

static bool
is_user(uid_t uid, const char *name)
{
	struct proc_user user;

	return proc_find_user(name, &user, NULL) == 0 && user.uid == uid;
}

static void
on_accept(int fd, const struct rpc_peer *who, void *arg)
{
	struct node *node = arg;
	struct ctl_peer *peer;

	if (who->uid != 0 && !is_user(who->uid, "qvd-l7r") &&
	    !is_user(who->uid, "qvd-api")) {
		log_warn("user %u may not use hkd.sock", who->uid);
		close(fd);
		return;
	}
	peer = new0(struct ctl_peer);
	peer->node = node;
	peer->channels = who->uid == 0 || is_user(who->uid, "qvd-l7r");
	peer->admin = who->uid == 0 || is_user(who->uid, "qvd-api");
	list_init(&peer->link);
	list_add(&node->ctl_peers, &peer->link);
	peer->rpc = rpc_new(node->loop, fd, operations, on_closed, peer);
}

void
ctl_open(struct node *node, int fd)
{
	node->ctl = rpc_listen_fd(node->loop, fd, on_accept, node);
}

void
ctl_close(struct node *node)
{
	struct ctl_peer *peer;

	rpc_listener_free(node->ctl);
	node->ctl = NULL;
	LIST_EACH (&node->ctl_peers, peer, struct ctl_peer, link)
		peer_free(peer);
}
