/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "confine/ruleset.h"

#include "base/buf.h"
#include "base/str.h"

#define CONNECTIONS "4000" /* at once, of one desktop */

/*
 * Chains are emptied and filled again, sets and the desktops' own chains
 * (inet e<id>) stay, so the text can be loaded again while desktops run.
 * Each line "add ..." is harmless when the object exists.
 *
 * bridge: each frame from a port named qvd<id> goes through `vm`, whose end
 * drops: a port without elements can send nothing at all. (So do those to the
 * bridge's own groups, 01:80:c2:00:00:0x, which the kernel would hand to the
 * node past all rules: confine_port_prepare() has them forwarded.) Only the
 * VM's own MAC, ARP only as itself, IP only from its own addresses; no VLAN,
 * nothing else. Between two ports nothing passes, and a port gets no frame that
 * is another's (the bridge floods what it hasn't learned).
 */
static const char bridge_sets[] =
    "add table bridge qvd\n"
    "add set bridge qvd mac { type ifname . ether_addr; }\n"
    "add set bridge qvd macip { type ifname . ether_addr . ipv4_addr; }\n"
    "add set bridge qvd macip6 { type ifname . ether_addr . ipv6_addr; }\n"
    /* Target and link-layer option of neighbour discovery, and the client in
     * DHCP: nft has no words for them. */
    "add set bridge qvd nd { typeof iifname . @th,64,128; }\n"
    "add set bridge qvd ndmac { typeof iifname . @th,208,48; }\n"
    "add set bridge qvd flood { type ifname; size 65535; "
    "flags dynamic,timeout; timeout 1m; }\n"
    "flush set bridge qvd flood\n"
    "add set bridge qvd asks { type ifname; size 65535; "
    "flags dynamic,timeout; timeout 1m; }\n"
    "flush set bridge qvd asks\n"
    "add map bridge qvd rates { type ifname : limit; }\n"
    "add chain bridge qvd pre "
    "{ type filter hook prerouting priority -200; policy accept; }\n"
    "add chain bridge qvd vmfwd "
    "{ type filter hook forward priority -200; policy accept; }\n"
    "add chain bridge qvd vmport "
    "{ type filter hook postrouting priority -200; policy accept; }\n"
    "add chain bridge qvd vm\n"
    "add chain bridge qvd vm6\n"
    "add chain bridge qvd nd\n"
    "add chain bridge qvd dad\n"
    "add chain bridge qvd dhcp\n"
    "flush chain bridge qvd pre\n"
    "flush chain bridge qvd vmfwd\n"
    "flush chain bridge qvd vmport\n"
    "flush chain bridge qvd vm\n"
    "flush chain bridge qvd vm6\n"
    "flush chain bridge qvd nd\n"
    "flush chain bridge qvd dad\n"
    "flush chain bridge qvd dhcp\n"
    "add rule bridge qvd pre iifname \"qvd*\" goto vm\n"
    "add rule bridge qvd vmfwd iifname \"qvd*\" oifname \"qvd*\" "
    "counter drop\n"
    "add rule bridge qvd vmport oifname \"qvd*\" "
    "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 "
    "oifname . ether daddr != @mac counter drop\n";

