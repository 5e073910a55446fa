# SPDX-License-Identifier: GPL-3.0-or-later
"""What a desktop tries that must fail, as frames by name: the same lists for
every kind of port. A Desktop is whom they come from; the other one, VM 2, is
the neighbour, and the node its gateway.

frames():  not one of them may leave the port.
to_node(), to_neighbour(), to_world(): the frames are true, but the node may
           neither take nor route what is in them. Each has a number (the
           packet's id, or flow label) by which it is found again.
"""

import struct

import packets
from netlab import (A2, GATEWAY, GATEWAY6, IP2, LOCAL2, MAC0, MAC2, OTHER)
from packets import (arp, eth, icmp, icmp6, ip, ip6, ip6_fragment,
                     ip_fragment, lladdr, tagged, tcp, udp, udp6)

ALL, ROUTERS, MDNS6 = "ff02::1", "ff02::2", "ff02::fb"
MANY, MDNS = "33:33:00:00:00:01", "224.0.0.251"
# Other addresses of the node.
SELF, SELF6 = "192.0.2.7", "fd00:99::7"
# Groups of a bridge's own: spanning tree, slow protocols, EAPOL, LLDP.
GROUPS = [f"01:80:c2:00:00:0{n}" for n in "023e"]
OPTIONS = bytes([0, 1, 4, 0, 0, 0, 0])  # of IPv6: padding
ALERT = bytes([0, 5, 2, 0, 0, 1, 0])  # router alert
# Loose source route over the neighbour, and its end.
ROUTE = bytes([131, 7, 4]) + bytes([10, 88, 0, 4]) + bytes([0])
X = udp(5, 9999, b"x")


class Desktop:
    def __init__(self, vm):
        end = vm + 2
        self.vm, self.ip = vm, f"10.88.0.{end}"
        self.mac = f"54:52:00:58:00:0{end}"
        self.a6 = f"fd00:88::a58:{end}"
        self.local = f"fe80::5652:ff:fe58:{end}"

    def v4(self, payload, dst=MAC0):
        return eth(dst, self.mac, 0x0800, payload)

    def v6(self, payload, dst=MAC0):
        return eth(dst, self.mac, 0x86dd, payload)


def addresses(d):
    def v4(mac, src):
        return eth(MAC0, mac, 0x0800, ip(src, GATEWAY, 17, X))

    def v6(src, dst=GATEWAY6, mac=d.mac):
        return eth(MAC0, mac, 0x86dd, ip6(src, dst, 17, udp6(
            src, dst, 5, 9999, b"x")))
    return {
        "neighbour's address": v4(d.mac, IP2),
        "nobody's": v4(d.mac, "10.88.0.77"),
        "of the world": v4(d.mac, "8.8.8.8"),
        "loopback": v4(d.mac, "127.0.0.1"), "none": v4(d.mac, "0.0.0.0"),
        "broadcast": v4(d.mac, "10.88.255.255"),
        "group": v4(d.mac, "224.0.0.1"), "gateway": v4(d.mac, GATEWAY),
        "neighbour, whole": v4(MAC2, IP2), "gateway, whole": v4(MAC0, GATEWAY),
        "another MAC": v4(OTHER, d.ip), "no MAC": v4("00:00:00:00:00:00",
                                                     d.ip),
        "later fragment of the neighbour's": d.v4(ip_fragment(
            IP2, GATEWAY, 17, bytes(8), offset=3, more=False)),
        "v6 neighbour's": v6(A2), "v6 nobody's": v6("fd00:88::77"),
        "v6 another network": v6("2001:db8::1"), "v6 gateway's": v6(GATEWAY6,
                                                                    ALL),
        "v6 loopback": v6("::1"), "v6 none": v6("::"),
        "v6 mapped": v6("::ffff:10.88.0.3"), "v6 local": v6(d.local),
        "v6 neighbour's local": v6(LOCAL2),
        "v6 neighbour's MAC": v6(d.a6, mac=MAC2),
        "v6 another MAC": v6(d.a6, mac=OTHER),
        "v6 later fragment of the neighbour's": d.v6(ip6_fragment(
            A2, GATEWAY6, 17, bytes(8), 3, False))}


