# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything in attacks.py, from a container's port and from a virtual
machine's. The last tests take the rules away, and see that then all of it
gets through: so it is the rules that hold it."""

import json
import os

import attacks
import packets
import pytest
from netlab import MAC2, Net, Outside
from nodelab import Node, eventually, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SETUP = {"nat": True, "gateway6": "fd00:88::1/64"}
# Behind all rules of ours: the numbers of what gets there.
PROBE = """
table inet probe {
    set in4 { typeof ip id; flags dynamic; size 65535; }
    set in6 { typeof @nh,16,16; flags dynamic; size 65535; }
    set on4 { typeof ip id; flags dynamic; size 65535; }
    set on6 { typeof @nh,16,16; flags dynamic; size 65535; }
    chain input {
        type filter hook input priority 300;
        iifname lo return
        add @in4 { ip id }
        meta nfproto ipv6 add @in6 { @nh,16,16 }
    }
    chain forward {
        type filter hook forward priority 300;
        add @on4 { ip id }
        meta nfproto ipv6 add @on6 { @nh,16,16 }
    }
}
"""
# Listens to the groups to which names are asked for, as a node may.
LISTEN = f"""
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
             socket.inet_aton('{attacks.MDNS}') + socket.inet_aton(
             '10.88.0.1'))
t = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
t.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(
    socket.AF_INET6, '{attacks.MDNS6}') + struct.pack(
    '@I', socket.if_nametoindex('qvdnet0')))