static const char bridge_rules[] =
    "add rule bridge qvd vm iifname . ether saddr != @mac counter drop\n"
    "add rule bridge qvd vm limit name iifname map @rates counter drop\n"
    "add rule bridge qvd vm ether type arp arp htype 1 arp ptype ip "
    "arp hlen 6 arp plen 4 arp operation { 1, 2 } "
    "iifname . arp saddr ether . arp saddr ip @macip accept\n"
    "add rule bridge qvd vm ether type ip udp sport 67 counter drop\n"
    "add rule bridge qvd vm ether type ip udp dport 67 goto dhcp\n"
    /* The bridge would learn of groups, and of a router of them. */
    "add rule bridge qvd vm ether type ip ip protocol igmp counter drop\n"
    "add rule bridge qvd vm ether type ip "
    "iifname . ether saddr . ip saddr @macip accept\n"
    "add rule bridge qvd vm ether type ip6 goto vm6\n"
    "add rule bridge qvd vm counter drop\n"
    /*
     * A server believes the client's MAC inside: with another's, a desktop
     * could give that one's address back. What is too short for one has none.
     */
    "add rule bridge qvd dhcp "
    "iifname . ether saddr . ip saddr @macip "
    "iifname . @th,288,48 @ndmac accept\n"
    "add rule bridge qvd dhcp ip saddr 0.0.0.0 ip daddr 255.255.255.255 "
    "udp sport 68 iifname . @th,288,48 @ndmac "
    "update @asks { iifname limit rate 5/second } accept\n"
    "add rule bridge qvd dhcp counter drop\n"
    /*
     * IPv6: the sets are empty where the node gives none. Before a VM has an
     * address it may ask whether somebody else has its own. From then on
     * neighbour discovery about itself, under its own MAC; of ICMP besides
     * only errors and echo: no router, no redirect, no group. Link-local
     * addresses are for neighbour discovery alone.
     */
    "add rule bridge qvd vm6 ip6 saddr :: ip6 nexthdr icmpv6 "
    "icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @nd goto dad\n"
    "add rule bridge qvd vm6 "
    "iifname . ether saddr . ip6 saddr != @macip6 counter drop\n"
    "add rule bridge qvd vm6 ip6 nexthdr icmpv6 "
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } goto nd\n"
    "add rule bridge qvd vm6 ip6 saddr fe80::/10 counter drop\n"
    /* What follows looks into the packet's head, which later fragments don't
     * have. The kernel takes no neighbour discovery in fragments. */
    "add rule bridge qvd vm6 frag frag-off > 0 accept\n"
    "add rule bridge qvd vm6 icmpv6 type != { 1-4, 128, 129 } counter drop\n"
    "add rule bridge qvd vm6 udp sport 547 counter drop\n"
    "add rule bridge qvd vm6 accept\n"
    /* No option, or the number by which it knows its own question. */
    "add rule bridge qvd dad ip6 length 24 accept\n"
    "add rule bridge qvd dad ip6 length 32 @th,192,16 0x0e01 accept\n"
    "add rule bridge qvd dad counter drop\n"
    /* Either no option, or the one with its MAC alone. */
    "add rule bridge qvd nd icmpv6 type nd-neighbor-solicit "
    "ip6 length 24 accept\n"
    "add rule bridge qvd nd icmpv6 type nd-neighbor-solicit ip6 length 32 "
    "@th,192,16 0x0101 iifname . @th,208,48 @ndmac accept\n"
    "add rule bridge qvd nd icmpv6 type nd-neighbor-advert ip6 length 24 "
    "iifname . @th,64,128 @nd accept\n"
    "add rule bridge qvd nd icmpv6 type nd-neighbor-advert ip6 length 32 "
    "iifname . @th,64,128 @nd @th,192,16 0x0201 "
    "iifname . @th,208,48 @ndmac accept\n"
    "add rule bridge qvd nd counter drop\n";

/*
 * inet: nothing that comes from a port itself, past the bridge. Towards the
 * node only DHCP, DNS where it is the resolver, and a few pings. No desktop
 * may fill the node's table of connections, without which nobody has any.
 * Outwards DNS to the farm's resolvers and nobody else; then never to
 * what is no address of the outside, nor to those at which clouds tell a
 * machine its secrets; the rest as the VM's own chain says, which is asked
 * for each packet, so that a change of policy ends connections, too.
 */
static const char inet_chains[] =
    "add table inet qvd\n"
    "add map inet qvd egress4 { type ipv4_addr : verdict; }\n"
    "add map inet qvd egress6 { type ipv6_addr : verdict; }\n"
    "add set inet qvd conns4 { type ipv4_addr; size 65535; "
    "flags dynamic; }\n"
    "add set inet qvd conns6 { type ipv6_addr; size 65535; "
    "flags dynamic; }\n"
    "add set inet qvd pings4 { type ipv4_addr; size 65535; "
    "flags dynamic,timeout; timeout 1m; }\n"
    "add set inet qvd pings6 { type ipv6_addr; size 65535; "
    "flags dynamic,timeout; timeout 1m; }\n"
    "add chain inet qvd input "
    "{ type filter hook input priority 0; policy accept; }\n"
    "add chain inet qvd vmin\n"
    "add chain inet qvd forward "
    "{ type filter hook forward priority 0; policy accept; }\n"
    "add chain inet qvd vmout\n"
    "add chain inet qvd vmconn\n"
    "add chain inet qvd post "
    "{ type nat hook postrouting priority 100; policy accept; }\n"
    "flush chain inet qvd input\n"
    "flush chain inet qvd vmin\n"
    "flush chain inet qvd forward\n"
    "flush chain inet qvd vmout\n"
    "flush chain inet qvd vmconn\n"
    "flush chain inet qvd post\n"
    "add rule inet qvd vmconn add @conns4 { ip saddr ct count over " CONNECTIONS
    " } counter drop\n"
    "add rule inet qvd vmconn add @conns6 { ip6 saddr ct count "
    "over " CONNECTIONS " } counter drop\n"
    "add rule inet qvd vmin ct state established,related accept\n"
    "add rule inet qvd vmin ct state new jump vmconn\n"
    "add rule inet qvd vmin meta nfproto ipv4 udp dport 67 accept\n";

