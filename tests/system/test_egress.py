# SPDX-License-Identifier: GPL-3.0-or-later
"""What desktops reach outside of their node: the policy that they were given,
its change while they run, the farm's resolver and no other, no cloud's
secrets, and not more than their share."""

import os
import subprocess
import sys
import time

import pytest
from netlab import GATEWAY, REACH, SOON, Net, Outside
from nodelab import Failed, Node, run
from qvdlab import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PUBLIC, PRIVATE, SERVER = "8.8.4.4", "192.168.7.1", "10.1.2.3"
RESOLVER, METADATA = "10.9.9.9", "169.254.169.254"
CLOUDS = [METADATA, "169.254.170.2", "100.100.100.200", "168.63.129.16",
          "192.0.0.192"]
PORTS = (53, 80, 445, 853, 8443)


@pytest.fixture(scope="module")
def net():
    with Node() as node:
        node.setup(nat=True, dns=RESOLVER)
        net = Net(node)
        # What a cloud has on its networks, here one hop beyond the node.
        net.outside = Outside(net, *(f"{a}/32" for a in [
            PUBLIC, PRIVATE, SERVER, RESOLVER, *CLOUDS]))
        try:
            with net.serve(net.outside.id, *PORTS):
                yield net
        finally:
            net.outside.close()


def policy(net, egress, vm=1, **more):
    net.node.ask("vm.network", vm_id=vm, address=f"10.88.0.{vm + 2}",
                 egress=egress, **more)


def reach(net, *addresses, vm=1):
    return net.reach(vm, *((a, p) for a in addresses for p in PORTS))


def test_usual_policy(net):
    """Of public addresses everything but DNS; DNS at the farm's resolver."""
    assert reach(net, PUBLIC, PRIVATE, SERVER, RESOLVER) == {
        (PUBLIC, 80), (PUBLIC, 445), (PUBLIC, 8443), (RESOLVER, 53)}
    assert net.ping(1, PUBLIC)
    assert net.ping(1, PUBLIC, "-s", "4000"), "in fragments"
    with net.serve(None, 53):
        assert net.reach(1, (GATEWAY, 53)) == set(), "it isn't the resolver"


def test_no_secrets_of_the_cloud(net):
    """Also not for who may reach everything else; nor what else is nobody's."""
    policy(net, "allow any")
    try:
        assert reach(net, *CLOUDS) == set()
        assert not any(net.ping(1, a) for a in CLOUDS[:2])
        assert reach(net, SERVER) == {(SERVER, 80), (SERVER, 445),
                                      (SERVER, 8443)}
        policy(net, f"allow {METADATA} tcp/80, allow 169.254.0.0/16")
        assert reach(net, METADATA) == set()
    finally:
        policy(net, "deny private, allow any")


def test_first_rule_that_fits(net):
    policy(net, f"allow {SERVER} tcp/445 tcp/8000-9000, deny {SERVER}, "
           "deny any icmp, allow 8.8.0.0/16 tcp/80")
    try:
        assert reach(net, PUBLIC, SERVER, PRIVATE, RESOLVER) == {
            (SERVER, 445), (SERVER, 8443), (PUBLIC, 80), (RESOLVER, 53)}
        assert not net.ping(1, PUBLIC)
        # The neighbour has its own.
        assert (PUBLIC, 445) in reach(net, PUBLIC, vm=2)
        policy(net, "deny any")
        assert reach(net, PUBLIC, SERVER, RESOLVER) == {(RESOLVER, 53)}
    finally:
        policy(net, "deny private, allow any")
    assert net.ping(1, PUBLIC)


