/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ruleset and its elements through libnftables. The kernel's sets are
 * the truth; `ports` mirrors them so that removing a VM doesn't list them
 * all. Elements are added and deleted in one transaction each.
 */
#include "confine/confine.h"

#include <jansson.h>
#include <nftables/libnftables.h>
#include <string.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "confine/bridge.h"
#include "confine/elements.h"
#include "confine/ruleset.h"
#include "json/json.h"

struct confine {
	struct nft_ctx *nft;
	struct map ports; /* vm_id -> struct port */
	struct confine_net net;
	bool ready;
};

struct confine *
confine_new(struct err *err)
{
	struct confine *c = new0(struct confine);

	map_init(&c->ports);
	c->nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (c->nft == NULL || nft_ctx_buffer_output(c->nft) != 0 ||
	    nft_ctx_buffer_error(c->nft) != 0) {
		err_set(err, ERR_SYSTEM,
		    "open nftables: the kernel has none, or this is not root");
		confine_free(c);
		return NULL;
	}
	return c;
}

static void
forget_ports(struct confine *c)
{
	struct port *p;

	MAP_EACH (&c->ports, p)
		free(p);
	map_done(&c->ports);
	map_init(&c->ports);
}

void
confine_free(struct confine *c)
{
	if (c == NULL)
		return;
	forget_ports(c);
	map_done(&c->ports);
	if (c->nft != NULL)
		nft_ctx_free(c->nft);
	free(c);
}

/* nft's own sentence, first line only: the rest draws arrows. */
static int
run(struct confine *c, const char *text, const char *what, struct err *err)
{
	const char *why;

	if (nft_run_cmd_from_buffer(c->nft, text) == 0)
		return 0;
	why = nft_ctx_get_error_buffer(c->nft);
	return err_set(err, ERR_SYSTEM, "nftables: %s: %.*s", what,
	    (int)strcspn(why, "\n"), why);
}

/* Takes port. */
static void
remember(struct confine *c, struct port *port)
{
	free(map_set(&c->ports, (uint64_t)port->vm_id, port));
}

/* One {"concat": ["qvd7", "54:52:00:...", "10.88.0.7"]}: the port's entry
 * gets the address, link-local ones go without saying. */
static void
load_element(struct confine *c, const json_t *elem, bool v6)
{
	const json_t *concat = json_object_get(elem, "concat");
	const char *name = json_string_value(json_array_get(concat, 0));
	const char *address = json_string_value(json_array_get(concat, 2));
	struct port *port;
	int64_t id;

	if (name == NULL || address == NULL || !str_starts(name, "qvd") ||
	    !str_to_i64(name + 3, 1, CONFINE_ID_MAX, &id) ||
	    str_starts(address, "fe80:"))
		return;
	port = map_get(&c->ports, (uint64_t)id);
	if (port == NULL) {
		port = new0(struct port);
		port->vm_id = id;
		remember(c, port);
	}
	if (v6)
		str_copy(port->address6, sizeof(port->address6), address);
	else
		str_copy(port->address, sizeof(port->address), address);
}

static int
load_set(struct confine *c, const char *command, bool v6, struct err *err)
{
	const json_t *list, *set;
	json_t *root = NULL;
	size_t i, j;
	int r;

	nft_ctx_output_set_flags(c->nft, NFT_CTX_OUTPUT_JSON);
	r = run(c, command, "read elements", err);
	nft_ctx_output_set_flags(c->nft, 0);
	if (r < 0)
		return r;
	root = json_loads(nft_ctx_get_output_buffer(c->nft), 0, NULL);
	list = json_object_get(root, "nftables");
	for (i = 0; i < json_array_size(list); i++) {
		set = json_object_get(
		    json_object_get(json_array_get(list, i), "set"), "elem");
		for (j = 0; j < json_array_size(set); j++)
			load_element(c, json_array_get(set, j), v6);
	}
	json_decref(root);
	return 0;
}

/* What a helper before us has put into the sets. */
static int
load_ports(struct confine *c, struct err *err)
{
	int r;

	forget_ports(c);
	if ((r = load_set(c, "list set bridge qvd macip", false, err)) < 0)
		return r;
	return load_set(c, "list set bridge qvd macip6", true, err);
}

int
confine_setup(struct confine *c, const struct confine_net *net, struct err *err)
{
	_cleanup_(freep)
	char *rules = ruleset_text(net);
	int r;

	/* The filter first: a bridge without it would be open. */
	if ((r = run(c, rules, "load the ruleset", err)) < 0 ||
	    (r = bridge_setup(net, err)) < 0 || (r = load_ports(c, err)) < 0)
		return r;
	c->net = *net;
	c->ready = true;
	return 0;
}

static int
run_buf(struct confine *c, struct buf *buf, const char *what, struct err *err)
{
	_cleanup_(freep)
	char *text = buf_take_str(buf);
	int r;

	r = run(c, text, what, err);
	buf_done(buf);
	return r;
}

static int
check_free(const struct confine *c, int64_t vm_id, const char *address,
    struct err *err)
{
	const struct port *p;

	MAP_EACH (&c->ports, p)
		if (p->vm_id != vm_id && str_eq(p->address, address))
			return err_set(err, ERR_CONFLICT,
			    "address %s belongs to VM %lld on this node",
			    address, (long long)p->vm_id);
	return 0;
}

int
confine_add(struct confine *c, const struct confine_vm *vm, struct err *err)
{
	const struct port *old = map_get(&c->ports, (uint64_t)vm->vm_id);
	struct port *port;
	struct egress egress;
	struct buf buf;
	int r;

	if (!c->ready)
		return err_set(err, ERR_CONFLICT,
		    "the node's network is not set up yet (node.setup)");
	if (!confine_net_has(&c->net, vm->address))
		return err_set(err, ERR_PARAMETER,
		    "address '%.32s' is not in the desktops' network %s/%d",
		    vm->address, c->net.gateway, c->net.prefix);
	if ((r = check_free(c, vm->vm_id, vm->address, err)) < 0 ||
	    (r = egress_parse(vm->egress, &egress, err)) < 0)
		return r;
	port = new0(struct port);
	port->vm_id = vm->vm_id;
	str_copy(port->address, sizeof(port->address), vm->address);
	if (c->net.ipv6)
		confine_address6(&c->net.net6, vm->address, port->address6);
	buf_init(&buf, 256 * 1024);
	if (old != NULL)
		elements_delete(&buf, old, false);
	elements_add(&buf, port, &egress, vm->rate_kbit);
	if ((r = run_buf(c, &buf, "add a desktop", err)) == 0)
		remember(c, port);
	else
		free(port);
	return r;
}

bool
confine_has(const struct confine *c, int64_t vm_id)
{
	return map_get(&c->ports, (uint64_t)vm_id) != NULL;
}

int
confine_del(
    struct confine *c, int64_t vm_id, bool *ret_removed, struct err *err)
{
	struct port *p = map_get(&c->ports, (uint64_t)vm_id);
	struct buf buf;
	int r;

	if (ret_removed != NULL)
		*ret_removed = p != NULL;
	if (p == NULL)
		return 0;
	buf_init(&buf, 16 * 1024);
	elements_delete(&buf, p, true);
	if ((r = run_buf(c, &buf, "remove a desktop", err)) == 0)
		free(map_del(&c->ports, (uint64_t)vm_id));
	return r;
}

bool
confine_next(const struct confine *c, size_t *pos, int64_t *ret_vm_id)
{
	const struct port *p = map_next(&c->ports, pos);

	if (p == NULL)
		return false;
	*ret_vm_id = p->vm_id;
	return true;
}
