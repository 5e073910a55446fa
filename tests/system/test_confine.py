# SPDX-License-Identifier: GPL-3.0-or-later
"""What a desktop can send, with real frames from real containers: nothing
under another's name, nothing to another desktop, nothing to the node."""

import os
import re
import sys

import attacks
import packets
import pytest
from netlab import (GATEWAY, IP1, IP2, MAC0, MAC1, MAC2, OTHER, PACKETS, Net,
                    Outside)
from nodelab import Failed, Node, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def net():
    with Node() as node:
        node.setup(nat=True)
        yield Net(node)


def test_what_is_allowed(net):
    assert net.ping(1, GATEWAY)
    assert net.ping(None, IP1)
    assert net.tcp(None, 1, IP1)
    hello = packets.arp(MAC1, IP1, GATEWAY)
    assert net.arrives(hello, 1, None), "the others prove nothing"


def test_no_desktop_to_desktop(net):
    # Each must know the other's MAC, so that only the filter is in the way.
    net.do(1, "ip", "neigh", "replace", IP2, "lladdr", MAC2, "dev", "eth0")
    net.do(2, "ip", "neigh", "replace", IP1, "lladdr", MAC1, "dev", "eth0")
    assert not net.ping(1, IP2)
    assert not net.tcp(2, 1, IP1)
    frames = [packets.arp(MAC1, IP1, IP2)]
    # The last through the gateway's MAC, so that the node has to route it.
    frames += [packets.eth(dst, MAC1, 0x0800, packets.ip(
        IP1, IP2, 17, packets.udp(5, 6, b"x"))) for dst in (MAC2, MAC0)]
    assert net.that_arrive(frames, 1, 2) == []


def test_port_is_isolated(net):
    """Also without the firewall's rule; and what is for the bridge itself
    goes through the rules, too."""
    out = net.do(None, "ip", "-d", "-j", "link", "show", "dev", "qvd1")
    assert '"isolated":true' in out.replace(" ", "")
    assert '"group_fwd_mask":"0xfffd"' in out.replace(" ", "")


def test_nothing_to_the_node(net):
    assert not net.tcp(1, None, GATEWAY)
    assert not net.tcp(1, None, GATEWAY, port=8443)
    net.do(None, "ip", "addr", "replace", "192.0.2.7/32", "dev", "lo")
    assert not net.ping(1, "192.0.2.7")
    assert not net.tcp(1, None, "192.0.2.7")


def test_the_programs_way_of_spoofing(net):
    net.do(1, "ip", "addr", "add", "10.88.0.99/16", "dev", "eth0")
    assert not net.ping(1, GATEWAY, "-I", "10.88.0.99")
    net.do(1, "ip", "addr", "del", "10.88.0.99/16", "dev", "eth0")
    net.do(1, "ip", "link", "set", "eth0", "address", OTHER)
    assert not net.ping(1, GATEWAY)
    net.do(1, "ip", "link", "set", "eth0", "address", MAC1)
    assert net.ping(1, GATEWAY)


def test_no_word_of_other_addresses(net):
    """What the node answers to who asks where an address is."""
    net.do(None, "ip", "addr", "replace", "192.0.2.7/32", "dev", "lo")

    def answer(address):
        frame = packets.arp(MAC0, address, IP1, op=2, dst=MAC1)
        return frame[:32] + packets.mac(MAC1) + frame[38:]
    with net.program(1, PACKETS, "sniff", "eth0",
                     answer(GATEWAY).hex()) as sniff:
        net.send(1, [packets.arp(MAC1, IP1, a)
                     for a in ("192.0.2.7", GATEWAY)])
        came = sniff.stdout.read().split()
        assert sniff.wait() == 0
    assert answer("192.0.2.7").hex() not in came