def arps(d):
    return {
        "gateway's address": arp(d.mac, GATEWAY, IP2),
        "gateway is at me": arp(d.mac, GATEWAY, GATEWAY),
        "gateway is at me, as an answer": arp(d.mac, GATEWAY, GATEWAY, op=2),
        "neighbour's address": arp(d.mac, IP2, GATEWAY),
        "neighbour's MAC inside": arp(MAC2, d.ip, GATEWAY, eth_src=d.mac),
        "neighbour's MAC outside": arp(d.mac, d.ip, GATEWAY, eth_src=MAC2),
        "I am at the neighbour": arp(MAC2, d.ip, GATEWAY, op=2,
                                     eth_src=d.mac),
        "answer for the gateway": arp(d.mac, GATEWAY, IP2, op=2, dst=MAC0),
        "announcement": arp(d.mac, "10.88.0.50", "10.88.0.50"),
        "probe": arp(d.mac, "0.0.0.0", IP2),
        "reverse ARP": arp(d.mac, d.ip, GATEWAY, op=3),
        "inverse ARP": arp(d.mac, d.ip, GATEWAY, op=8),
        "long addresses": arp(d.mac, d.ip, GATEWAY, head=(1, 0x800, 8, 4)),
        "other hardware": arp(d.mac, d.ip, GATEWAY, head=(6, 0x800, 6, 4)),
        "other protocol": arp(d.mac, d.ip, GATEWAY, head=(1, 0x86dd, 6, 4)),
        "cut": arp(d.mac, d.ip, GATEWAY)[:30]}


def links(d):
    """What is neither ARP nor IP."""
    inside = ip(d.ip, GATEWAY, 17, X)
    snap = bytes.fromhex("aaaa030000000800") + inside
    many = packets.BROADCAST
    found = {
        "VLAN": tagged(many, d.mac, 0x0800, inside),
        "priority alone": tagged(many, d.mac, 0x0800, inside, 0x6000),
        "ARP in a VLAN": tagged(many, d.mac, 0x0806, arp(
            d.mac, d.ip, GATEWAY)[14:]),
        "QinQ": tagged(many, d.mac, 0x8100, struct.pack("!HH", 7, 0x0800)
                       + inside, tag=0x88a8),
        "IPv6 in a VLAN": tagged(many, d.mac, 0x86dd, ip6(
            d.a6, ALL, 17, udp6(d.a6, ALL, 5, 9999, b"x"))),
        "IP in LLC": eth(many, d.mac, len(snap), snap),
        "PPPoE": eth(many, d.mac, 0x8864, bytes.fromhex("11000001001e0021")
                     + inside),
        "MPLS": eth(many, d.mac, 0x8847, bytes.fromhex("00001140") + inside),
        "IPv6 called IPv4": eth(many, d.mac, 0x0800, ip6(d.a6, ALL, 59, b"")),
        "IPv4 called IPv6": eth(many, d.mac, 0x86dd, inside),
        "half a head": eth(many, d.mac, 0x0800, inside[:10]),
        "loop": eth(many, d.mac, 0x9000, bytes(46)),
        "own kind": eth(many, d.mac, 0x9999, bytes(46))}
    for group in GROUPS:
        found[f"LLDP to {group}"] = eth(group, d.mac, 0x88cc, bytes(46))
        found[f"EAPOL to {group}"] = eth(group, d.mac, 0x888e, bytes(46))
        found[f"spanning tree to {group}"] = eth(
            group, d.mac, 38, bytes.fromhex("424203") + bytes(35))
    return found


def dhcps(d):
    all_, none = "255.255.255.255", "0.0.0.0"

    def bad(src, dst, payload, mac=packets.BROADCAST):
        return d.v4(ip(src, dst, 17, payload), mac)

    def v6(src, sport, dport):
        return d.v6(ip6(src, ALL, 17, udp6(src, ALL, sport, dport, b"x")),
                    MANY)
    release = packets.dhcp(MAC2, 7, IP2)
    return {
        "a server": bad(d.ip, all_, udp(67, 68, bytes(240))),
        "a server, to one": bad(d.ip, IP2, udp(67, 68, bytes(240)), MAC0),
        "a relay": bad(d.ip, GATEWAY, udp(67, 67, bytes(240)), MAC0),
        "a server without address": bad(none, all_, udp(67, 68, bytes(240))),
        "asks as the neighbour": bad(none, all_, packets.dhcp(MAC2, 1)),
        "refuses as the neighbour": bad(none, all_, packets.dhcp(MAC2, 4)),
        "gives back the neighbour's": bad(d.ip, GATEWAY, release, MAC0),
        "gives it back in parts": d.v4(ip_fragment(
            d.ip, GATEWAY, 17, release[:32])),
        "without address, to one": bad(none, GATEWAY, packets.dhcp(d.mac, 1),
                                       MAC0),
        "v6 server": v6(d.a6, 547, 546), "v6 local server": v6(
            d.local, 547, 546)}


