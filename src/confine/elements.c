/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "confine/elements.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/str.h"

/* Networks that are somebody's own, and those that lead into IPv4 from
 * outside of it (NAT64, 6to4), past what is said about IPv4. */
#define PRIVATE4                                        \
	"{ 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, " \
	"100.64.0.0/10, 192.0.0.0/24, 198.18.0.0/15 }"
#define PRIVATE6                                                \
	"{ fc00::/7, fec0::/10, 64:ff9b::/96, 64:ff9b:1::/48, " \
	"2002::/16 }"

/* What may come at once is one second's worth and the burst, for so the
 * kernel counts bytes; always a whole packet of its own (64 KiB before it is
 * cut up) and a bit. */
#define AT_ONCE_MIN_BYTES (128 * 1024)

/* What there is of a VM at most. */
struct names {
	char port[CONFINE_PORT_MAX];
	char mac[CONFINE_MAC_MAX];
	char link_local[CONFINE_ADDR6_MAX];
};

static void
names_init(struct names *names, const struct port *port)
{
	confine_port(port->vm_id, names->port);
	confine_mac(port->address, names->mac);
	confine_link_local(port->address, names->link_local);
}

/* An address as the number that a raw payload is compared with. */
static void
hex_address(const char *address6, char ret[static 35])
{
	unsigned char bytes[16] = { 0 };

	inet_pton(AF_INET6, address6, bytes);
	memcpy(ret, "0x", 2);
	str_hex(ret + 2, bytes, sizeof(bytes));
}

static void
hex_mac(const char *mac, char ret[static 15])
{
	int n = 2;

	memcpy(ret, "0x", 2);
	for (; *mac != '\0' && n < 14; mac++)
		if (*mac != ':')
			ret[n++] = *mac;
	ret[n] = '\0';
}

static void
who6(struct buf *buf, const char *verb, const struct names *n,
    const struct port *port)
{
	const char *addresses[] = { port->address6, n->link_local };
	char hex[35];
	size_t i;

	for (i = 0; i < 2; i++) {
		hex_address(addresses[i], hex);
		buf_printf(buf,
		    "%s element bridge qvd macip6 { \"%s\" . %s . %s }\n"
		    "%s element bridge qvd nd { \"%s\" . %s }\n",
		    verb, n->port, n->mac, addresses[i], verb, n->port, hex);
	}
}

/* Its addresses, and the way to its chain. */
static void
who(struct buf *buf, const char *verb, const struct port *port)
{
	struct names n;
	char mac[15];

	names_init(&n, port);
	hex_mac(n.mac, mac);
	buf_printf(buf,
	    "%s element bridge qvd mac { \"%s\" . %s }\n"
	    "%s element bridge qvd macip { \"%s\" . %s . %s }\n"
	    "%s element bridge qvd ndmac { \"%s\" . %s }\n"
	    "%s element inet qvd egress4 { %s : goto e%lld }\n",
	    verb, n.port, n.mac, verb, n.port, n.mac, port->address, verb,
	    n.port, mac, verb, port->address, (long long)port->vm_id);
	if (port->address6[0] == '\0')
		return;
	who6(buf, verb, &n, port);
	buf_printf(buf, "%s element inet qvd egress6 { %s : goto e%lld }\n",
	    verb, port->address6, (long long)port->vm_id);
}

static void
rate(struct buf *buf, const char *verb, const struct port *port)
{
	char name[CONFINE_PORT_MAX];

	confine_port(port->vm_id, name);
	buf_printf(buf, "%s element bridge qvd rates { \"%s\" : \"r%lld\" }\n",
	    verb, name, (long long)port->vm_id);
}

static void
add_rate(struct buf *buf, const struct port *port, int64_t kbit)
{
	int64_t bytes = kbit * 1000 / 8;
	int64_t burst =
	    bytes < AT_ONCE_MIN_BYTES ? AT_ONCE_MIN_BYTES - bytes : 1;

	buf_printf(buf,
	    "add limit bridge qvd r%lld { rate over %lld bytes/second "
	    "burst %lld bytes ; }\n",
	    (long long)port->vm_id, (long long)bytes, (long long)burst);
	rate(buf, "add", port);
}

