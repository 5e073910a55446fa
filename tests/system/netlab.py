# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with two desktops whose network is attacked with real frames: each
is at 10.88.0.<its id + 2>, and a spoofer in its network namespace is as
mighty as root in it."""

import contextlib
import json
import pathlib
import subprocess
import sys
import uuid

import packets
from nodelab import run
from qvdlab.util import SLOW

PACKETS = pathlib.Path(packets.__file__)
# Seconds to wait for what may well not come: a fraction of what else is waited
# for, because most tests here want that it doesn't.
SOON = max(1, SLOW // 3)
GATEWAY, IP1, IP2 = "10.88.0.1", "10.88.0.3", "10.88.0.4"
MAC0, MAC1, MAC2 = (f"54:52:00:58:00:0{n}" for n in (1, 3, 4))
OTHER = "54:52:00:aa:bb:cc"
# With gateway6 = fd00:88::1/64.
GATEWAY6, A1, A2 = (f"fd00:88::{end}" for end in ("1", "a58:3", "a58:4"))
LOCAL1, LOCAL2 = (f"fe80::5652:ff:fe58:{n}" for n in (3, 4))

# Connects to each "ADDRESS PORT", all at once, and prints those it reached.
REACH = r"""
import socket, sys, threading
def reach(address, port):
    try:
        socket.create_connection((address, int(port)), WAIT).close()
        sys.stdout.write(f'{address} {port}\n')
    except OSError:
        pass
todo = [threading.Thread(target=reach, args=a.split()) for a in sys.argv[1:]]
[t.start() for t in todo]
[t.join() for t in todo]
"""
# Listens on those ports, on all addresses, echoes on TCP, and says "ready".
SERVE = """
import socket, sys, threading
def echo(c):
    try:
        while data := c.recv(65536):
            c.sendall(data)
    except OSError:
        pass
def serve(s):
    while True:
        threading.Thread(target=echo, args=(s.accept()[0],),
                         daemon=True).start()
todo = []
for port in sys.argv[1:]:
    s = socket.create_server(('::', int(port)), family=socket.AF_INET6,
                             dualstack_ipv6=True)
    todo.append(threading.Thread(target=serve, args=(s,), daemon=True))
