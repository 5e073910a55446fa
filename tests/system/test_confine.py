# SPDX-License-Identifier: GPL-3.0-or-later
"""What a desktop can send, with real frames from real containers: nothing
under another's name, nothing to another desktop, nothing to the node."""

import os
import pathlib
import re
import subprocess
import sys
import uuid

import packets
import pytest
from nodelab import Failed, Node, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PACKETS = pathlib.Path(packets.__file__)
GATEWAY, IP1, IP2 = "10.88.0.1", "10.88.0.3", "10.88.0.4"
MAC0, MAC1, MAC2 = (f"54:52:00:58:00:0{n}" for n in (1, 3, 4))
OTHER = "54:52:00:aa:bb:cc"


class Net:
    def __init__(self, node):
        self.node = node
        checksum = node.image()
        self.pids = {vm: node.vm(vm, checksum)[0]["pid"] for vm in (1, 2)}

    def at(self, where):
        """Prefix of a command that is to run in a VM's network, or (None)
        in the node's."""
        if where is None:
            return self.node.in_net
        return ["nsenter", "-t", str(self.pids[where]), "-n"]

    def iface(self, where):
        return "qvdnet0" if where is None else "eth0"

    def do(self, where, *argv, check=True):
        return run(*self.at(where), *argv, check=check)

    def ping(self, where, address, *options):
        return " 0% packet loss" in self.do(
            where, "ping", "-n", "-c1", "-W1", *options, address, check=False)

    def arrives(self, frame, source, target):
        """Sends a frame from one VM; does it come out at the target?"""
        sniff = subprocess.Popen(
            [*self.at(target), sys.executable, PACKETS, "sniff",
             self.iface(target), "0.4"], stdout=subprocess.PIPE, text=True)
        assert sniff.stdout.readline() == "ready\n"
        self.do(source, sys.executable, PACKETS, "send", self.iface(source),
                frame.hex())
        return frame.hex() in sniff.communicate()[0]

    def tcp(self, source, target, address, port=9999):
        """Listens in one place and connects from another."""
        server = subprocess.Popen(
            [*self.at(target), sys.executable, "-c",
             "import socket; s = socket.create_server(('', %d));"
             "print('ready', flush=True); s.settimeout(3); s.accept()" % port],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert server.stdout.readline() == "ready\n"
        out = self.do(source, sys.executable, "-c",
                      "import socket; socket.create_connection("
                      f"('{address}', {port}), 1); print('connected')",
                      check=False)
        server.kill()
        server.wait()
        server.stdout.close()
        return "connected" in out


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
    for frame in (packets.arp(MAC1, IP1, IP2),
                  packets.eth(MAC2, MAC1, 0x0800, packets.ip(
                      IP1, IP2, 17, packets.udp(5, 6, b"x")))):
        assert not net.arrives(frame, 1, 2)
    # Through the gateway's MAC, so that the node would have to route it.
    frame = packets.eth(MAC0, MAC1, 0x0800, packets.ip(
        IP1, IP2, 17, packets.udp(5, 6, b"x")))
    assert not net.arrives(frame, 1, 2)


def test_port_is_isolated(net):
    """Also without the firewall's rule."""
    out = net.do(None, "bridge", "-d", "-j", "link", "show", "dev", "qvd1")
    assert '"isolated":true' in out.replace(" ", "")


def test_nothing_to_the_node(net):
    assert not net.tcp(1, None, GATEWAY)
    assert not net.tcp(1, None, GATEWAY, port=8443)
    net.do(None, "ip", "addr", "replace", "192.0.2.7/32", "dev", "lo")
    assert not net.ping(1, "192.0.2.7")
    assert not net.tcp(1, None, "192.0.2.7")


def test_no_other_address(net):
    udp = packets.udp(5, 6, b"x")

    def frame(src, src_ip, dst=MAC0):
        return packets.eth(dst, src, 0x0800,
                           packets.ip(src_ip, GATEWAY, 17, udp))
    assert net.arrives(frame(MAC1, IP1), 1, None)
    assert not net.arrives(frame(MAC1, IP2), 1, None), "IP spoofed"
    assert not net.arrives(frame(MAC1, "10.88.0.77"), 1, None)
    assert not net.arrives(frame(MAC1, "8.8.8.8"), 1, None)
    assert not net.arrives(frame(MAC1, "127.0.0.1"), 1, None)
    assert not net.arrives(frame(MAC2, IP2), 1, None), "another's MAC and IP"
    assert not net.arrives(frame(MAC0, GATEWAY), 1, None), "the gateway's"
    assert not net.arrives(frame(OTHER, IP1), 1, None), "MAC spoofed"


def test_the_programs_way_of_spoofing(net):
    net.do(1, "ip", "addr", "add", "10.88.0.99/16", "dev", "eth0")
    assert not net.ping(1, GATEWAY, "-I", "10.88.0.99")
    net.do(1, "ip", "addr", "del", "10.88.0.99/16", "dev", "eth0")
    net.do(1, "ip", "link", "set", "eth0", "address", OTHER)
    assert not net.ping(1, GATEWAY)
    net.do(1, "ip", "link", "set", "eth0", "address", MAC1)
    assert net.ping(1, GATEWAY)


def test_no_other_arp(net):
    good = packets.arp(MAC1, IP1, GATEWAY, op=2, dst=MAC0)
    assert net.arrives(good, 1, None)
    for what, frame in {
            "gateway's address": packets.arp(MAC1, GATEWAY, IP2),
            "neighbour's address": packets.arp(MAC1, IP2, GATEWAY),
            "neighbour's MAC inside": packets.arp(MAC2, IP1, GATEWAY,
                                                  eth_src=MAC1),
            "neighbour's MAC outside": packets.arp(MAC1, IP1, GATEWAY,
                                                   eth_src=MAC2),
            "reply for the gateway": packets.arp(MAC1, GATEWAY, IP2, op=2),
            "announcement": packets.arp(MAC1, "10.88.0.50", "10.88.0.50"),
            "reverse ARP": packets.arp(MAC1, IP1, GATEWAY, op=3)}.items():
        for target in (None, 2):
            assert not net.arrives(frame, 1, target), what


def test_nothing_but_arp_and_ipv4(net):
    v6 = packets.eth("33:33:00:00:00:01", MAC1, 0x86dd, bytes(60))
    tagged = packets.eth(MAC0, MAC1, 0x8100, bytes.fromhex("00050800")
                         + packets.ip(IP1, GATEWAY, 17,
                                      packets.udp(5, 6, b"x")))
    stp = packets.eth("01:80:c2:00:00:00", MAC1, 0x0026, bytes(38))
    lldp = packets.eth("01:80:c2:00:00:0e", MAC1, 0x88cc, bytes(46))
    for frame in (v6, tagged, stp, lldp,
                  packets.eth(packets.BROADCAST, MAC1, 0x9999, bytes(46))):
        assert not net.arrives(frame, 1, None)
        assert not net.arrives(frame, 1, 2)
    out = net.do(1, "ip", "-6", "addr", "show", "dev", "eth0")
    assert "inet6" not in out


def test_no_dhcp_server(net):
    offer = packets.eth(packets.BROADCAST, MAC1, 0x0800, packets.ip(
        IP1, "255.255.255.255", 17, packets.udp(67, 68, bytes(240))))
    assert not net.arrives(offer, 1, None)
    assert not net.arrives(offer, 1, 2)


def test_port_without_elements_is_mute(net):
    node = net.node
    run("ip", "-n", node.id, "link", "add", "qvd999", "type", "veth", "peer",
        "name", "peer999")
    for cmd in (("set", "qvd999", "master", "qvdnet0", "up"),
                ("set", "peer999", "address", OTHER, "up")):
        run("ip", "-n", node.id, "link", *cmd)
    sniff = subprocess.Popen(
        [*net.at(None), sys.executable, PACKETS, "sniff", "qvdnet0", "0.4"],
        stdout=subprocess.PIPE, text=True)
    assert sniff.stdout.readline() == "ready\n"
    frame = packets.arp(OTHER, "10.88.0.50", GATEWAY)
    net.do(None, sys.executable, PACKETS, "send", "peer999", frame.hex())
    assert frame.hex() not in sniff.communicate()[0]
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
    """NAT to a public address; private networks are closed."""
    node = net.node
    out = f"o{uuid.uuid4().hex[:8]}"
    run("ip", "netns", "add", out)
    try:
        run("ip", "-n", node.id, "link", "add", "up0", "type", "veth", "peer",
            "name", "up0", "netns", out)
        for ns, addresses in ((node.id, ["203.0.113.1/24"]),
                              (out, ["203.0.113.2/24", "192.168.7.1/24",
                                     "8.8.4.4/32"])):
            for a in addresses:
                run("ip", "-n", ns, "addr", "add", a, "dev", "up0")
            run("ip", "-n", ns, "link", "set", "up0", "up")
        for to in ("8.8.4.4", "192.168.7.1"):
            run("ip", "-n", node.id, "route", "add", to, "via",
                "203.0.113.2", "dev", "up0")
        assert net.ping(1, "8.8.4.4")
        assert not net.ping(1, "192.168.7.1")
        node.setup(nat=True, dns="192.168.7.1")
        assert not net.ping(1, "192.168.7.1")
        server = subprocess.Popen(
            ["ip", "netns", "exec", out, sys.executable, "-c",
             "import socket; s = socket.create_server(('', 53));"
             "print('ready', flush=True); s.settimeout(3); s.accept()"],
            stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        said = net.do(1, sys.executable, "-c", "import socket; socket."
                      "create_connection(('192.168.7.1', 53), 1);"
                      "print('connected')", check=False)
        server.kill()
        server.wait()
        server.stdout.close()
        assert "connected" in said, "the DNS server that was named"
        # Nobody from outside can begin to talk to a desktop.
        run("ip", "-n", out, "route", "add", "10.88.0.0/16", "via",
            "203.0.113.1")
        assert " 0% packet loss" not in run(
            "ip", "netns", "exec", out, "ping", "-n", "-c1", "-W1", IP1,
            check=False)
        node.setup(nat=False)
        assert "masquerade" not in run(*node.in_net, "nft", "list",
                                       "ruleset")
    finally:
        run("ip", "netns", "del", out)
        node.setup(nat=True)


@pytest.mark.parametrize("args", [
    {"bridge": "br 0"}, {"bridge": "qvd7"}, {"bridge": "x" * 16},
    {"bridge": 'a";drop'}, {"gateway": "10.88.0.1"},
    {"gateway": "10.88.0.1/31"}, {"gateway": "10.88.0.1/7"},
    {"gateway": "10.88.0/16"}, {"gateway": "::1/64"}, {"dns": "dns.example"},
    {"dns": "1.1.1.1;"}, {"dns": "1.1.1.1 " * 5}, {"nat": "yes"},
    {"extra": 1}])
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
            "nsenter", "-t", pid, "-n", "ping", "-n", "-c1", "-W1", GATEWAY)
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