def groups(d):
    """What a bridge learns groups from, and where a router of them is."""
    def igmp(kind, group, dst):
        body = struct.pack("!BBH4B", kind, 10, 0, *group)
        body = body[:2] + struct.pack("!H", packets.checksum(body)) + body[4:]
        return d.v4(ip(d.ip, dst, 2, body, options=bytes([148, 4, 0, 0])),
                    "01:00:5e:00:00:01")

    def mld(src, kind):
        return d.v6(ip6(src, ALL, 0, bytes([58]) + ALERT + icmp6(
            src, ALL, kind, bytes(20)), hops=1), MANY)
    return {
        "asks for groups": igmp(0x11, (0, 0, 0, 0), "224.0.0.1"),
        "joins a group": igmp(0x16, (239, 1, 1, 1), "239.1.1.1"),
        "leaves it": igmp(0x17, (239, 1, 1, 1), "224.0.0.2"),
        **{f"MLD {kind} from {who}": mld(src, kind)
           for kind in (130, 131, 132, 143)
           for who, src in (("its address", d.a6), ("its local", d.local))}}


def neighbours(d):
    mine = lladdr(2, d.mac)

    def ad(src, target, option, flags=0x20000000, mac=d.mac):
        return packets.discovery(mac, src, ALL, 136, target, option, flags)

    def ask(src, target, option=b""):
        return packets.discovery(d.mac, src, ALL, 135, target, option)

    def behind(kind, head, src=d.a6):
        return d.v6(ip6(src, ALL, kind, bytes([58]) + head + icmp6(
            src, ALL, 136, struct.pack("!I", 0x20000000)
            + packets.in6(GATEWAY6) + mine)), MANY)
    return {
        "gateway is at me": ad(d.a6, GATEWAY6, mine),
        "neighbour is at me": ad(d.a6, A2, mine),
        "from its address": ad(A2, A2, mine),
        "from its local address": ad(LOCAL2, A2, mine),
        "I am at the neighbour": ad(d.a6, d.a6, lladdr(2, MAC2)),
        "I am at nobody": ad(d.a6, d.a6, lladdr(2, OTHER)),
        "neighbour's MAC outside": ad(d.a6, d.a6, mine, mac=MAC2),
        "gateway's, router": ad(d.a6, GATEWAY6, mine, 0xe0000000),
        "two options": ad(d.a6, d.a6, mine + lladdr(2, MAC2)),
        "other option": ad(d.a6, d.a6, lladdr(1, d.mac)),
        "short option": ad(d.a6, d.a6, bytes(4)),
        "after options": behind(60, OPTIONS),
        "after hop-by-hop": behind(0, OPTIONS),
        "local, after options": behind(60, OPTIONS, d.local),
        "I ask as at the neighbour": ask(d.a6, GATEWAY6, lladdr(1, MAC2)),
        "I ask as the neighbour": ask(A2, GATEWAY6, lladdr(1, d.mac)),
        "is the neighbour's free": ask("::", A2),
        "is the gateway's free": ask("::", GATEWAY6),
        "is mine free, at the neighbour": ask("::", d.a6, lladdr(1, MAC2)),
        "is mine free, two options": ask("::", d.a6, bytes([14, 1]) + bytes(
            6) + lladdr(1, MAC2))}


def routers(d):
    ra = packets.router(d.local)
    redirect = icmp6(d.local, ALL, 137, bytes(4) + packets.in6(A2)
                     + packets.in6(d.a6))

    def sends(src, what, kind=58):
        return d.v6(ip6(src, ALL, kind, what), MANY)

    def part(*args, **more):
        return d.v6(ip6_fragment(d.local, ALL, *args, **more), MANY)
    return {
        "advertises itself": sends(d.local, ra),
        "under its address": sends(d.a6, packets.router(d.a6)),
        "as the gateway": sends(GATEWAY6, packets.router(GATEWAY6)),
        "after options": sends(d.local, bytes([58]) + OPTIONS + ra, 60),
        "after hop-by-hop": sends(d.local, bytes([58]) + ALERT + ra, 0),
        "under its address, after options": sends(
            d.a6, bytes([58]) + OPTIONS + packets.router(d.a6), 60),
        "in parts, 1": part(58, ra[:24], 0, True),
        "in parts, 2": part(58, ra[24:], 3, False),
        "in one part": part(58, ra, 0, False, 8),
        "in one part, under its address": d.v6(ip6_fragment(
            d.a6, ALL, 58, packets.router(d.a6), 0, False, 9), MANY),
        "redirects": sends(d.local, redirect),
        "asks for routers": d.v6(ip6(d.local, ROUTERS, 58, icmp6(
            d.local, ROUTERS, 133, bytes(4))), MANY),
        "asks for names": sends(d.a6, icmp6(d.a6, ALL, 139, bytes(12)))}


