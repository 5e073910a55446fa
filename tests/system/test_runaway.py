# SPDX-License-Identifier: GPL-3.0-or-later
"""Desktops that run away, and their neighbour: alice works in hers while
mallory's does its worst. It must be held by its own limits, seen in what the
kernel counts or refuses; each of the neighbour's X requests must be answered,
and its terminal must take what she types; and it must stop when it is told.

Round trips are compared by their medians, generously: machines that run
tests have other things to do, too."""

import contextlib
import pathlib
import re
import socket
import statistics
import struct
import time

import pytest
from qvdlab import Display, Farm, eventually, need, run
from qvdlab.desk import Desk
from qvdlab.util import processes

CGROUPS = pathlib.Path("/sys/fs/cgroup")
SAID = "/tmp/said"  # in the desktop

# What mallory types; each goes on for ever.
RUNAWAYS = {
    "processes": "exec perl -e 'fork while 1'",
    "memory": "while :; do perl -e 'push @a, \"x\" x 1048576 while 1'; done",
    "disk": f"while :; do dd if=/dev/zero of=full bs=1M 2>{SAID}; done",
    "packets": "exec perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 0); "
               "connect(S, sockaddr_in(9, inet_aton(\"10.88.0.1\"))); "
               "send(S, \"x\" x 64, 0) while 1'",
    "files": "ulimit -n 16384; exec perl -e 'fork; fork; while (1) { "
             "while (open(my $f, \"<\", \"/dev/null\")) { push @f, $f } "
             f"$why = $!; pop @f; open(S, \">\", \"{SAID}\"); "
             "print S $why; close S; select(undef, undef, undef, 0.01) }'",
}


class XLink:
    """A program of the neighbour's desktop: it asks the X server (nxagent)
    for something that must be answered, and counts the time."""

    def __init__(self, farm, vm):
        inside = set(pids(farm, vm))
        agent, args = next((p, a) for p, (_, a) in processes().items()
                           if p in inside and a and a[0].endswith("nxagent"))
        number = next(a for a in args if re.fullmatch(r":\d+", a))[1:]
        root = f"/proc/{agent}/root"
        cookie = pathlib.Path(
            root + args[args.index("-auth") + 1]).read_bytes()[-16:]
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(f"{root}/tmp/.X11-unix/X{number}")
        name = b"MIT-MAGIC-COOKIE-1"
        self.sock.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name),
                                      len(cookie)) + name + b"\0\0" + cookie)
        status, length = struct.unpack("<BxxxxxH", self.read(8))
        assert status == 1, self.read(length * 4)
        self.read(length * 4)

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            assert more, "nxagent hung up"
            data += more
        return data

    def round_trip(self):
        began = time.monotonic()
        self.sock.sendall(struct.pack("<BxH", 43, 1))  # GetInputFocus
        assert self.read(32)[0] == 1
        return time.monotonic() - began

    def median(self, n=200):
        return statistics.median(self.round_trip() for _ in range(n))


def group_files(farm, vm, name):
    """The file of the VM's cgroup in each hierarchy that has it."""
    tops = [CGROUPS, *(p for p in CGROUPS.iterdir() if p.is_dir())]
    found = [top / farm.id / "ct" / str(vm) / name for top in tops]
    return [p for p in found if p.exists()]


def pids(farm, vm):
    return [int(p) for f in group_files(farm, vm, "cgroup.procs")
            for p in f.read_text().split()]


class Runaway:
    """with Runaway(farm, kind): mallory is in a desktop of her own, and has
    started it. Leaving stops that desktop."""

    def __init__(self, farm, kind):
        self.farm, self.kind = farm, kind
        number = farm.one("SELECT count(*) FROM vms")
        self.vm = farm.add_vm("mallory", "demo", f"{kind}{number}")

    def __enter__(self):
        farm = self.farm
        farm.qvd("vm", "start", self.vm)
        farm.wait_vm(self.vm, state="running")
        pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", self.vm)
        self.root = pathlib.Path(f"/proc/{pid}/root")
        with contextlib.ExitStack() as stack:
            stack.callback(self.stop)
            screen = stack.enter_context(Display(farm))
            Desk(farm, screen, vm=self.vm, login="mallory",
                 home=self.root / "home/mallory")
            # By the desktop's root: the node's own has no id in there.
            run("nsenter", "-t", pid, "-m", "-U", "-r", "-w", "sh", "-c",
                "cat >/home/mallory/r", input=RUNAWAYS[self.kind] + "\n")
            screen.type("sh r")
            screen.key("Return")
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def stop(self):
        self.farm.qvd("vm", "stop", self.vm)
        self.farm.wait_vm(self.vm, state="stopped", timeout=120)
        self.farm.assert_clean(self.vm)

    def count(self, name, word):
        """A number of a file of its cgroup."""
        return sum(int(n) for f in group_files(self.farm, self.vm, name)
                   for n in re.findall(rf"^{word} (\d+)$", f.read_text(),
                                       re.MULTILINE))

    def was_told(self, text):
        said = self.root / SAID[1:]
        return said.exists() and text in said.read_text()

    def is_held(self):
        """Whether its limit was met, and held."""
        if self.kind == "processes":
            return self.count("pids.events", "max") > 0
        if self.kind == "memory":
            return self.count("memory.events", "oom_kill") + \
                self.count("memory.oom_control", "oom_kill") > 0
        if self.kind == "packets":
            rules = run(*self.farm.prefix, "nft", "list", "chain", "bridge",
                        "qvd", "vm")
            rate = next(x for x in rules.splitlines() if "@flood" in x)
            return int(re.search(r"counter packets (\d+)", rate)[1]) > 0
        return self.was_told({"disk": "No space left on device",
                              "files": "Too many open files"}[self.kind])


@pytest.fixture(scope="module")
def farm():
    """With a neighbour at work, and narrow limits for who comes after her."""
    need("root", "containers")
    with Farm(images=["demo"]) as farm:
        for user in ("alice", "mallory"):
            farm.add_user(user, "secret")
        # Even a slow machine can send as much.
        farm.qvd("config", "set", "vm.network.packets", "200")
        farm.vm = farm.add_vm("alice", "demo")
        with Display(farm) as screen:
            farm.neighbour = Desk(farm, screen)
            farm.x = XLink(farm, farm.vm)
            farm.qvd("osf", "set", "demo", "--memory", "256M", "--pids",
                     "200", "--home", "64M")
            yield farm
            farm.neighbour.close()


def assert_not_felt(farm, quiet):
    raging = farm.x.median()
    assert raging <= max(100 * quiet, 0.5), \
        f"a round trip took {quiet * 1000:.2f} ms, now {raging * 1000:.2f} ms"
    farm.neighbour.works()


@pytest.mark.parametrize("kind", RUNAWAYS)
def test_neighbour_works_on(farm, kind):
    quiet = farm.x.median()
    with Runaway(farm, kind) as wild:
        eventually(wild.is_held, 120, f"{kind}: its limit is met")
        assert_not_felt(farm, quiet)
    farm.neighbour.works()


@pytest.mark.long
def test_all_at_once(farm):
    """For a minute."""
    quiet = farm.x.median(2000)
    with contextlib.ExitStack() as stack:
        wild = [stack.enter_context(Runaway(farm, kind)) for kind in RUNAWAYS]
        for w in wild:
            eventually(w.is_held, 300, f"{w.kind}: its limit is met")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert_not_felt(farm, quiet)