def test_change_ends_connections(net):
    """What was open when it was allowed is cut when it isn't any more."""
    talk = subprocess.Popen(
        [*net.at(1), sys.executable, "-c", f"""
import socket, sys
s = socket.create_connection(('{PUBLIC}', 80), 5)
for line in sys.stdin:
    s.settimeout(float(line))
    s.send(b'x')
    try:
        print(len(s.recv(100)), flush=True)
    except TimeoutError:
        print('cut', flush=True)
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(seconds):
        talk.stdin.write(f"{seconds}\n")
        talk.stdin.flush()
        return talk.stdout.readline().strip()
    try:
        assert ask(20) == "1"
        policy(net, "allow any tcp/445")
        assert ask(1) == "cut"
        policy(net, "deny private, allow any")
        assert ask(20) != "cut", "and goes on when it is allowed again"
    finally:
        talk.kill()
        talk.communicate()
        policy(net, "deny private, allow any")


def flood(net, count, size, vm=1):
    """Sends so many datagrams at once; how much of it came outside, and how
    long it took."""
    before, begun = net.outside.received(), time.monotonic()
    net.do(vm, sys.executable, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
for i in range({count}):
    s.sendto(bytes({size}), ('{PUBLIC}', 9))
""")
    took = time.monotonic() - begun
    after = net.outside.received()
    return [b - a for a, b in zip(before, after)] + [took]


def test_rate(net):
    sent = 2000 * 1400
    _, came, _ = flood(net, 2000, 1400)
    assert came > sent
    policy(net, "allow any", rate_kbit=800)
    try:
        _, came, took = flood(net, 2000, 1400)
        assert came < 128 * 1024 + 100_000 * took + 20_000
        assert net.ping(1, PUBLIC) or net.ping(1, PUBLIC)
        # Only who has a rate; and it can be another at once.
        _, came, _ = flood(net, 2000, 1400, vm=2)
        assert came > sent
        policy(net, "allow any", rate_kbit=8000)
        _, came, took = flood(net, 2000, 1400)
        assert came < 1_000_000 * (1 + took) + 20_000
        policy(net, "allow any", rate_kbit=0)
        _, came, _ = flood(net, 2000, 1400)
        assert came > sent
    finally:
        policy(net, "deny private, allow any")


def test_packet_flood(net):
    node = net.node
    node.setup(nat=True, dns=RESOLVER, packets=1000)
    try:
        came, _, took = flood(net, 10000, 1)
        assert came < 501 + 1000 * took + 50
        assert net.ping(2, PUBLIC)
        # The address resolution is also in the limit, and comes back.
        assert any(net.ping(1, PUBLIC) for _ in range(5))
    finally:
        node.setup(nat=True, dns=RESOLVER)
    came, _, _ = flood(net, 5000, 1)
    assert came >= 5000


def test_no_more_connections_than_its_share(net):
    """The node's table of connections is for all: one desktop that would fill
    it takes a part, and the neighbour has hers."""
    def open_to(vm, count):
        before = net.outside.received()[0]
        net.do(vm, sys.executable, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(10000, 10000 + {count}):
    s.sendto(b'x', ('{PUBLIC}', port))
""")
        return net.outside.received()[0] - before
    net.do(None, "sh", "-c", "echo 3600 > "
           "/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
    # Its address resolution may be among them, its other connections are
    # counted, too.
    assert 3900 < open_to(1, 6000) < 4050
    assert open_to(1, 500) < 50
    assert open_to(2, 500) >= 500
    # What ends makes room again.
    net.node.ask("vm.stop", vm_id=1, grace_ms=0)
    net.node.ask("vm.clean", vm_id=1)
    assert "10.88.0.3" not in net.do(None, "nft", "list", "ruleset")
    net.pids[1] = net.node.vm(1, net.checksum)[0]["pid"]
    assert open_to(1, 500) >= 500


def test_policy_goes_with_its_desktop(net):
    """Start, a new helper, adoption, cleaning: its chain is there as long as
    the desktop is, and what it had no word about is forbidden."""
    node = net.node
    node.vm(3, net.checksum, egress=f"allow {SERVER} tcp/80", rate_kbit=9000)
    net.pids[3] = node.ask("vm.adopt", vm_id=3, address="10.88.0.5",
                           egress=f"allow {SERVER} tcp/80",
                           rate_kbit=9000)["pid"]
    try:
        assert reach(net, SERVER, PUBLIC, vm=3) == {(SERVER, 80)}
        node.kill()
        node.start()
        node.setup(nat=True, dns=RESOLVER)
        assert reach(net, SERVER, PUBLIC, vm=3) == {(SERVER, 80)}
        node.ask("vm.adopt", vm_id=3, address="10.88.0.5",
                 egress="allow any tcp/445")
        assert reach(net, SERVER, PUBLIC, vm=3) == {(SERVER, 445),
                                                    (PUBLIC, 445)}
        # As for one whose chain is not (yet) there.
        net.do(None, "nft", "delete", "element", "inet", "qvd", "egress4",
               "{ 10.88.0.5 : goto e3 }")
        assert reach(net, SERVER, PUBLIC, vm=3) == set()
    finally:
        node.ask("vm.stop", vm_id=3, grace_ms=0)
        node.ask("vm.clean", vm_id=3)
    rules = net.do(None, "nft", "list", "ruleset")
    assert "e3 {" not in rules and "r3 {" not in rules and "qvd3" not in rules
    assert "e1 {" in rules
    with pytest.raises(Failed) as e:
        policy(net, "allow any", vm=3)
    assert e.value.id == "not-found"


@pytest.mark.parametrize("args", [
    {"egress": ""}, {"egress": "allow any; drop"}, {"egress": "allow"},
    {"egress": "allow 10.0.0.1/8"}, {"egress": "x" * 5000},
    {"egress": "allow any }\nflush ruleset"}, {"rate_kbit": -1},
    {"egress": "\n".join(["deny any"] * 101)}])
def test_wrong_policy_is_refused(net, args):
    before = net.do(None, "nft", "-s", "list", "table", "inet", "qvd")
    with pytest.raises(Failed) as e:
        policy(net, **{"egress": "allow any", **args})
    assert e.value.id == "bad-parameter", e.value
    assert net.do(None, "nft", "-s", "list", "table", "inet", "qvd") == before
    assert net.ping(1, PUBLIC)


def chain(farm, vm):
    """The policy that the firewall holds the VM to."""
    out = run(*farm.prefix, "nft", "-s", "list", "chain", "inet", "qvd",
              f"e{vm}")
    return [line.strip() for line in out.splitlines()[2:-2]]


def test_rows_become_rules(busybox_farm):
    """OSF, tenant, farm: whoever of them says something; while it runs, and
    through a restart of the house-keeper."""
    farm = busybox_farm
    vm = farm.add_vm("alice", "busybox")
    farm.qvd("vm", "start", "alice/desk")
    assert chain(farm, vm)[0].endswith("counter drop")  # private networks
    assert chain(farm, vm)[-2] == "accept"

    def becomes(first):
        eventually(lambda: chain(farm, vm)[0] == first, 20,
                   lambda: chain(farm, vm))
    farm.qvd("config", "set", "vm.network.egress", "allow 10.1.0.0/16 tcp")
    becomes("ip daddr 10.1.0.0/16 meta l4proto tcp accept")
    farm.qvd("tenant", "set", "default", "--egress", "allow 10.2.0.0/16",
             "--egress-rate", "5000")
    becomes("ip daddr 10.2.0.0/16 accept")
    assert "rate over 625000 bytes/second" in run(
        *farm.prefix, "nft", "list", "limits")
    farm.qvd("osf", "set", "busybox", "--egress", "allow 10.3.0.0/16",
             "--egress-rate", "0")
    becomes("ip daddr 10.3.0.0/16 accept")
    assert "rate over" not in run(*farm.prefix, "nft", "list", "limits")
    farm.wait_event("vm.network-changed", vm, 3)  # written after the rules
    assert farm.event_names(vm).count("vm.network-changed") == 3
    assert farm.qvd("osf", "show", "busybox", json=True)["egress"] \
        == "allow 10.3.0.0/16"
    # Changed while nobody looks.
    farm.kill("qvd-hkd")
    farm.qvd("osf", "set", "busybox", "--egress", "allow 10.4.0.0/16")
    farm.wait_event("vm.adopted", vm)
    becomes("ip daddr 10.4.0.0/16 accept")
    # Nothing of their own any more.
    farm.qvd("osf", "set", "busybox", "--egress", "", "--egress-rate", "-1")
    becomes("ip daddr 10.2.0.0/16 accept")
    farm.qvd("tenant", "set", "default", "--egress", "")
    becomes("ip daddr 10.1.0.0/16 meta l4proto tcp accept")
    farm.qvd("config", "unset", "vm.network.egress")
    eventually(lambda: chain(farm, vm)[-2] == "accept")
    for args in (("osf", "set", "busybox", "--egress", "allow all"),
                 ("tenant", "set", "default", "--egress", "allow any tcp/x"),
                 ("config", "set", "vm.network.egress", "")):
        done = farm.qvd(*args, check=False)
        assert done.status == 18 and "egress" in done.err, done
    farm.qvd("vm", "stop", "alice/desk")
    farm.assert_clean(vm)
    assert f"e{vm} " not in run(*farm.prefix, "nft", "list", "ruleset")


def test_ipv6_when_the_farm_says_so(busybox_farm):
    farm = busybox_farm
    vm = farm.add_vm("alice", "busybox")
    farm.qvd("config", "set", "vm.network.gateway6", "fd00:5::1/64")
    eventually(lambda: "fd00:5::1" in run(*farm.prefix, "ip", "-6", "addr"))
    farm.qvd("vm", "start", "alice/desk")
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
    assert "inet6 fd00:5::a58:100/64" in run(
        "nsenter", "-t", pid, "-n", "ip", "-6", "addr")
    eventually(lambda: " 0% packet loss" in run(
        "nsenter", "-t", pid, "-n", "ping", "-n", "-c1", "-W1", "fd00:5::1",
        check=False))
    farm.qvd("vm", "stop", "alice/desk")
    farm.assert_clean(vm)


def test_no_way_to_the_router(busybox_farm):
    """The real one: its port is open on every address of the node, and to no
    desktop of it, whatever their policy says."""
    farm = busybox_farm
    farm.qvd("config", "set", "vm.network.gateway6", "fd00:5::1/64")
    farm.qvd("config", "set", "vm.network.egress", "allow any")
    eventually(lambda: "fd00:5::1" in run(*farm.prefix, "ip", "-6", "addr"))
    vm = farm.add_vm("alice", "busybox")
    farm.qvd("vm", "start", vm)
    for address in ("192.0.2.7/32", "fd00:99::7/128"):
        run(*farm.prefix, "ip", "addr", "add", address, "dev", "lo")
    gateway = farm.one("SELECT host(network(set_masklen(address, 16)) + 1) "
                       "FROM vms WHERE id = %s", vm)
    targets = [f"{a} {farm.port}" for a in (
        gateway, "fd00:5::1", "192.0.2.7", "fd00:99::7")]

    def reach(prefix):
        return run(*prefix, sys.executable, "-c",
                   REACH.replace("WAIT", str(2 * SOON)), *targets)
    # Also that each address is a listening one.
    assert sorted(reach(farm.prefix).splitlines()) == sorted(targets)
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
    inside = ["nsenter", "-t", pid, "-n"]
    eventually(lambda: " 0% packet loss" in run(
        *inside, "ping", "-n", "-c1", "-W1", gateway, check=False))
    assert reach(inside) == ""
    farm.qvd("vm", "stop", vm)
    farm.assert_clean(vm)