def test_no_ipv6_where_the_node_gives_none(net):
    """Nor what would be true if it did (attacks.py has what never is)."""
    d = attacks.Desktop(1)
    good = attacks.allowed(d).frames + [packets.discovery(
        d.mac, d.a6, attacks.ALL, 136, d.a6, packets.lladdr(2, d.mac))]
    frames = [f for f in good if f[12:14] == bytes.fromhex("86dd")]
    assert len(frames) == 3
    for target in (None, 2):
        assert net.that_arrive(frames, 1, target) == []
    out = net.do(1, "ip", "-6", "addr", "show", "dev", "eth0")
    assert "inet6" not in out


def test_no_frame_for_another(net):
    """The bridge floods what it hasn't learned; a port gets its own only."""
    for dst in (MAC2, OTHER):
        frame = packets.eth(dst, MAC0, 0x0800, packets.ip(
            GATEWAY, IP2, 17, packets.udp(5, 6, b"secret")))
        marker = packets.eth(packets.BROADCAST, MAC0, 0x88b5, bytes(46))
        run("bridge", "-n", net.node.id, "fdb", "del", MAC2, "dev", "qvd2",
            "master", check=False)
        with net.program(1, PACKETS, "sniff", "eth0", marker.hex()) as sniff:
            net.send(None, [frame, marker])
            assert frame.hex() not in sniff.stdout.read()


def test_fragments(net):
    """Whole they may not arrive, so in parts neither; and no part of one may
    rewrite another."""
    with net.program(None, "-c", """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 9999))
print('ready', flush=True)
print(s.recv(9000)[:9].decode(), flush=True)
""") as server:
        def part(payload, **more):
            return packets.eth(MAC0, MAC1, 0x0800, packets.ip_fragment(
                IP1, GATEWAY, 17, payload, **more))
        head = packets.udp(5, 9999, b"forbidden" + bytes(23))
        allowed = packets.udp(5, 53, b"forbidden" + bytes(23))
        net.send(1, [
            part(head[:24]), part(head[24:], offset=3, more=False),
            # As short as can be: the head's ports alone.
            part(head[:8], ident=8), part(head[8:], offset=1, ident=8,
                                          more=False),
            # DNS may pass; then the ports are overwritten.
            part(allowed[:24], ident=9), part(head[:24], ident=9),
            part(head[24:], offset=3, ident=9, more=False),
            # The end first.
            part(head[8:], offset=1, ident=10, more=False),
            part(head[:8], ident=10)])
        net.do(None, sys.executable, "-c", "import socket; socket.socket("
               "socket.AF_INET, socket.SOCK_DGRAM).sendto(b'of itself',"
               "('127.0.0.1', 9999))")
        assert server.stdout.readline() == "of itself\n"


def test_port_without_elements_is_mute(net):
    node = net.node
    run("ip", "-n", node.id, "link", "add", "qvd999", "type", "veth", "peer",
        "name", "peer999")
    for cmd in (("set", "qvd999", "master", "qvdnet0", "up"),
                ("set", "peer999", "address", OTHER, "up")):
        run("ip", "-n", node.id, "link", *cmd)
    frame = packets.arp(OTHER, "10.88.0.50", GATEWAY)
    marker = packets.arp(MAC1, IP1, "10.88.99.98")
    with net.program(None, PACKETS, "sniff", "qvdnet0",
                     marker.hex()) as sniff:
        net.send(None, [frame], "peer999")
        net.send(1, [marker])
        assert frame.hex() not in sniff.stdout.read()
    assert 999 in node.ask("vm.list")["vms"]
    assert node.ask("vm.clean", vm_id=999)["removed"] == ["link"]
    assert "qvd999" not in node.links()


def test_setup_again_keeps_desktops(net):
    node = net.node
    before = node.elements()
    assert before.count(". 10.88.0.") == 2
    for _ in range(3):
        node.setup(nat=True)
    assert node.elements() == before
    assert net.ping(1, GATEWAY)
    rules = run(*node.in_net, "nft", "list", "ruleset")
    assert rules.count("masquerade") == 1
    node.kill()
    node.start()
    node.setup(nat=True)
    assert node.elements() == before
    assert node.ask("vm.list")["vms"] == [1, 2]


