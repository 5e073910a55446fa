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
#include "confine/ruleset.h"
#include "json/json.h"

struct port {
	int64_t vm_id;
	char address[CONFINE_ADDR_MAX];
};

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

static void
remember(struct confine *c, int64_t vm_id, const char *address)
{
	struct port *p = new0(struct port);

	p->vm_id = vm_id;
	str_copy(p->address, sizeof(p->address), address);
	free(map_set(&c->ports, (uint64_t)vm_id, p));
}

/* One {"concat": ["qvd7", "54:52:00:...", "10.88.0.7"]}. */
static void
load_element(struct confine *c, const json_t *elem)
{
	const json_t *concat = json_object_get(elem, "concat");
	const char *port = json_string_value(json_array_get(concat, 0));
	const char *address = json_string_value(json_array_get(concat, 2));
	int64_t id;

	if (port != NULL && address != NULL && str_starts(port, "qvd") &&
	    str_to_i64(port + 3, 1, CONFINE_ID_MAX, &id))
		remember(c, id, address);
}

/* What a helper before us has put into the sets. */
static int
load_ports(struct confine *c, struct err *err)
{
	const json_t *list, *set;
	json_t *root = NULL;
	const char *out;
	size_t i, j;
	int r;

	forget_ports(c);
	nft_ctx_output_set_flags(c->nft, NFT_CTX_OUTPUT_JSON);
	r = run(c, "list set bridge qvd macip", "read elements", err);
	nft_ctx_output_set_flags(c->nft, 0);
	if (r < 0)
		return r;
	out = nft_ctx_get_output_buffer(c->nft);
	root = json_loads(out, 0, NULL);
	list = json_object_get(root, "nftables");
	for (i = 0; i < json_array_size(list); i++) {
		set = json_object_get(
		    json_object_get(json_array_get(list, i), "set"), "elem");
		for (j = 0; j < json_array_size(set); j++)
			load_element(c, json_array_get(set, j));
	}
	json_decref(root);
	return 0;
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

/* `add` before `delete`: deleting what isn't there would fail the whole
 * transaction, adding what is there doesn't. */
static void
format_delete(struct buf *buf, const struct port *p)
{
	char port[CONFINE_PORT_MAX], mac[CONFINE_MAC_MAX];
	int i;

	confine_port(p->vm_id, port);
	confine_mac(p->address, mac);
	for (i = 0; i < 2; i++) {
		const char *verb = i == 0 ? "add" : "delete";

		buf_printf(buf, "%s element bridge qvd mac { \"%s\" . %s }\n",
		    verb, port, mac);
		buf_printf(buf,
		    "%s element bridge qvd macip { \"%s\" . %s . %s }\n", verb,
		    port, mac, p->address);
	}
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
confine_add(
    struct confine *c, int64_t vm_id, const char *address, struct err *err)
{
	const struct port *old = map_get(&c->ports, (uint64_t)vm_id);
	char port[CONFINE_PORT_MAX], mac[CONFINE_MAC_MAX];
	struct buf buf;
	int r;

	if (!c->ready)
		return err_set(err, ERR_CONFLICT,
		    "the node's network is not set up yet (node.setup)");
	if (!confine_net_has(&c->net, address))
		return err_set(err, ERR_PARAMETER,
		    "address '%.32s' is not in the desktops' network %s/%d",
		    address, c->net.gateway, c->net.prefix);
	if ((r = check_free(c, vm_id, address, err)) < 0)
		return r;
	confine_port(vm_id, port);
	confine_mac(address, mac);
	buf_init(&buf, 4096);
	if (old != NULL && !str_eq(old->address, address))
		format_delete(&buf, old);
	buf_printf(
	    &buf, "add element bridge qvd mac { \"%s\" . %s }\n", port, mac);
	buf_printf(&buf, "add element bridge qvd macip { \"%s\" . %s . %s }\n",
	    port, mac, address);
	if ((r = run_buf(c, &buf, "add a desktop", err)) == 0)
		remember(c, vm_id, address);
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
	buf_init(&buf, 4096);
	format_delete(&buf, p);
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
