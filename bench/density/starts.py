# SPDX-License-Identifier: GPL-3.0-or-later
"""BusyBox VMs through rows, HKD and helper; the peer is lxc-start of the same
container, its root file system mounted beforehand."""

import contextlib
import ctypes
import os
import pathlib
import resource
import select
import shutil
import statistics
import subprocess
import tempfile
import time

import by_hand
import results
from qvdlab import Farm
from qvdlab.farm import setns

AREA = "density"
ROUNDS = 3
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")

CONFIG = """lxc.uts.name=peer
lxc.rootfs.path=dir:{root}
lxc.init.cmd=/bin/sleep 3600
lxc.mount.auto=proc:mixed sys:ro
lxc.mount.entry=tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,create=dir
lxc.mount.entry=tmpfs run tmpfs rw,nosuid,nodev,mode=0755,create=dir
lxc.idmap=u 0 {base} 65536
lxc.idmap=g 0 {base} 65536
lxc.pty.max=1024
lxc.tty.max=0
lxc.autodev=1
lxc.apparmor.profile=unconfined
lxc.no_new_privs=1
lxc.cap.keep=chown dac_override dac_read_search fowner fsetid kill setgid \
setuid setpcap net_bind_service sys_chroot
lxc.seccomp.profile=/usr/share/lxc/config/common.seccomp
lxc.net.0.type=veth
lxc.net.0.veth.pair=peer0
lxc.net.0.link=qvdnet0
lxc.net.0.name=eth0
lxc.net.0.ipv4.address=10.88.255.250/16
lxc.net.0.ipv4.gateway=10.88.0.1
lxc.net.0.flags=up
lxc.cgroup.dir.monitor={name}/mon
lxc.cgroup.dir.monitor.pivot={name}/pivot
lxc.cgroup.dir.container={name}/ct
{limits}
"""
V1_LIMITS = """lxc.cgroup.memory.limit_in_bytes=67108864
lxc.cgroup.cpu.shares=1024
lxc.cgroup.pids.max=2048"""
V2_LIMITS = """lxc.cgroup2.memory.max=67108864
lxc.cgroup2.cpu.weight=100
lxc.cgroup2.pids.max=2048"""


def cpu_ms(pid):
    """A process, and its children that have ended."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) * TICK_MS


def children(pid):
    return set(pathlib.Path(
        f"/proc/{pid}/task/{pid}/children").read_text().split())


def node_cpu_ms(helper):
    """The helper, main, the forge and the processes of operations: those
    that have ended, and those that wait for another one. Once more when one
    ends meanwhile: it would be counted twice, or not at all."""
    while True:
        before = children(helper)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            spent = sum(map(cpu_ms, [helper, *before]))
            if children(helper) == before:
                return spent


def wait_idle(helper, idle):
    """Until the helper has only the children that it has when idle: what
    ends after a VM is `stopped` is no part of the next start."""
    while rest := children(helper) - idle:
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                ended = os.pidfd_open(int(pid))
                select.select([ended], [], [])
                os.close(ended)


def add_vms(farm, osf, n, first=1):
    """Rows, as `qvd vm add` writes them; their ids."""
    farm.sql(
        "INSERT INTO vms (name, user_id, osf_id, address) "
        "SELECT 'd' || i, (SELECT id FROM users WHERE login = 'alice'), "
        "(SELECT id FROM osfs WHERE name = %s), '10.88.4.0'::inet + i "
        "FROM generate_series(%s::int, %s::int) i",
        osf, first, first + n - 1)
    return [row[0] for row in farm.sql(
        "SELECT id FROM vms WHERE name ~ '^d[0-9]+$' AND "
        "substr(name, 2)::int BETWEEN %s AND %s ORDER BY id",
        first, first + n - 1)]


def wait_all(farm, vms, state):
    """Looks ten times a second: a look at each of their notifications would
    be a third of what the database does in a storm."""
    deadline = time.monotonic() + 1200
    while farm.sql("SELECT count(*) FROM vm_runtimes WHERE state = %s AND "
                   "vm_id = ANY(%s)", state, vms)[0][0] < len(vms):
        assert time.monotonic() < deadline, f"they don't get {state}"
        time.sleep(0.1)


def start_all(farm, vms):
    """Wants them all to run; seconds until they do."""
    began = time.monotonic()
    farm.sql("UPDATE vms SET desired = 'running', epoch = epoch + 1, "
             "host_id = (SELECT id FROM hosts) WHERE id = ANY(%s)", vms)
    wait_all(farm, vms, "running")
    return time.monotonic() - began


def stop_all(farm, vms):
    farm.sql("UPDATE vms SET desired = 'stopped' WHERE id = ANY(%s)", vms)
    wait_all(farm, vms, "stopped")


def show_links(sys):
    """/sys shows the links of the namespace in which it was mounted, and
    liblxc looks there for the bridge."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source, target, kind, flags):
        if libc.mount(source.encode(), str(target).encode(), kind, flags,
                      None) != 0:
            raise OSError(ctypes.get_errno(), f"mount {target}")
    if libc.unshare(0x20000) != 0:               # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", None, 0x84000)            # MS_REC | MS_SLAVE
    sys.mkdir(exist_ok=True)
    mount("sysfs", sys, b"sysfs", 0)
    for part in ("class/net", "devices/virtual/net"):
        mount(str(sys / part), f"/sys/{part}", None, 0x1000)  # MS_BIND