static const char inet_out[] =
    "add rule inet qvd vmout meta l4proto { tcp, udp } "
    "th dport { 53, 853 } counter drop\n"
    "add rule inet qvd vmout ip daddr { 0.0.0.0/8, 127.0.0.0/8, "
    "169.254.0.0/16, 100.100.100.200, 168.63.129.16, 192.0.0.192, "
    "224.0.0.0/4, 240.0.0.0/4 } counter drop\n"
    "add rule inet qvd vmout ip6 daddr { ::/96, ::ffff:0:0/96, fe80::/10, "
    "ff00::/8, fd00:ec2::/32 } counter drop\n"
    "add rule inet qvd vmout ip saddr vmap @egress4\n"
    "add rule inet qvd vmout ip6 saddr vmap @egress6\n"
    "add rule inet qvd vmout counter drop\n";

#define DNS "meta l4proto { tcp, udp } th dport 53 accept\n"

static void
add_bridge(struct buf *buf, const struct confine_net *net)
{
	buf_printf(buf, "%s", bridge_sets);
	/* First of all, so that a flood costs the node as little as can be. */
	if (net->packets > 0)
		buf_printf(buf,
		    "add rule bridge qvd vm update @flood { iifname limit "
		    "rate over %d/second burst %d packets } counter drop\n",
		    net->packets, net->packets / 2 + 1);
	buf_printf(buf, "%s", bridge_rules);
}

static void
add_input(struct buf *buf, const struct confine_net *net)
{
	const char *gw = net->gateway;
	char gw6[CONFINE_ADDR6_MAX];

	/* None named: the node is the one. */
	if (net->dns.n == 0 || resolvers_have(&net->dns, gw))
		buf_printf(buf, "add rule inet qvd vmin ip daddr %s " DNS, gw);
	buf_printf(buf,
	    "add rule inet qvd vmin ip daddr %s icmp type echo-request "
	    "update @pings4 { ip saddr limit rate 5/second } accept\n",
	    gw);
	if (net->ipv6) {
		buf_printf(buf,
		    "add rule inet qvd vmin icmpv6 type "
		    "{ nd-neighbor-solicit, nd-neighbor-advert } accept\n"
		    "add rule inet qvd vmin ip6 daddr %s icmpv6 type "
		    "echo-request update @pings6 { ip6 saddr limit "
		    "rate 5/second } accept\n",
		    ipv6_format(gw6, net->net6.address));
		if (resolvers_have(&net->dns, gw6))
			buf_printf(buf,
			    "add rule inet qvd vmin ip6 daddr %s " DNS, gw6);
	}
	buf_printf(buf,
	    "add rule inet qvd vmin counter drop\n"
	    "add rule inet qvd input iifname \"%s\" goto vmin\n"
	    "add rule inet qvd input iifname \"qvd*\" counter drop\n",
	    net->bridge);
}

static void
add_forward(struct buf *buf, const struct confine_net *net)
{
	const char *br = net->bridge;
	int i;

	buf_printf(buf,
	    "add rule inet qvd forward iifname \"%s\" oifname \"%s\" "
	    "counter drop\n"
	    "add rule inet qvd forward iifname \"%s\" jump vmout\n"
	    "add rule inet qvd forward iifname \"qvd*\" iifname != \"%s\" "
	    "counter drop\n"
	    "add rule inet qvd forward oifname \"%s\" "
	    "ct state != { established, related } counter drop\n"
	    "add rule inet qvd vmout ct state invalid counter drop\n"
	    "add rule inet qvd vmout ct state new jump vmconn\n",
	    br, br, br, br, br);
	for (i = 0; i < net->dns.n; i++)
		buf_printf(buf, "add rule inet qvd vmout %s daddr %s " DNS,
		    net->dns.v[i].ipv6 ? "ip6" : "ip", net->dns.v[i].address);
	buf_printf(buf, "%s", inet_out);
}

static void
add_nat(struct buf *buf, const struct confine_net *net)
{
	char gw6[CONFINE_ADDR6_MAX];

	if (!net->nat)
		return;
	buf_printf(buf,
	    "add rule inet qvd post ip saddr %s/%d oifname != \"%s\" "
	    "masquerade\n",
	    net->gateway, net->prefix, net->bridge);
	if (net->ipv6)
		buf_printf(buf,
		    "add rule inet qvd post ip6 saddr %s/%d oifname != \"%s\" "
		    "masquerade\n",
		    ipv6_format(gw6, net->net6.address), net->net6.prefix,
		    net->bridge);
}

char *
ruleset_text(const struct confine_net *net)
{
	struct buf buf;
	char *text;

	buf_init(&buf, 64 * 1024);
	add_bridge(&buf, net);
	buf_printf(&buf, "%s", inet_chains);
	add_input(&buf, net);
	add_forward(&buf, net);
	add_nat(&buf, net);
	text = buf_take_str(&buf);
	buf_done(&buf);
	return text;
}
