# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 where the node gives it: neighbour discovery is true, there is one
router, and the rest is as with IPv4."""

import os
import struct

import packets
import pytest
from netlab import (A1, A2, GATEWAY6, LOCAL1, LOCAL2, MAC0, MAC1, MAC2, OTHER,
                    Net, Outside)
from nodelab import Node, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALL, ROUTERS = "ff02::1", "ff02::2"


@pytest.fixture(scope="module")
def net():
    with Node() as node:
        node.setup(nat=True, gateway6="fd00:88::1/64")
        net = Net(node)
        for vm in (1, 2):
            eventually(lambda vm=vm: "tentative" not in net.do(
                vm, "ip", "-6", "addr", "show", "dev", "eth0"), 20)
        yield net


def from_1(dst_mac, payload):
    return packets.eth(dst_mac, MAC1, 0x86dd, payload)


def udp(src, dst=GATEWAY6, mac=MAC1, sport=5, dport=6):
    return packets.eth(MAC0, mac, 0x86dd, packets.ip6(
        src, dst, 17, packets.udp6(src, dst, sport, dport, b"x")))


def test_what_is_allowed(net):
    assert f"inet6 {A1}/64" in net.do(1, "ip", "-6", "addr", "show")
    assert net.ping(1, GATEWAY6)
    assert net.ping(None, A1)
    assert net.tcp(None, 1, A1)
    assert net.ping(1, GATEWAY6, "-s", "4000"), "in fragments"
    good = [udp(A1),
            packets.discovery(MAC1, A1, GATEWAY6, 135, GATEWAY6,
                              packets.lladdr(1, MAC1), dst_mac=MAC0),
            packets.discovery(MAC1, A1, GATEWAY6, 135, GATEWAY6,
                              dst_mac=MAC0),
            packets.discovery(MAC1, LOCAL1, GATEWAY6, 136, A1,
                              packets.lladdr(2, MAC1), 0x60000000, MAC0),
            packets.discovery(MAC1, "::", ALL, 135, A1)]
    assert net.that_arrive(good, 1, None) == good


def test_no_other_address(net):
    frames = {"neighbour's": udp(A2), "nobody's": udp("fd00:88::77"),
              "another network": udp("2001:db8::1"), "gateway's":
              udp(GATEWAY6, ALL), "loopback": udp("::1"), "none": udp("::"),
              "mapped": udp("::ffff:10.88.0.3"),
              "link-local": udp(LOCAL1), "neighbour's local": udp(LOCAL2),
              "neighbour's MAC": udp(A1, mac=MAC2),
              "another MAC": udp(A1, mac=OTHER)}
    for target in (None, 2):
        came = net.that_arrive(list(frames.values()), 1, target)
        assert not [what for what, f in frames.items() if f in came]


def test_no_untrue_neighbour_discovery(net):
    def ad(src, target, option, flags=0x20000000, mac=MAC1):
        return packets.discovery(mac, src, ALL, 136, target, option, flags)

    def ask(src, target, option=b""):
        return packets.discovery(MAC1, src, ALL, 135, target, option)
    mine = packets.lladdr(2, MAC1)
    frames = {
        "gateway is at me": ad(A1, GATEWAY6, mine),
        "neighbour is at me": ad(A1, A2, mine),
        "from its address": ad(A2, A2, mine),
        "from its local address": ad(LOCAL2, A2, mine),
        "I am at the neighbour": ad(A1, A1, packets.lladdr(2, MAC2)),
        "I am at nobody": ad(A1, A1, packets.lladdr(2, OTHER)),
        "neighbour's MAC outside": ad(A1, A1, mine, mac=MAC2),
        "gateway's, router": ad(A1, GATEWAY6, mine, 0xe0000000),
        "two options": ad(A1, A1, mine + packets.lladdr(2, MAC2)),
        "other option": ad(A1, A1, packets.lladdr(1, MAC1)),
        "short option": ad(A1, A1, bytes(4)),
        "I ask as at the neighbour": ask(A1, GATEWAY6,
                                         packets.lladdr(1, MAC2)),
        "I ask as the neighbour": ask(A2, GATEWAY6, packets.lladdr(1, MAC1)),
        "is the neighbour's free": ask("::", A2),
        "is the gateway's free": ask("::", GATEWAY6)}
    for target in (None, 2):
        came = net.that_arrive(list(frames.values()), 1, target)
        assert not [what for what, f in frames.items() if f in came]
    assert net.ping(2, GATEWAY6)
    assert net.ping(None, A2)


def test_no_other_router(net):
    ra = packets.router(LOCAL1)
    options = bytes([58, 0, 1, 4, 0, 0, 0, 0])  # destination options, padded
    hop = bytes([58, 0, 5, 2, 0, 0, 1, 0])  # router alert
    redirect = packets.icmp6(LOCAL1, ALL, 137, struct.pack("!I", 0)
                             + packets.in6(A1) + packets.in6(GATEWAY6))

    def fragment(payload, offset, more, ident):
        return packets.ip6(LOCAL1, ALL, 44, struct.pack(
            "!BBHI", 58, 0, offset << 3 | more, ident) + payload)
    many = "33:33:00:00:00:01"
    frames = {
        "advertises itself": from_1(many, packets.ip6(LOCAL1, ALL, 58, ra)),
        "under its address": from_1(many, packets.ip6(
            A1, ALL, 58, packets.router(A1))),
        "as the gateway": from_1(many, packets.ip6(
            GATEWAY6, ALL, 58, packets.router(GATEWAY6))),
        "after options": from_1(many, packets.ip6(LOCAL1, ALL, 60,
                                                  options + ra)),
        "after hop-by-hop": from_1(many, packets.ip6(LOCAL1, ALL, 0,
                                                     hop + ra)),
        "under its address, after options": from_1(many, packets.ip6(
            A1, ALL, 60, options + packets.router(A1))),
        "in parts, 1": from_1(many, fragment(ra[:24], 0, 1, 1)),
        "in parts, 2": from_1(many, fragment(ra[24:], 3, 0, 1)),
        "redirects": from_1(many, packets.ip6(LOCAL1, ALL, 58, redirect)),
        "asks for routers": from_1(many, packets.ip6(
            LOCAL1, ROUTERS, 58, packets.icmp6(LOCAL1, ROUTERS, 133,
                                               bytes(4)))),
        "joins a group": from_1(many, packets.ip6(LOCAL1, ALL, 0,
                                hop + packets.icmp6(LOCAL1, ALL, 131,
                                                    bytes(20)))),
        "gives out addresses": udp(A1, ALL, sport=547, dport=546),
        "gives out addresses, local": udp(LOCAL1, ALL, sport=547,
                                          dport=546)}
    for target in (None, 2):
        came = net.that_arrive(list(frames.values()), 1, target)
        assert not [what for what, f in frames.items() if f in came]
    for vm in (None, 2):
        assert "2001:db8:bad" not in net.do(vm, "ip", "-6", "addr")
        assert "2001:db8:bad" not in net.do(vm, "ip", "-6", "route")


def test_no_desktop_to_desktop(net):
    for a, b, address, mac in ((1, 2, A2, MAC2), (2, 1, A1, MAC1)):
        net.do(a, "ip", "-6", "neigh", "replace", address, "lladdr", mac,
               "dev", "eth0")
        assert not net.ping(a, address)
        assert not net.tcp(a, b, address)
    # Through the gateway's MAC.
    assert not net.arrives(udp(A1, A2), 1, 2)


def test_nothing_to_the_node(net):
    assert net.reach(1, (GATEWAY6, 9999)) == set()
    net.do(None, "ip", "-6", "addr", "replace", "fd00:99::1/128", "dev", "lo")
    with net.serve(None, 8443):
        assert net.reach(1, (GATEWAY6, 8443), ("fd00:99::1", 8443)) == set()
    assert not net.ping(1, "fd00:99::1")


def test_way_out(net):
    """Public addresses; not private ones, nor what leads into them."""
    addresses = ["2001:db8:2::1", "fd00:77::1", "fd00:ec2::254",
                 "64:ff9b::a01:203", "2002:a01:203::1"]
    out = Outside(net, *(f"{a}/128" for a in addresses))
    try:
        with net.serve(out.id, 80, 53):
            assert net.reach(1, *((a, 80) for a in addresses)) == {
                ("2001:db8:2::1", 80)}
            assert net.reach(1, ("2001:db8:2::1", 53)) == set()
        assert not net.ping(out.id, A1)
        node = net.node
        node.ask("vm.network", vm_id=1, address="10.88.0.3",
                 egress="allow 2001:db8:2::/48 tcp/80, allow fd00:ec2::/32")
        with net.serve(out.id, 80, 81):
            assert net.reach(1, ("2001:db8:2::1", 80), ("2001:db8:2::1", 81),
                             ("fd00:ec2::254", 80), ("2001:db8:1::2", 80)
                             ) == {("2001:db8:2::1", 80)}
    finally:
        out.close()


def test_everything_goes(net):
    """The IPv6 elements are found by the next helper, and taken away."""
    node = net.node
    node.vm(3, net.checksum)
    node.kill()
    node.start()
    node.setup(nat=True, gateway6="fd00:88::1/64")
    assert 'fd00:88::a58:5' in net.do(None, "nft", "list", "ruleset")
    node.ask("vm.stop", vm_id=3, grace_ms=0)
    assert "firewall elements" in node.ask("vm.clean", vm_id=3)["removed"]
    rules = net.do(None, "nft", "list", "ruleset")
    assert "a58:5" not in rules and "qvd3" not in rules and "e3" not in rules
    assert net.ping(1, GATEWAY6)