class Peer:
    """A container that lxc-start starts, in the farm's network."""

    def __init__(self, farm):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="qvd-peer-"))
        self.name = self.work.name
        self.netns = f"/run/netns/{farm.id}"
        os.chmod(self.work, 0o755)
        tree = next((farm.data / "images/trees").iterdir())
        root = by_hand.prepare(tree, self.work)
        hybrid = pathlib.Path("/sys/fs/cgroup/memory").exists()
        (self.work / "config").write_text(CONFIG.format(
            root=root, base=by_hand.BASE, name=self.name,
            limits=V1_LIMITS if hybrid else V2_LIMITS))

    def run(self, program, *args):
        def enter():
            setns(os.open(self.netns, os.O_RDONLY))
            show_links(self.work / "sys")
        # As the helper's: newuidmap is not found.
        subprocess.run([f"/usr/bin/{program}", "-P", str(self.work), "-n",
                        self.name, *args], check=True, preexec_fn=enter,
                       env={"PATH": str(self.work)})

    def cpu_ms(self, program, *args):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run(program, *args)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime
                - before.ru_stime) * 1000

    def start_ms(self):
        """CPU of one start, without what Python takes to run a program."""
        with_python = self.cpu_ms("lxc-start", "-f",
                                  str(self.work / "config"), "-d")
        self.run("lxc-stop", "-k")
        return with_python - self.cpu_ms("true")

    def close(self):
        subprocess.run(["umount", "-l", str(self.work / "root")], check=False)
        subprocess.run(["umount", "-l", str(self.work / "lower")],
                       check=False)
        by_hand.remove_cgroups(self.name)
        shutil.rmtree(self.work, ignore_errors=True)


def bench(n):
    rates, ours, peers, waits = [], [], [], []
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        vms = add_vms(farm, "busybox", n)
        peer = Peer(farm)
        try:
            start_all(farm, vms[:4])      # warm-up: checkout, caches
            stop_all(farm, vms[:4])
            peer.start_ms()
            helper = farm.pids("qvd-hkd")[0]
            idle = children(helper)
            for _ in range(ROUNDS):
                wait_idle(helper, idle)
                before = node_cpu_ms(helper)
                seconds = start_all(farm, vms)
                ours.append((node_cpu_ms(helper) - before) / n)
                rates.append(n / seconds)
                peers += [peer.start_ms() for _ in range(10)]
                waits += [row[0] for row in farm.sql(
                    "SELECT duration_ms FROM events WHERE "
                    "name = 'vm.running' ORDER BY id DESC LIMIT %s", n)]
                stop_all(farm, vms)
        finally:
            peer.close()
    print(f"starts: {n} at once, each until running: median "
          f"{statistics.median(waits):.0f} ms, last {max(waits)} ms; CPU "
          f"{statistics.median(ours):.1f} ms, lxc-start "
          f"{statistics.median(peers):.1f} ms", flush=True)
    results.add(AREA, f"BusyBox VMs started a second, {n} at once", "1/s",
                statistics.median(rates), None, None, ">= 20")
    results.add(AREA, "CPU of a start in HKD over bare lxc-start", "ms",
                statistics.median(ours) - statistics.median(peers), None,
                None, "<= 15")