[t.start() for t in todo]
print('ready', flush=True)
sys.stdin.read()
"""


class Net:
    def __init__(self, node, **more):
        self.node = node
        self.checksum = node.image()
        self.pids = {vm: node.vm(vm, self.checksum, **more)[0]["pid"]
                     for vm in (1, 2)}
        self.taps = {}

    def at(self, where):
        """Prefix of a command that is to run in a VM's network, in the
        node's (None), or in the namespace of that name."""
        if where is None:
            return self.node.in_net
        if isinstance(where, str):
            return ["ip", "netns", "exec", where]
        return ["nsenter", "-t", str(self.pids[where]), "-n"]

    def iface(self, where):
        return "qvdnet0" if where is None else "eth0"

    def do(self, where, *argv, check=True):
        return run(*self.at(where), *argv, check=check)

    def ping(self, where, address, *options):
        return " 0% packet loss" in self.do(
            where, "ping", "-n", "-c1", f"-W{SOON}", *options, address,
            check=False)

    @contextlib.contextmanager
    def tap(self, vm):
        """A further desktop, whose port is a tap as a virtual machine's has
        it (src/confine/tap.c); what is sent from it goes in there."""
        node, port = self.node, f"qvd{vm}"
        node.vm(vm, self.checksum)
        run("ip", "-n", node.id, "link", "del", port)
        with self.program(None, PACKETS, "tap", port) as self.taps[vm]:
            run("ip", "-n", node.id, "link", "set", port, "master", "qvdnet0")
            run("ip", "-n", node.id, "link", "set", port, "type",
                "bridge_slave", "isolated", "on", "group_fwd_mask", "0xfffd")
            run("ip", "-n", node.id, "link", "set", port, "up")
            yield
        del self.taps[vm]
        node.ask("vm.stop", vm_id=vm, grace_ms=0)
        node.ask("vm.clean", vm_id=vm)

    def send(self, where, frames, iface=None):
        if where in self.taps:
            for frame in frames:
                self.taps[where].stdin.write(frame.hex() + "\n")
                self.taps[where].stdin.flush()
                assert self.taps[where].stdout.readline() == "sent\n"
            return
        subprocess.run(
            [*self.at(where), sys.executable, PACKETS, "send",
             iface or self.iface(where)], check=True, text=True,
            input="".join(f.hex() + "\n" for f in frames))

    @contextlib.contextmanager
    def program(self, where, *argv):
        """A program in that network, once it has said that it is ready."""
        proc = subprocess.Popen(
            [*self.at(where), sys.executable, *argv], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert proc.stdout.readline() == "ready\n"
            yield proc
        finally:
            proc.kill()
            proc.wait()
            proc.stdin.close()
            proc.stdout.close()

    def that_arrive(self, frames, source, target):
        """Sends frames from a VM; those that come out at the target, another
        VM or the node. A frame that certainly arrives tells that all others
        would have."""
        if target is None:
            last = source, packets.arp(f"54:52:00:58:00:0{source + 2}",
                                       f"10.88.0.{source + 2}", "10.88.99.99")
        else:
            last = None, packets.eth(packets.BROADCAST, MAC0, 0x88b5,
                                     uuid.uuid4().bytes * 4)
        with self.program(target, PACKETS, "sniff", self.iface(target),
                          last[1].hex()) as sniff:
            self.send(source, frames)
            self.send(last[0], [last[1]])
            came = sniff.stdout.read().split()
            assert sniff.wait() == 0, "the marker did not come"
        return [f for f in frames if f.hex() in came]

    def arrives(self, frame, source, target):
        return self.that_arrive([frame], source, target) != []

    def tcp(self, source, target, address, port=9999):
        """Listens in one place and connects from another."""
        with self.serve(target, port):
            return self.reach(source, (address, port)) != set()

    def serve(self, where, *ports):
        return self.program(where, "-c", SERVE, *(str(p) for p in ports))

    def reach(self, source, *targets):
        """Those of the (address, port) that a connection reaches."""
        out = self.do(source, sys.executable, "-c",
                      REACH.replace("WAIT", str(2 * SOON)),
                      *(f"{a} {p}" for a, p in targets))
        return {(a, int(p)) for a, p in
                (line.split() for line in out.splitlines())}


class Outside:
    """The world beyond the node: a namespace of its own that has whatever
    address is asked for, and to which the node sends everything."""

    def __init__(self, net, *addresses):
        self.net, self.id = net, f"o{uuid.uuid4().hex[:8]}"
        node = net.node.id
        run("ip", "netns", "add", self.id)
        run("ip", "-n", node, "link", "add", "up0", "type", "veth", "peer",
            "name", "up0", "netns", self.id)
        for ns, mine in ((node, ["203.0.113.1/24", "2001:db8:1::1/64"]),
                         (self.id, ["203.0.113.2/24", "2001:db8:1::2/64",
                                    *addresses])):
            for a in mine:
                run("ip", "-n", ns, "addr", "add", a, "dev", "up0",
                    *(["nodad"] if ":" in a else []))
            run("ip", "-n", ns, "link", "set", "up0", "up")
        for via in ("203.0.113.2", "2001:db8:1::2"):
            run("ip", "-n", node, "route", "add", "default", "via", via)
        # For where the node doesn't hide desktops behind its own address.
        run("ip", "-n", self.id, "route", "add", "10.88.0.0/16", "via",
            "203.0.113.1")

    def received(self):
        """(packets, bytes) so far."""
        out = run("ip", "-n", self.id, "-j", "-s", "link", "show", "up0")
        rx = json.loads(out)[0]["stats64"]["rx"]
        return rx["packets"], rx["bytes"]

    def close(self):
        # A namespace goes some time after its name.
        run("ip", "-n", self.net.node.id, "link", "del", "up0")
        run("ip", "netns", "del", self.id)