/* One rule of the policy; to: "ip daddr 10.0.0.0/8" or "". */
static void
add_rule(struct buf *buf, int64_t vm_id, const char *to,
    const struct egress_rule *rule)
{
	const char *protocol = egress_protocol_to_str(rule->protocol);
	char what[64] = "";

	if (rule->protocol == EGRESS_PROTOCOL_ICMP)
		str_copy(
		    what, sizeof(what), "meta l4proto { icmp, ipv6-icmp } ");
	else if (rule->first != 0)
		snprintf(what, sizeof(what), "%s dport %u-%u ", protocol,
		    rule->first, rule->last);
	else if (rule->protocol != EGRESS_PROTOCOL_ANY)
		snprintf(what, sizeof(what), "meta l4proto %s ", protocol);
	buf_printf(buf, "add rule inet qvd e%lld %s%s%s\n", (long long)vm_id,
	    to, what, rule->allow ? "accept" : "counter drop");
}

static void
add_policy(struct buf *buf, int64_t vm_id, const struct egress *egress)
{
	char to[EGRESS_NET_MAX + 16];
	int i;

	buf_printf(buf,
	    "add chain inet qvd e%lld\n"
	    "flush chain inet qvd e%lld\n",
	    (long long)vm_id, (long long)vm_id);
	for (i = 0; i < egress->n; i++) {
		const struct egress_rule *rule = &egress->rules[i];

		switch (rule->target) {
		case EGRESS_TARGET_ANY:
			add_rule(buf, vm_id, "", rule);
			break;
		case EGRESS_TARGET_PRIVATE:
			add_rule(buf, vm_id, "ip daddr " PRIVATE4 " ", rule);
			add_rule(buf, vm_id, "ip6 daddr " PRIVATE6 " ", rule);
			break;
		case EGRESS_TARGET_NET4:
		case EGRESS_TARGET_NET6:
			snprintf(to, sizeof(to), "%s daddr %s ",
			    rule->target == EGRESS_TARGET_NET4 ? "ip" : "ip6",
			    rule->net);
			add_rule(buf, vm_id, to, rule);
			break;
		case EGRESS_TARGET_COUNT_:
			break;
		}
	}
	buf_printf(
	    buf, "add rule inet qvd e%lld counter drop\n", (long long)vm_id);
}

void
elements_add(struct buf *buf, const struct port *port,
    const struct egress *egress, int64_t rate_kbit)
{
	add_policy(buf, port->vm_id, egress);
	who(buf, "add", port);
	if (rate_kbit > 0)
		add_rate(buf, port, rate_kbit);
}

/* What the rules have noted of it meanwhile. */
static void
notes(struct buf *buf, const char *verb, const struct port *port)
{
	buf_printf(buf,
	    "%s element inet qvd conns4 { %s }\n"
	    "%s element inet qvd pings4 { %s }\n",
	    verb, port->address, verb, port->address);
	if (port->address6[0] != '\0')
		buf_printf(buf,
		    "%s element inet qvd conns6 { %s }\n"
		    "%s element inet qvd pings6 { %s }\n",
		    verb, port->address6, verb, port->address6);
}

/* `add` before `delete`: deleting what isn't there would fail the whole
 * transaction, adding what is there doesn't. */
void
elements_delete(struct buf *buf, const struct port *port, bool with_chain)
{
	long long id = (long long)port->vm_id;

	buf_printf(buf, "add chain inet qvd e%lld\n", id);
	add_rate(buf, port, 1000);
	who(buf, "add", port);
	who(buf, "delete", port);
	rate(buf, "delete", port);
	buf_printf(buf, "delete limit bridge qvd r%lld\n", id);
	if (!with_chain)
		return;
	notes(buf, "add", port);
	notes(buf, "delete", port);
	buf_printf(buf,
	    "flush chain inet qvd e%lld\n"
	    "delete chain inet qvd e%lld\n",
	    id, id);
}
