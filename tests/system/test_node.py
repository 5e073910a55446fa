# SPDX-License-Identifier: GPL-3.0-or-later
"""A desktop's life on a node: start, adoption, stop, clean, and what hostile
or unlucky ones do. Real containers; the agent is a stand-in."""

import contextlib
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import time

import pytest
from nodelab import UNIFIED, Failed, Node, eventually, run
from qvdlab.util import SLOW

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def shared():
    """One node for tests that leave it as it was."""
    with Node() as node:
        node.setup()
        node.default = node.image()
        yield node


@pytest.fixture
def node(shared):
    yield shared
    shared.remove_vms()


def ended(pidfd, timeout):
    return bool(select.select([pidfd], [], [], timeout * SLOW)[0])


def status(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return line.split()[1]
    return None


def fails(node, op, **args):
    with pytest.raises(Failed) as e:
        node.ask(op, **args)
    return e.value


def test_life(node):
    run_, pidfd = node.vm(1, node.default)
    assert run_["epoch"] == 1 and run_["start_time"] > 0
    assert set(run_["phases"]) == {"mounts", "config", "container", "verify"}
    assert not ended(pidfd, 0)
    with node.connect(1) as s:
        assert s.recv(100) == b"tiny vm1 uid 0\n"
    assert node.ask("vm.list")["vms"] == [1]
    node.ask("vm.stop", vm_id=1, grace_ms=5000)
    assert ended(pidfd, 0)
    removed = node.ask("vm.clean", vm_id=1)["removed"]
    assert "firewall elements" in removed
    assert not node.left(1)
    assert node.ask("vm.clean", vm_id=1)["removed"] == []
    assert node.ask("vm.list")["vms"] == []


def test_confined_process(node):
    pid = node.vm(1, node.default, idmap_slot=3)[0]["pid"]
    assert status(pid, "Uid") == str(100000 + 3 * 65536)
    assert status(pid, "NoNewPrivs") == "1"
    assert status(pid, "Seccomp") == "2"
    bounding = int(status(pid, "CapBnd"), 16)
    for name, bit in (("sys_admin", 21), ("net_admin", 12), ("net_raw", 13),
                      ("mknod", 27), ("sys_module", 16), ("sys_ptrace", 19),
                      ("sys_boot", 22), ("sys_rawio", 17)):
        assert not bounding >> bit & 1, name


def test_limits_are_the_kernels(node):
    node.vm(1, node.default, memory_mb=96, swap_mb=32, cpu_percent=50,
            cpu_weight=200, pids_max=40)
    limits = node.ask("vm.limits", vm_id=1)
    limits.pop("io_weight")
    assert limits == {
        "memory_mb": 96, "swap_mb": 32, "cpu_percent": 50, "cpu_weight": 200,
        "pids_max": 40}
    node.vm(2, node.default)
    limits = node.ask("vm.limits", vm_id=2)
    limits.pop("io_weight")
    assert limits == {
        "memory_mb": 64, "swap_mb": 0, "cpu_percent": -1, "cpu_weight": 100,
        "pids_max": 64}


def io_weights(node, vm_id):
    """What the kernel has for it: {file: weight}."""
    return {f: (d / f).read_text().split()[-1]
            for d in node.groups() if d.parts[-2:] == ("ct", str(vm_id))
            for f in ("io.weight", "io.bfq.weight", "blkio.bfq.weight")
            if (d / f).exists()}


def test_io_weight(node):
    """Where the kernel weighs I/O it does so as told; where it doesn't, only
    what nobody asked for starts."""
    node.vm(1, node.default)
    usual = io_weights(node, 1)
    assert set(usual.values()) <= {"100"}
    assert node.ask("vm.limits", vm_id=1)["io_weight"] == \
        (100 if usual else -1)
    if usual:
        node.vm(2, node.default, io_weight=250)
        assert set(io_weights(node, 2).values()) == {"250"}
        assert node.ask("vm.limits", vm_id=2)["io_weight"] == 250
    else:
        e = fails(node, "vm.start",
                  **node.spec(2, node.default, io_weight=250))
        assert e.id == "configuration" and "bfq" in e.message
        assert not node.left(2)


def test_devices_by_name(node):
    """What the policy names and the node has, for every user of the desktop;
    nothing else, and no path."""
    def fails_with(devices):
        e = fails(node, "vm.start",
                  **node.spec(1, node.default, devices=devices))
        assert not node.left(1)
        return e

    for bad in ("/dev/tun", "../net/tun", "vda", "tun /dev/vda"):
        e = fails_with(bad)
        assert e.id == "bad-parameter" and "kvm, tun and render" in e.message
    if not pathlib.Path("/dev/kvm").exists():
        e = fails_with("kvm")
        assert e.id == "configuration" and "no /dev/kvm" in e.message
    pid = node.vm(1, node.default)[0]["pid"]
    box = "/bin/busybox"
    usual = set(node.inside(pid, box, "ls", "/dev").split())
    assert not usual & {"net", "kvm", "dri", "fuse"}, usual
    tun = pathlib.Path("/dev/net/tun")
    if not tun.exists():
        assert fails_with("tun").id == "conflict"  # it runs
        return
    pid = node.vm(2, node.default, devices="tun", idmap_slot=2)[0]["pid"]
    assert set(node.inside(pid, box, "ls", "/dev").split()) == \
        usual | {"net"}
    assert node.inside(pid, box, "stat", "-c", "%t:%T %a %u",
                       "/dev/net/tun") == "a:c8 666 0\n"
    said = node.inside(pid, box, "unshare", "-n", box, "tunctl", "-t", "t0")
    assert "t0" in said, said
    # The desktop's root changes its own only.
    before = tun.stat().st_mode
    node.inside(pid, box, "chmod", "600", "/dev/net/tun")
    assert tun.stat().st_mode == before


def test_limits_of_a_user(node):
    """What no cgroup counts, and who may change it: not the desktop's root."""
    pid = node.vm(1, node.default)[0]["pid"]
    box, path = "/bin/busybox", "/proc/sys/user/max_inotify_instances"
    theirs = [int(node.inside(pid, box, "cat", p)) for p in (
        path, "/proc/sys/user/max_inotify_watches",
        "/proc/sys/user/max_net_namespaces")]
    assert theirs == [100, 65536, 64]
    said = node.inside(pid, box, "sh", "-c", f"echo 5000 >{path}",
                       check=False)
    assert "Read-only" in said, said
    assert node.inside(pid, box, "cat", path) == "100\n"
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    files = next(x for x in limits.splitlines() if "open files" in x)
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert files.split()[3:5] == [
        str(min(x, own)) for x in (1024, 524288)]


def test_fork_bomb_ends_at_its_limit(node):
    bomb = node.image("run while :; do sleep 100 & done", image_id=2)
    node.vm(1, bomb, pids_max=40)
    current = node.group_file(1, "pids.current")
    eventually(lambda: int(current.read_text()) >= 38)
    # The kernel has refused it one more.
    refused = current.with_name("pids.events")
    eventually(lambda: refused.read_text() != "max 0\n")
    assert int(current.read_text()) <= 40
    start = time.monotonic()
    node.ask("vm.stop", vm_id=1, grace_ms=200)
    node.ask("vm.clean", vm_id=1)
    assert time.monotonic() - start < 60
    assert not node.left(1)


def oom_kills(node, vm_id):
    """How many of its processes the kernel has killed for their memory."""
    for name in ("memory.events", "memory.oom_control"):  # v2, v1
        with contextlib.suppress(StopIteration):
            text = node.group_file(vm_id, name).read_text()
            return int(re.search(r"^oom_kill (\d+)$", text, re.M)[1])
    return 0


def test_memory_hog_dies_alone(node):
    hog = node.image("run x=0123456789abcdef; while :; do x=$x$x; done",
                     image_id=3)
    _, pidfd = node.vm(1, hog, memory_mb=32)
    _, other = node.vm(2, node.default)
    eventually(lambda: ended(pidfd, 0) or oom_kills(node, 1) > 0, 20)
    assert not ended(other, 0) and oom_kills(node, 2) == 0


def test_root_persistent_volatile_and_home(node):
    write = node.image("run echo once >>/var/mark; echo once >>/home/mark",
                       image_id=4)

    def marks(**more):
        pid = node.vm(1, write, **more)[0]["pid"]
        root = pathlib.Path(f"/proc/{pid}/root")

        def look():
            return [len((root / d / "mark").read_text().split())
                    if (root / d / "mark").exists() else 0
                    for d in ("var", "home")]
        eventually(lambda: look()[1] > home)
        time.sleep(0.05)
        found = look()
        node.ask("vm.stop", vm_id=1, grace_ms=1000)
        node.ask("vm.clean", vm_id=1)
        return found
    home = 0
    assert marks() == [1, 1]
    home = 1
    assert marks() == [2, 2]
    home = 2
    assert marks(volatile=True) == [1, 3]
    home = 3
    assert marks(volatile=True) == [1, 4]
    assert not (node.data / "vms/1/volatile").exists()
    home = 4
    assert marks() == [3, 5]
    mark = node.data / "homes/1/mark"
    assert mark.stat().st_uid == 0, "the home has the desktop's own ids"


def test_image_is_never_changed(node):
    wreck = node.image("run rm -rf /etc/passwd /bin/ls; echo x >>/etc/tiny; "
                       "chmod 777 /etc; mkdir /done", image_id=5)
    tree = node.data / "images/trees" / wreck
    before = run("find", tree, "-printf", "%P %m %U %s %T@\n")
    pid = node.vm(1, wreck)[0]["pid"]
    eventually(pathlib.Path(f"/proc/{pid}/root/done").exists)
    assert run("find", tree, "-printf", "%P %m %U %s %T@\n") == before
    node.ask("image.verify", checksum=wreck)


def test_mounting_is_refused_inside(node):
    refuse = node.image(
        "run for c in 'mount -t tmpfs t /tmp' 'mount -t proc p /tmp' "
        "'mknod /tmp/n c 1 3' 'unshare -U mount -t tmpfs t /tmp' "
        "'mount -o remount,rw /sys' 'umount /proc' 'ip addr add 10.88.9.9/16 "
        "dev eth0' 'hostname evil'; do $c 2>/dev/null && echo \"$c\" "
        ">>/home/did; done; echo >/home/end", image_id=6)
    node.vm(1, refuse)
    home = node.data / "homes/1"
    (home / "did").unlink(missing_ok=True)
    eventually((home / "end").exists)
    assert not (home / "did").exists(), (home / "did").read_text()


def test_start_is_refused(node):
    spec = node.spec(1, node.default)

    def bad(**more):
        e = fails(node, "vm.start", **{**spec, **more})
        assert e.id == "bad-parameter", e
        return e.message
    bad(vm_id=0)
    bad(vm_id=10 ** 12)
    bad(vm_id="1")
    bad(hostname="a b")
    bad(hostname="-x")
    bad(hostname="x" * 64)
    bad(hostname="../x")
    bad(checksum="0" * 63)
    bad(checksum="../" + "0" * 61)
    bad(address="10.99.0.2")
    bad(address="10.88.0.1")
    bad(address="10.88.255.255")
    bad(address="10.88.0.2/8")
    bad(idmap_slot=1000)
    bad(idmap_slot=-1)
    bad(memory_mb=15)
    bad(pids_max=15)
    bad(cpu_weight=0)
    bad(io_weight=0)
    bad(io_weight=10001)
    bad(surprise=1)
    assert fails(node, "vm.start", vm_id=1).id == "bad-parameter"
    e = fails(node, "vm.start", **{**spec, "checksum": "0" * 64})
    assert e.id == "image-unusable" and "not checked out" in e.message
    assert not node.left(1)


def test_two_of_one(node):
    _, pidfd = node.vm(1, node.default)
    e = fails(node, "vm.start", **node.spec(1, node.default))
    assert e.id == "conflict", e
    # Undoing the refused start must not take the first with it.
    assert not ended(pidfd, 0.1)
    node.connect(1).close()
    node.kill()
    node.start()
    node.setup()
    e = fails(node, "vm.start", **node.spec(1, node.default))
    assert e.id == "conflict", e
    assert not ended(pidfd, 0.1)


def test_same_address_twice(node):
    node.vm(1, node.default)
    e = fails(node, "vm.start",
              **node.spec(2, node.default, address="10.88.0.3"))
    assert e.id == "conflict" and "VM 1" in e.message
    node.connect(1).close()


def test_before_setup():
    with Node() as n:
        e = fails(n, "vm.start", **n.spec(1, "0" * 64))
        assert e.id == "conflict" and "node.setup" in e.message


def test_adoption(node):
    first, pidfd = node.vm(1, node.default, epoch=42)
    node.vm(2, node.default)
    node.kill()
    assert not ended(pidfd, 0.2), "a desktop died with the helper"
    node.start()
    node.setup()
    assert node.ask("vm.list")["vms"] == [1, 2]
    again, fd = node.ask_fd("vm.adopt", vm_id=1, idmap_slot=0,
                            address="10.88.0.3")
    assert (again["pid"], again["start_time"], again["epoch"]) == \
        (first["pid"], first["start_time"], 42)
    assert not ended(fd, 0)
    node.connect(1).close()
    os.kill(first["pid"], signal.SIGKILL)
    assert ended(fd, 5)
    # VM 2 is not adopted, as if its row had gone: cleaned all the same.
    node.ask("vm.clean", vm_id=2)
    assert not node.left(2)
    e = fails(node, "vm.adopt", vm_id=1, idmap_slot=0, address="10.88.0.3")
    assert e.id == "not-found"
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


def test_init_that_ends_at_once(node):
    dead = node.image("dead", image_id=7)
    for _ in range(5):
        try:
            _, pidfd = node.vm(1, dead)
            assert ended(pidfd, 5)
            node.ask("vm.stop", vm_id=1, grace_ms=1000)
            node.ask("vm.clean", vm_id=1)
        except Failed as e:
            assert e.id == "vm-start-failed", e
        assert not node.left(1)


def test_stubborn_init_is_killed(node):
    stubborn = node.image("stubborn", image_id=8)
    _, pidfd = node.vm(1, stubborn)
    start = time.monotonic()
    node.ask("vm.stop", vm_id=1, grace_ms=300)
    assert 0.25 < time.monotonic() - start < 30 * SLOW
    assert ended(pidfd, 0)
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


@pytest.mark.parametrize("kind", ["fifo", "file", "link"])
def test_channel_that_is_no_socket(node, kind):
    odd = node.image(kind, image_id={"fifo": 11, "file": 12, "link": 13}[kind])
    node.vm(1, odd)
    start = time.monotonic()
    with pytest.raises(Failed) as e:
        node.connect(1, wait_ms=60000)
    # A link is refused by the kernel while resolving; the others by us.
    assert e.value.id == "vm-lost", e.value
    assert time.monotonic() - start < 30 * SLOW


def test_channel_deaf_late_and_gone(node):
    deaf = node.image("deaf", image_id=14)
    node.vm(1, deaf)
    start = time.monotonic()
    with pytest.raises(Failed) as e:
        node.connect(1, wait_ms=300)
    assert e.value.id == "timeout" and "doesn't answer" in e.value.message
    assert 0.25 < time.monotonic() - start < 30 * SLOW
    late = node.image("late", image_id=15)
    node.vm(2, late)
    with node.connect(2) as s:
        assert s.recv(100).startswith(b"tiny")
    assert fails(node, "vm.channel", vm_id=3, wait_ms=0).id == "not-found"
    # A wait that is cancelled ends, and others go on.
    ask = node.send("vm.channel", vm_id=1, wait_ms=100000)
    node.cancel(ask)
    node.connect(2).close()


def test_guest_fills_its_channel(node):
    flood = node.image(
        "run i=0; while [ $i -lt 2000 ]; do i=$((i+1)); "
        "echo x >/run/qvd/f$i || break; done 2>/dev/null; "
        "dd if=/dev/zero of=/run/qvd/big bs=64k 2>/dev/null; echo >/home/end",
        image_id=16)
    answer, _ = node.vm(1, flood)
    eventually((node.data / "homes/1/end").exists, 60)
    # A file system of its own, as large as it may get: not the node's.
    channel = pathlib.Path(f"/proc/{answer['pid']}/root/run/qvd")
    there = os.statvfs(channel)
    assert there.f_blocks * there.f_frsize <= 4 << 20
    assert channel.stat().st_dev != node.run.stat().st_dev
    node.ask("vm.stop", vm_id=1, grace_ms=500)
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


def test_guest_floods_its_console(node):
    flood = node.image("run yes 0123456789abcdef >/dev/console", image_id=17)
    _, pidfd = node.vm(1, flood, cpu_percent=100)
    log = node.run / "vms/1"
    eventually(lambda: (log / "console.log.1").exists(), 20)
    procs = UNIFIED / node.id / "mon/1/cgroup.procs"
    monitor = procs.read_text().split()[0]

    def ticks():
        stat = pathlib.Path(f"/proc/{monitor}/stat").read_text()
        return sum(int(x) for x in stat.rsplit(")", 1)[1].split()[11:13])
    before, start = ticks(), time.monotonic()
    time.sleep(1)
    used = (ticks() - before) / os.sysconf("SC_CLK_TCK")
    assert used < 0.4 * (time.monotonic() - start), used
    assert sum(f.stat().st_size for f in log.iterdir()) < 512 * 1024
    assert not ended(pidfd, 0)


@pytest.mark.parametrize("i,script", enumerate([
    "mv /usr/lib /usr/lib2; mkdir /x; ln -s /x /usr/lib",
    "mv /home /home2 || umount /home; ln -s /etc /home",
    "ln -s /proc/1/root /usr/lib/qvd2; mv /etc /etc2; ln -s / /etc",
    "rm -f /etc/resolv.conf; ln -sf /etc/shadow /etc/resolv.conf",
    "mv /run /run2; ln -s /etc /run",
    "mv /dev /dev2; ln -s /etc /dev"]))
def test_guest_puts_links_where_we_mount(node, i, script):
    """Its own next start may fail, with a sentence; nothing of the node is
    mounted over or shown."""
    evil = node.image(f"run {script}; echo >/home/end", image_id=80 + i)
    host = [(p, os.stat(p).st_ino, os.stat(p).st_mtime_ns)
            for p in ("/etc", "/home", "/run/lxc", "/dev/shm", "/usr/lib")]
    node.vm(1, evil)
    time.sleep(0.3)
    node.ask("vm.stop", vm_id=1, grace_ms=1000)
    node.ask("vm.clean", vm_id=1)
    try:
        pid = node.vm(1, evil)[0]["pid"]
        mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text()
        for line in mounts.splitlines():
            assert not line.split()[4].startswith(("/x", "/proc/1")), line
    except Failed as e:
        assert e.id == "vm-start-failed", e
        assert not node.left(1)
    assert host[:1] == [(p, os.stat(p).st_ino, os.stat(p).st_mtime_ns)
                        for p, _, _ in host[:1]]


def test_monitor_killed(node):
    _, pidfd = node.vm(1, node.default)
    procs = UNIFIED / node.id / "mon/1/cgroup.procs"
    for pid in procs.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    assert ended(pidfd, 5), "the container outlived its monitor"
    assert fails(node, "vm.adopt", vm_id=1, idmap_slot=0,
                 address="10.88.0.3").id == "not-found"
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


def test_helper_killed_while_starting(node):
    rng = random.Random(1)
    for _ in range(12):
        node.send("vm.start", **node.spec(1, node.default))
        time.sleep(rng.uniform(0, 0.05))
        node.kill()
        node.start()
        node.setup()
        for vm in node.ask("vm.list")["vms"]:
            node.ask("vm.clean", vm_id=vm)
        assert not node.left(1)
    node.vm(1, node.default)


def operation_processes(node):
    """(the forge, those that have started something and wait)."""
    found = [], []
    helper = node.proc.pid
    for pid in map(int, pathlib.Path(
            f"/proc/{helper}/task/{helper}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError):
            proc = pathlib.Path(f"/proc/{pid}")
            if (proc / "comm").read_text() == "qvd-hkd-vm\n":
                ours = f"/{node.id}" in (proc / "cgroup").read_text()
                found[ours].append(pid)
    assert len(found[0]) <= 1, found
    return found


def place(pid):
    """All that a process is in, and what it has open."""
    proc = pathlib.Path(f"/proc/{pid}")
    state = {f"ns/{n}": os.readlink(proc / "ns" / n)
             for n in os.listdir(proc / "ns")}
    state["limits"] = (proc / "limits").read_text()
    state["where"] = os.readlink(proc / "cwd"), os.readlink(proc / "root")
    for key in ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs",
                "Umask", "Threads", "SigBlk", "SigIgn", "SigCgt"):
        state[key] = status(pid, key)
    return state


def test_a_process_starts_many(node):
    """What has started a container starts the next one, too, and has nothing
    of the first: it must not hold what a stop ends, nor carry it over."""
    served = set()
    for vm in (31, 32, 33):
        node.vm(vm, node.default, home_mb=32 * (vm % 2), idmap_slot=vm,
                volatile=vm == 32)
        [forge], [kept] = operation_processes(node)
        before = place(forge)
        before["ns/net"] = run(*node.in_net, "readlink",
                               "/proc/self/ns/net").strip()
        assert place(kept) == before
        eventually(lambda pid=kept: set(os.listdir(f"/proc/{pid}/fd")) ==
                   {"0", "1", "2"}, what="it has files open")
        groups = pathlib.Path(f"/proc/{kept}/cgroup").read_text().split()
        assert all(g.endswith((f"/{node.id}", f"/{node.id}/op"))
                   for g in groups), groups
        served.add(kept)
    assert len(served) == 1, served
    pidfd = os.pidfd_open(kept)
    # One that failed isn't fit for another; nor is what did something else.
    assert fails(node, "vm.start", **node.spec(34, "0" * 64))
    assert ended(pidfd, 5)
    for vm in (31, 32, 33):
        node.ask("vm.stop", vm_id=vm, grace_ms=5000)
        node.ask("vm.clean", vm_id=vm)
        assert not node.left(vm)
    assert not operation_processes(node)[1]
    # One that nobody needs goes.
    node.vm(31, node.default)
    [kept] = operation_processes(node)[1]
    idle = os.pidfd_open(kept)
    assert ended(idle, 60)
    for fd in pidfd, idle:
        os.close(fd)


def test_forge_killed(node):
    """The process that operations are forked from is replaced; what it made
    lives on."""
    node.vm(1, node.default)
    forge, kept = operation_processes(node)
    for pid in forge + kept:
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert ended(pidfd, 5)
        os.close(pidfd)
    result, pidfd = node.vm(2, node.default)
    assert not ended(pidfd, 0)
    assert not set(forge + kept) & set(sum(operation_processes(node), []))
    assert node.ask("vm.limits", vm_id=1)["memory_mb"] == 64
    for vm in (1, 2):
        node.ask("vm.stop", vm_id=vm, grace_ms=0)
        node.ask("vm.clean", vm_id=vm)
        assert not node.left(vm)


def test_cancelled_start_is_undone(node):
    rng = random.Random(2)
    for _ in range(8):
        ask = node.send("vm.start", **node.spec(1, node.default))
        time.sleep(rng.uniform(0, 0.03))
        node.cancel(ask)
        # Runs after the start or its undoing.
        left = node.ask("vm.limits", vm_id=1) if ask in node.answers else None
        assert left is None or left["memory_mb"] == 64
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        node.ask("vm.clean", vm_id=1)
        assert not node.left(1)


def test_only_our_cgroups_are_touched(node):
    other = UNIFIED / f"{node.id}-other"
    (other / "ct/1").mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        (other / "ct/1/cgroup.procs").write_text(str(sleeper.pid))
        node.vm(1, node.default)
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        node.ask("vm.clean", vm_id=1)
        assert sleeper.poll() is None and (other / "ct/1").is_dir()
        (other / "ct/77").mkdir()
        assert node.ask("vm.list")["vms"] == []
    finally:
        sleeper.kill()
        sleeper.wait()
        for d in ("ct/77", "ct/1", "ct", "."):
            eventually(lambda: _rmdir(other / d))


def _rmdir(path):
    try:
        path.rmdir()
    except OSError:
        return not path.exists()
    return True


def test_many_at_once(node):
    asks = {vm: node.send("vm.start", **node.spec(vm, node.default))
            for vm in range(1, 25)}
    for vm, ask in asks.items():
        result, fd = node.wait(ask)
        assert result["pid"] and not ended(fd, 0)
    assert node.ask("vm.list")["vms"] == list(range(1, 25))
    stops = [node.send("vm.stop", vm_id=vm, grace_ms=3000) for vm in asks]
    cleans = [node.send("vm.clean", vm_id=vm) for vm in asks]
    for ask in stops + cleans:
        node.wait(ask)
    assert not any(node.left(vm) for vm in asks)


def test_full_disk():
    with Node(disk="ext4", disk_mb=32, disk_inodes=8000) as n:
        n.setup()
        checksum = n.image()
        n.vm(2, checksum)
        n.ask("vm.stop", vm_id=2, grace_ms=0)
        n.ask("vm.clean", vm_id=2)
        (n.data / "fill").mkdir()
        with contextlib.suppress(OSError):
            for i in range(10000):
                (n.data / f"fill/{i}").touch()
        e = fails(n, "vm.start", **n.spec(1, checksum))
        assert e.id == "no-space" and "No space left" in e.message, e
        assert not n.left(1)
        shutil.rmtree(n.data / "fill")
        n.vm(1, checksum)
        n.ask("vm.stop", vm_id=1, grace_ms=0)
        n.ask("vm.clean", vm_id=1)


def v2_limits():
    """Whether cgroup v2 has the controllers here; else v1 has."""
    return "memory" in (UNIFIED / "cgroup.controllers").read_text().split()


def test_pure_cgroup_v2():
    with Node(cgroup_view="v2", conf="limits_optional = yes\n") as n:
        n.setup()
        checksum = n.image()
        result, pidfd = n.vm(1, checksum)
        assert result["pid"]
        n.vm(2, checksum)
        assert len(operation_processes(n)[1]) == 1
        assert n.ask("vm.limits", vm_id=1)["memory_mb"] == \
            (64 if v2_limits() else -1)
        n.kill()
        n.start()
        n.setup()
        again, fd = n.ask_fd("vm.adopt", vm_id=1, idmap_slot=0,
                             address="10.88.0.3")
        assert again["pid"] == result["pid"]
        n.connect(1).close()
        n.ask("vm.stop", vm_id=1, grace_ms=2000)
        assert ended(pidfd, 0) and ended(fd, 0)
        n.ask("vm.clean", vm_id=1)
        assert not n.left(1)
        n.remove_vms()


@pytest.mark.skipif(v2_limits(), reason="cgroup v2 has controllers here")
def test_no_controllers_is_an_error():
    with Node(cgroup_view="v2") as n:
        n.setup()
        checksum = n.image()
        e = fails(n, "vm.start", **n.spec(1, checksum))
        assert e.id == "configuration" and "limits_optional" in e.message
        assert not n.left(1)


def test_run_directory_must_be_reachable():
    node = Node()
    try:
        node.prepare()
        node.dir.chmod(0o700)
        node.start()
        assert node.proc.wait(10) == 1
        assert f"others may not enter {node.dir}" in node.log.read_text()
    finally:
        node.close()


def test_helper_ends_cleanly():
    with Node() as n:
        n.setup()
        _, pidfd = n.vm(1, n.image())
        n.send("vm.channel", vm_id=1, wait_ms=0)
        n.send("vm.start", **n.spec(2, "0" * 64))
        assert n.stop() == 0
        assert not ended(pidfd, 0.1), "the desktop must go on"
