/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "confine/ruleset.h"

#include "base/buf.h"

/*
 * `flush table` empties the chains and leaves sets and their elements, so
 * the text can be loaded again while desktops run. Each line "add ..." is
 * harmless when the object exists.
 *
 * bridge: each frame from a port named qvd<id> goes through `vm`, whose end
 * drops: a port without elements can send nothing at all. Only the VM's own
 * MAC, ARP only as itself, IP only from its own address; no IPv6, no VLAN,
 * nothing else. Between two ports nothing passes.
 */
static const char bridge_rules[] =
    "add table bridge qvd\n"
    "flush table bridge qvd\n"
    "add set bridge qvd mac { type ifname . ether_addr; }\n"
    "add set bridge qvd macip { type ifname . ether_addr . ipv4_addr; }\n"
    "add chain bridge qvd pre "
    "{ type filter hook prerouting priority -200; policy accept; }\n"
    "add chain bridge qvd vm\n"
    "add chain bridge qvd vmfwd "
    "{ type filter hook forward priority -200; policy accept; }\n"
    "add rule bridge qvd pre iifname \"qvd*\" goto vm\n"
    "add rule bridge qvd vm iifname . ether saddr != @mac counter drop\n"
    "add rule bridge qvd vm ether type arp arp operation { 1, 2 } "
    "iifname . arp saddr ether . arp saddr ip @macip accept\n"
    "add rule bridge qvd vm ether type ip ip saddr 0.0.0.0 "
    "ip daddr 255.255.255.255 udp sport 68 udp dport 67 "
    "limit rate 10/second accept\n"
    "add rule bridge qvd vm ether type ip udp sport 67 counter drop\n"
    "add rule bridge qvd vm ether type ip "
    "iifname . ether saddr . ip saddr @macip accept\n"
    "add rule bridge qvd vm counter drop\n"
    "add rule bridge qvd vmfwd iifname \"qvd*\" oifname \"qvd*\" "
    "counter drop\n";

/*
 * inet: towards the host only DHCP, DNS and a few pings; outwards not to
 * private networks (those are the company's servers; policy comes with the
 * rules by tenant and OSF) but to the DNS servers given.
 */
static const char inet_chains[] =
    "add table inet qvd\n"
    "flush table inet qvd\n"
    "add chain inet qvd input "
    "{ type filter hook input priority 0; policy accept; }\n"
    "add chain inet qvd vmin\n"
    "add chain inet qvd forward "
    "{ type filter hook forward priority 0; policy accept; }\n"
    "add chain inet qvd post "
    "{ type nat hook postrouting priority 100; policy accept; }\n"
    "add rule inet qvd vmin ct state established,related accept\n"
    "add rule inet qvd vmin udp dport 67 accept\n";

static void
add_input(struct buf *buf, const struct confine_net *net)
{
	const char *gw = net->gateway;

	buf_printf(buf,
	    "add rule inet qvd vmin ip daddr %s udp dport 53 accept\n"
	    "add rule inet qvd vmin ip daddr %s tcp dport 53 accept\n"
	    "add rule inet qvd vmin ip daddr %s icmp type echo-request "
	    "limit rate 5/second accept\n"
	    "add rule inet qvd vmin counter drop\n"
	    "add rule inet qvd input iifname \"%s\" jump vmin\n",
	    gw, gw, gw, net->bridge);
}

static void
add_forward(struct buf *buf, const struct confine_net *net)
{
	const char *br = net->bridge;
	int i;

	buf_printf(buf,
	    "add rule inet qvd forward iifname \"%s\" oifname \"%s\" "
	    "counter drop\n"
	    "add rule inet qvd forward iifname \"%s\" "
	    "ct state established,related accept\n",
	    br, br, br);
	for (i = 0; i < net->n_dns; i++)
		buf_printf(buf,
		    "add rule inet qvd forward iifname \"%s\" ip daddr %s "
		    "meta l4proto { tcp, udp } th dport 53 accept\n",
		    br, net->dns[i]);
	buf_printf(buf,
	    "add rule inet qvd forward iifname \"%s\" ip daddr "
	    "{ 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16 } "
	    "counter drop\n"
	    "add rule inet qvd forward iifname \"%s\" meta nfproto ipv6 "
	    "counter drop\n"
	    "add rule inet qvd forward oifname \"%s\" ct state new "
	    "counter drop\n",
	    br, br, br);
}

char *
ruleset_text(const struct confine_net *net)
{
	struct buf buf;
	char *text;

	buf_init(&buf, 64 * 1024);
	buf_printf(&buf, "%s%s", bridge_rules, inet_chains);
	add_input(&buf, net);
	add_forward(&buf, net);
	if (net->nat)
		buf_printf(&buf,
		    "add rule inet qvd post ip saddr %s/%d oifname != \"%s\" "
		    "masquerade\n",
		    net->gateway, net->prefix, net->bridge);
	text = buf_take_str(&buf);
	buf_done(&buf);
	return text;
}