def test_way_out(net):
    """NAT to a public address; private networks are closed, and nobody from
    outside can begin to talk to a desktop."""
    node = net.node
    out = Outside(net, "192.168.7.1/24", "8.8.4.4/32")
    try:
        assert net.ping(1, "8.8.4.4")
        assert not net.ping(1, "192.168.7.1")
        assert not net.ping(out.id, IP1)
        assert "masquerade" in run(*node.in_net, "nft", "list", "ruleset")
        node.setup(nat=False)
        assert "masquerade" not in run(*node.in_net, "nft", "list",
                                       "ruleset")
        assert net.ping(1, "8.8.4.4"), "the outside knows the way back"
        assert not net.ping(out.id, IP1)
    finally:
        out.close()
        node.setup(nat=True)


@pytest.mark.parametrize("args", [
    {"bridge": "br 0"}, {"bridge": "qvd7"}, {"bridge": "x" * 16},
    {"bridge": 'a";drop'}, {"gateway": "10.88.0.1"},
    {"gateway": "10.88.0.1/31"}, {"gateway": "10.88.0.1/7"},
    {"gateway": "10.88.0/16"}, {"gateway": "::1/64"}, {"dns": "dns.example"},
    {"dns": "1.1.1.1;"}, {"dns": "1.1.1.1 " * 5}, {"nat": "yes"},
    {"extra": 1}, {"gateway6": "fd00::1"}, {"gateway6": "fd00::1/97"},
    {"gateway6": "fe80::1/64"}, {"gateway6": "fd00::a58:3/64"},
    {"packets": -1}])
def test_setup_is_refused(net, args):
    with pytest.raises(Failed) as e:
        net.node.setup(**args)
    assert e.value.id == "bad-parameter", e.value


def test_bridge_that_is_none(net):
    run("ip", "-n", net.node.id, "link", "add", "dm0", "type", "veth", "peer",
        "name", "dm1")
    with pytest.raises(Failed) as e:
        net.node.setup(bridge="dm0")
    assert "is no bridge" in e.value.message
    net.node.setup(nat=True)
    assert net.ping(1, GATEWAY)


def test_bridge_mac_stays(net):
    """The gateway's MAC must not follow the ports that come and go."""
    node = net.node

    def mac():
        return re.search(r"link/ether (\S+)", run(
            "ip", "-n", node.id, "link", "show", "qvdnet0")).group(1)
    assert mac() == MAC0
    run("ip", "-n", node.id, "link", "add", "low0", "address",
        "00:00:00:00:00:01", "type", "veth", "peer", "name", "low1")
    run("ip", "-n", node.id, "link", "set", "low0", "master", "qvdnet0")
    assert mac() == MAC0
    run("ip", "-n", node.id, "link", "del", "low0")


def test_namespace_is_made_when_missing():
    """[node] netns: without one of that name, one at <run>/netns."""
    node = Node()
    try:
        node.prepare()
        run("ip", "netns", "del", node.id)
        node.in_net = ["nsenter", f"--net={node.run}/netns"]
        host = run("ip", "-o", "link")
        node.start()
        node.setup()
        assert "qvdnet0" in run(*node.in_net, "ip", "-o", "link")
        assert "LOOPBACK,UP" in run(*node.in_net, "ip", "-o", "link")
        assert run("ip", "-o", "link") == host, "the host's network changed"
        checksum = node.image()
        pid = node.vm(1, checksum)[0]["pid"]
        assert " 0% packet loss" in run(
            "nsenter", "-t", pid, "-n", "ping", "-n", "-c1", "-W20", GATEWAY)
        # Another helper finds the same one.
        node.kill()
        node.start()
        node.setup()
        assert node.ask("vm.list")["vms"] == [1]
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        assert "link" in run(*node.in_net, "ip", "-o", "link")
        node.ask("vm.clean", vm_id=1)
        assert "qvd1" not in run(*node.in_net, "ip", "-o", "link")
    finally:
        node.close()