def frames(d):
    return {f"{kind.__name__}: {name}": frame
            for kind in (addresses, arps, links, dhcps, groups, neighbours,
                         routers)
            for name, frame in kind(d).items()}


# What no bridge of Linux passes anyway: a frame from nobody.
REFUSED = {"addresses: no MAC"}


class Packets:
    """Collects packets of a desktop's, each with a number of its own."""

    def __init__(self, d, first):
        self.d, self.next = d, first
        self.names, self.frames = {}, []

    def _add(self, name, frames):
        self.names[self.next] = name
        self.frames += frames
        self.next += 1

    def v4(self, name, dst, proto, payload, mac=MAC0, options=b"",
           src=None):
        src = src or self.d.ip
        payload = packets.summed(src, dst, proto, payload)
        self._add(name, [self.d.v4(ip(src, dst, proto, payload, self.next,
                                      options=options), mac)])

    def v6(self, name, dst, proto, payload, mac=MAC0, head=None):
        """head: the kind of head before it, and what comes after the kind
        of the next."""
        payload = packets.summed(self.d.a6, dst, proto, payload)
        if head:
            payload, proto = bytes([proto]) + head[1] + payload, head[0]
        self._add(name, [self.d.v6(ip6(self.d.a6, dst, proto, payload,
                                       label=self.next), mac)])

    def parts4(self, name, dst, payload, *cuts):
        """A datagram in pieces that begin at those units of eight bytes."""
        payload = packets.summed(self.d.ip, dst, 17, payload)
        ends = [*cuts[1:], None]
        self._add(name, [self.d.v4(ip_fragment(
            self.d.ip, dst, 17, payload[8 * at:end and 8 * end], at,
            end is not None, self.next)) for at, end in zip(cuts, ends)])

    def parts6(self, name, dst, payload, *cuts, head=None):
        payload, proto = packets.summed(self.d.a6, dst, 17, payload), 17
        if head:
            payload, proto = bytes([proto]) + head[1] + payload, head[0]
        ends = [*cuts[1:], None]
        self._add(name, [self.d.v6(ip6_fragment(
            self.d.a6, dst, proto, payload[8 * at:end and 8 * end], at,
            end is not None, self.next, label=self.next))
            for at, end in zip(cuts, ends)])

    def everything(self, where, dst4, dst6):
        """What can be sent to an address."""
        d, big = self.d, udp(5, 9999, bytes(64))
        for name, proto, what in (
                ("UDP", 17, X), ("TCP", 6, tcp(9999)),
                ("the router", 6, tcp(8443)), ("ssh", 6, tcp(22)),
                ("IP in IP", 4, ip(IP2, GATEWAY, 17, X)),
                ("IPv6 in IP", 41, ip6(A2, GATEWAY6, 17, X)),
                ("GRE", 47, bytes.fromhex("00000800") + ip(
                    IP2, GATEWAY, 17, X)),
                ("ESP", 50, bytes(40)), ("SCTP", 132, bytes(32)),
                ("UDP-Lite", 136, X), ("VRRP", 112, bytes(20)),
                ("OSPF", 89, bytes(24)), ("no protocol", 255, bytes(20))):
            self.v4(f"{where}: {name}", dst4, proto, what)
            self.v6(f"{where}: v6 {name}", dst6, proto, what)
        self.v4(f"{where}: time, please", dst4, 1, icmp(13, bytes(16)))
        self.v4(f"{where}: redirect", dst4, 1, icmp(
            5, bytes([10, 88, 0, d.vm + 2]) + ip(GATEWAY, IP2, 17, X)))
        for name, options in (("record", bytes([7, 7, 4]) + bytes(5)),
                              ("alert", bytes([148, 4, 0, 0]))):
            self.v4(f"{where}: option {name}", dst4, 17, X, options=options)
        self.parts4(f"{where}: in two parts", dst4, big, 0, 3)
        self.parts4(f"{where}: the ports alone", dst4, big, 0, 1)
        self.parts6(f"{where}: v6 in two parts", dst6, big, 0, 3)
        self.parts6(f"{where}: v6 the ports alone", dst6, big, 0, 1)
        for name, kind, head in (("hop-by-hop", 0, OPTIONS),
                                 ("options", 60, OPTIONS),
                                 ("alert", 0, ALERT)):
            self.v6(f"{where}: v6 TCP after {name}", dst6, 6, tcp(9999),
                    head=(kind, head))
        self.parts6(f"{where}: v6 in parts after options", dst6, big, 0, 3,
                    head=(60, OPTIONS))