print('ready', flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def net():
    with Node() as node:
        node.setup(**SETUP)
        net = Net(node)
        for address in (attacks.SELF, attacks.SELF6):
            run("ip", "-n", node.id, "addr", "add", address, "dev", "lo")
        run(*node.in_net, "nft", PROBE)
        out = Outside(net)
        try:
            with net.tap(3), net.program(None, "-c", LISTEN):
                yield net
        finally:
            out.close()


@pytest.fixture(params=[1, 3], ids=["veth", "tap"])
def desktop(request):
    return attacks.Desktop(request.param)


@pytest.fixture
def open_net(net):
    """Without the rules, and without the second lock. The bridge is told
    where the neighbour is, or it would believe the frames in its name, and
    to learn of no groups."""
    flush = "".join(f"flush chain {chain};" for chain in (
        "bridge qvd pre", "bridge qvd vmfwd", "bridge qvd vmport",
        "inet qvd input", "inet qvd forward"))
    source = "/proc/sys/net/ipv4/conf/*/accept_source_route"

    def ports(word):
        for vm in (1, 2, 3):
            run("ip", "-n", net.node.id, "link", "set", f"qvd{vm}", "type",
                "bridge_slave", "isolated", word)
    run(*net.node.in_net, "nft", flush)
    net.do(None, "sh", "-c", f"for f in {source}; do echo 1 >$f; done")
    def learn(word):
        run("ip", "-n", net.node.id, "link", "set", "qvdnet0", "type",
            "bridge", "mcast_snooping", word)
    ports("off")
    learn("0")
    fdb = "bridge", "-n", net.node.id, "fdb"
    run(*fdb, "replace", MAC2, "dev", "qvd2", "master", "static", "sticky")
    yield net
    run(*fdb, "del", MAC2, "dev", "qvd2", "master")
    learn("1")
    ports("on")
    net.do(None, "sh", "-c", f"for f in {source}; do echo 0 >$f; done")
    net.node.setup(**SETUP)


def seen(net, *sets):
    found = set()
    for name in sets:
        out = json.loads(net.do(None, "nft", "-j", "list", "set", "inet",
                                "probe", name))["nftables"][1]["set"]
        found |= {int(n) for n in out.get("elem", [])}
    return found


def get_through(net, sent, *sets):
    """The names of those of the packets that came to the probe."""
    for name in ("in4", "in6", "on4", "on6"):
        net.do(None, "nft", "flush", "set", "inet", "probe", name)
    last = attacks.Packets(sent.d, 65000)
    last.v4("last", attacks.GATEWAY, 17, packets.udp(5, 53, b"x"))
    net.send(sent.d.vm, sent.frames + last.frames)
    eventually(lambda: 65000 in seen(net, "in4"), 20)
    return {sent.names[n] for n in seen(net, *sets) if n in sent.names}


def to_two(frame):
    """The same frame, to the neighbour if it is to one."""
    return frame if frame[0] & 1 else packets.mac(MAC2) + frame[6:]


def aimed(desktop, target):
    return {name: to_two(f) if target else f
            for name, f in attacks.frames(desktop).items()}


def test_what_is_allowed(net, desktop):
    sent = attacks.allowed(desktop)
    assert get_through(net, sent, "in4", "in6", "on4", "on6") \
        == set(sent.names.values())


@pytest.mark.parametrize("target", [None, 2], ids=["node", "neighbour"])
def test_no_such_frame(net, desktop, target):
    table = aimed(desktop, target)
    came = net.that_arrive(list(table.values()), desktop.vm, target)
    assert not [name for name, f in table.items() if f in came]
    for vm in (None, 2):
        for what in ("addr", "route"):
            assert "2001:db8:bad" not in net.do(vm, "ip", "-6", what)


def test_nothing_for_listeners_on_the_port(net, desktop):
    """A program of the node that listens to one kind of frames, on whatever
    link (LLDP, 802.1X), hears no desktop."""
    table = attacks.links(desktop)
    with net.program(None, "-c", f"""
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88cc))
s.bind(('qvd{desktop.vm}', 0x88cc))
print('ready', flush=True)
sys.stdin.readline()
s.setblocking(False)
try:
    print(s.recv(9000).hex(), flush=True)
except BlockingIOError:
    print('nothing', flush=True)
""") as listener:
        get_through(net, attacks.Packets(desktop, 1), "in4")
        net.send(desktop.vm, list(table.values()))
        get_through(net, attacks.Packets(desktop, 1), "in4")
        listener.stdin.write("\n")
        listener.stdin.flush()
        assert listener.stdout.readline() == "nothing\n"


@pytest.mark.parametrize("direct", [False, True], ids=["routed", "direct"])
def test_nothing_to_the_neighbour(net, desktop, direct):
    sent = attacks.to_neighbour(desktop)
    if direct:
        frames = [to_two(f) for f in sent.frames]
        assert net.that_arrive(frames, desktop.vm, 2) == []
    else:
        assert get_through(net, sent, "in4", "in6", "on4", "on6") == set()


def test_nothing_to_the_node(net, desktop):
    assert get_through(net, attacks.to_node(desktop), "in4", "in6") == set()


def test_nothing_to_closed_addresses(net, desktop):
    assert get_through(net, attacks.to_world(desktop), "on4", "on6") == set()


def test_frames_pass_without_the_rules(open_net, desktop):
    for target in (None, 2):
        table = aimed(desktop, target)
        came = open_net.that_arrive(list(table.values()), desktop.vm, target)
        assert {name for name, f in table.items() if f not in came} \
            == attacks.REFUSED


def test_packets_pass_without_the_rules(open_net, desktop):
    run("ip", "-n", open_net.node.id, "link", "set", f"qvd{desktop.vm}",
        "type", "bridge_slave", "group_fwd_mask", "0")
    for sent, sets in ((attacks.to_node(desktop), ("in4", "in6")),
                       (attacks.to_neighbour(desktop), ("on4", "on6")),
                       (attacks.to_world(desktop), ("on4", "on6"))):
        came = get_through(open_net, sent, *sets)
        assert set(sent.names.values()) - came == set()
    run("ip", "-n", open_net.node.id, "link", "set", f"qvd{desktop.vm}",
        "type", "bridge_slave", "group_fwd_mask", "0xfffd")
