# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6 where the node gives it: neighbour discovery is true, there is one
router, and the rest is as with IPv4."""

import os

import packets
import pytest
from netlab import (A1, A2, GATEWAY, GATEWAY6, LOCAL1, MAC0, MAC1, MAC2, Net,
                    Outside)
from nodelab import Node, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALL = "ff02::1"


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


def test_name_servers(net):
    """Of both kinds, the node's own address among them; nobody else."""
    named, other = "2001:db8:2::53", "2001:db8:2::54"
    out = Outside(net, f"{named}/128", f"{other}/128", "10.9.9.9/32")
    try:
        with net.serve(out.id, 53), net.serve(None, 53):
            asked = [(a, 53) for a in (named, other, "10.9.9.9", GATEWAY,
                                       GATEWAY6)]
            assert net.reach(1, *asked) == {(GATEWAY, 53)}
            net.node.setup(nat=True, gateway6="fd00:88::1/64",
                           dns=f"{named}, 10.9.9.9 {GATEWAY6}")
            assert net.reach(1, *asked) == {
                (named, 53), ("10.9.9.9", 53), (GATEWAY6, 53)}
            pid = net.node.vm(4, net.checksum)[0]["pid"]
            told = net.node.inside(pid, "cat", "/etc/resolv.conf")
            assert told == (f"nameserver {named}\nnameserver 10.9.9.9\n"
                            f"nameserver {GATEWAY6}\n")
    finally:
        net.node.setup(nat=True, gateway6="fd00:88::1/64")
        out.close()
    assert net.reach(1, (named, 53)) == set()


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