def to_node(d):
    p = Packets(d, 1000)
    p.everything("gateway", GATEWAY, GATEWAY6)
    p.everything("another address", SELF, SELF6)
    for dst in (SELF, "10.88.255.255", "224.0.0.1"):
        p.v4(f"ping of {dst}", dst, 1, icmp(8))
    for dst in (SELF6, ALL):
        p.v6(f"ping of {dst}", dst, 58, icmp6(d.a6, dst, 128, bytes(4)))
    p.v4("DNS elsewhere", SELF, 17, udp(5, 53, b"x"))
    p.v4("DNS over TLS", GATEWAY, 6, tcp(853))
    p.v6("v6 DNS", GATEWAY6, 17, udp6(d.a6, GATEWAY6, 5, 53, b"x"))
    for dst in ("255.255.255.255", "10.88.255.255", "224.0.0.1", MDNS):
        p.v4(f"UDP to {dst}", dst, 17, udp(5353, 5353, b"x"),
             packets.BROADCAST)
    for dst in (ALL, MDNS6):
        p.v6(f"UDP to {dst}", dst, 17, udp6(d.a6, dst, 5353, 5353, b"x"),
             MANY)
    # The kernel gives frames to these to the node past the bridge.
    for group in GROUPS[1:]:
        p.v4(f"by {group}", GATEWAY, 17, X, group)
        p.v4(f"by {group}, as another", GATEWAY, 17, X, group, src="8.8.8.8")
    return p


def to_neighbour(d):
    p = Packets(d, 2000)
    p.everything("neighbour", IP2, A2)
    p.v4("ping", IP2, 1, icmp(8))
    p.v6("v6 ping", A2, 58, icmp6(d.a6, A2, 128, bytes(4)))
    p.v4("over another hop", GATEWAY, 17, X, options=ROUTE)
    return p


# What clouds have for their machines, and what is nobody's out there.
CLOSED = ["169.254.169.254", "169.254.170.2", "100.100.100.200",
          "168.63.129.16", "192.0.0.192", "10.1.2.3", "192.168.7.1",
          "100.64.0.1"]
CLOSED6 = ["fd00:ec2::254", "fd00:77::1", "64:ff9b::a9fe:a9fe",
           "2002:a9fe:a9fe::1"]
PUBLIC, PUBLIC6 = "8.8.4.4", "2001:db8:2::1"


def to_world(d):
    """Under the policy that is usual."""
    p = Packets(d, 3000)
    p.everything("metadata", CLOSED[0], CLOSED6[0])
    for dst in CLOSED:
        p.v4(f"TCP to {dst}", dst, 6, tcp(80))
        p.v4(f"ping of {dst}", dst, 1, icmp(8))
    for dst in CLOSED6:
        p.v6(f"TCP to {dst}", dst, 6, tcp(80))
        p.v6(f"ping of {dst}", dst, 58, icmp6(d.a6, dst, 128, bytes(4)))
    for port in (53, 853):
        p.v4(f"UDP {port} elsewhere", PUBLIC, 17, udp(5, port, b"x"))
        p.v4(f"TCP {port} elsewhere", PUBLIC, 6, tcp(port))
        p.v6(f"v6 UDP {port} elsewhere", PUBLIC6, 17, udp6(
            d.a6, PUBLIC6, 5, port, b"x"))
        p.v6(f"v6 TCP {port} elsewhere", PUBLIC6, 6, tcp(port))
    dns = udp(5, 53, bytes(64))
    p.parts4("DNS in parts", PUBLIC, dns, 0, 1)
    p.parts6("v6 DNS in parts", PUBLIC6, dns, 0, 1)
    p.v6("v6 DNS after options", PUBLIC6, 17, dns, head=(60, OPTIONS))
    return p


def allowed(d):
    """That the others' silence means something."""
    p = Packets(d, 4000)
    p.v4("TCP", PUBLIC, 6, tcp(80))
    p.v6("v6 TCP", PUBLIC6, 6, tcp(80))
    p.v4("DNS", GATEWAY, 17, udp(5, 53, b"x"))
    p.v4("DNS over TCP", GATEWAY, 6, tcp(53))
    p.v4("asks for an address", "255.255.255.255", 17, packets.dhcp(d.mac, 1),
         packets.BROADCAST, src="0.0.0.0")
    p.v4("gives it back", GATEWAY, 17, packets.dhcp(d.mac, 7, d.ip))
    p.v4("ping", GATEWAY, 1, icmp(8))
    p.v6("v6 ping", GATEWAY6, 58, icmp6(d.a6, GATEWAY6, 128, bytes(4)))
    return p
