# SPDX-License-Identifier: GPL-3.0-or-later
"""N desktops on one node, started through HKD from rows, with a session that
a client has begun: nxagent, a window manager and a terminal in each (`plain`),
or the whole demonstration desktop, with panel, icons and wallpaper."""

import concurrent.futures
import json
import pathlib
import re
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import results
import zram
from qvdlab import Display, Farm, image
from starts import add_vms, start_all

AREA = "density"
CLIENTS = 3         # begin sessions at once
IDLE_S = 20
WAKES = 20
X_HELLO = b"l\0\x0b\0\0\0\0\0\0\0\0\0"    # X11, no authorisation


class Node:
    """A farm of desktops and what they use."""

    def __init__(self, farm, screen, kind):
        self.farm, self.screen, self.kind = farm, screen, kind
        self.vms = []
        unified = pathlib.Path("/sys/fs/cgroup/unified")
        self.group = (unified if unified.exists() else
                      pathlib.Path("/sys/fs/cgroup")) / farm.id

    def add(self, n):
        """n more that run, each with a session that its user has left."""
        vms = add_vms(self.farm, "demo", n, len(self.vms) + 1)
        self.vms += vms
        seconds = start_all(self.farm, vms)
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self.session, vms))
        print(f"desktops: {n} more running after {seconds:.1f} s, with "
              f"sessions after {time.monotonic() - began:.1f} s more",
              flush=True)

    def session(self, vm):
        """The user comes, sees the desktop, and goes."""
        with Database(self.farm) as db:
            for _ in range(3):
                client = self.farm.client("--vm", str(vm), "--link", "lan",
                                          "--geometry", "1024x768",
                                          display=self.screen)
                if db.wait(vm, "connected", client):
                    break
            else:
                raise AssertionError(client.log.read_text())
            client.terminate()
            client.wait(timeout=60)
            db.wait(vm, "suspended")

    def top(self):
        return self.farm.qvd("host", "top", json=True, timeout=120)

    def room(self):
        """How many more 'qvd host top' says that there is room for."""
        room = self.top()["room"][0]
        print(f"desktops: 'qvd host top' says room for {room['more']} more "
              f"of {room['each_bytes'] / 1e6:.1f} MB", flush=True)
        return room["more"]

    def used_mb(self):
        """Memory of all desktops: their share of resident pages, the
        kernel's for them, the monitors, and what swap really takes."""
        vms = self.top()["vms"]
        kb = sum(v["pss_kb"] + v["kernel_kb"] +
                 v["swap_kb"] * zram.cost() for v in vms)
        return kb / 1024 + self.monitors_mb()

    def monitors_mb(self):
        kb = 0
        for procs in (self.group / "mon").glob("*/cgroup.procs"):
            for pid in procs.read_text().split():
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                kb += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
        return kb / 1024

    def cpu_s(self):
        text = (self.group / "cpu.stat").read_text()
        return int(re.search(r"usage_usec (\d+)", text)[1]) / 1e6

    def hibernate(self, n):
        """Until n are hibernated; then nobody else is."""
        self.farm.qvd("osf", "set", "demo", "--idle-after", "1s")
        self.farm.wait_sql(
            "qvd_vm_runtimes", "SELECT count(hibernated_at) >= %s "
            "FROM vm_runtimes", n, timeout=1200)
        self.farm.qvd("osf", "set", "demo", "--idle-after", "0")


class Database:
    """A connection of one thread."""

    def __init__(self, farm):
        import psycopg
        self.db = psycopg.connect(
            host=str(farm.run / "pg"), dbname="qvd", user="qvd_owner",
            options="-c search_path=qvd", autocommit=True)

    def __enter__(self):
        self.db.execute("LISTEN qvd_vm_runtimes")
        return self

    def __exit__(self, *exc):
        self.db.close()

    def wait(self, vm, session, client=None):
        """False if the client ended before."""
        while True:
            row = self.db.execute("SELECT session FROM vm_runtimes "
                                  "WHERE vm_id = %s", [vm]).fetchone()
            if row and row[0] == session:
                return True
            if client is not None and client.poll() is not None:
                return False
            if select.select([self.db.fileno()], [], [], 2)[0]:
                self.db.pgconn.consume_input()
                while self.db.pgconn.notifies():
                    pass


class Keeper:
    """hkd.sock, as the router uses it (src/net/rpc_priv.h)."""

    def __init__(self, farm):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(str(farm.run / "hkd.sock"))
        self.id = 0

    def channel(self, vm, epoch):
        self.id += 1
        self.sock.send(json.dumps({
            "t": "ask", "id": self.id, "op": "vm.channel",
            "args": {"vm_id": vm, "epoch": epoch}}).encode())

    def answer(self):
        data, fds, _, _ = socket.recv_fds(self.sock, 1 << 16, 1)
        for fd in fds:
            socket.close(fd)
        return json.loads(data)


def x_socket(pid):
    """A connection to the X server in a desktop, with a hello under way."""
    folder = pathlib.Path(f"/proc/{pid}/root/tmp/.X11-unix")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(next(folder.iterdir())))
    sock.sendall(X_HELLO)
    return sock


def wake(node, vm):
    """Milliseconds from the router's question to the X server's answer."""
    pid, epoch = node.farm.sql("SELECT pid, epoch FROM vm_runtimes "
                               "WHERE vm_id = %s", vm)[0]
    sock = x_socket(pid)
    keeper = Keeper(node.farm)
    assert not select.select([sock], [], [], 0.05)[0], "it was not asleep"
    began = time.monotonic()
    keeper.channel(vm, epoch)
    assert sock.recv(1), "the X server closed the connection"
    taken = (time.monotonic() - began) * 1000
    assert keeper.answer()["t"] != "fail"
    sock.close()
    return taken


def report_starts(farm):
    ms = [row[0] for row in farm.sql(
        "SELECT duration_ms FROM events WHERE name = 'vm.running'")]
    alone = [float(match[1]) + float(match[2]) for row in farm.sql(
        "SELECT text FROM events WHERE name = 'vm.running'")
        if (match := re.search(r"start ([\d.]+) ms, agent ([\d.]+) ms",
                               row[0]))]
    begun = [int(match[1]) for row in farm.sql(
        "SELECT text FROM events WHERE name = 'session.connected'")
        if (match := re.search(r"in (\d+) ms", row[0]))]
    print(f"desktops: from wanted to running, with the queue: median "
          f"{statistics.median(ms):.0f} ms, last {max(ms)} ms; the start "
          f"itself: median {statistics.median(alone):.0f} ms, slowest "
          f"{max(alone):.0f} ms"
          + (f"; the session: median {statistics.median(begun):.0f} ms, "
             f"slowest {max(begun)} ms" if begun else ""), flush=True)
    return statistics.median(alone)


def bench_awake(node, n):
    node.add(n // 2)
    half, half_room = node.used_mb(), node.room()
    node.add(n - n // 2)
    full, full_room = node.used_mb(), node.room()
    before = node.cpu_s()
    time.sleep(IDLE_S)             # the measurement itself: an idle wait
    idle = (node.cpu_s() - before) / IDLE_S * 100
    name = f"{n} {node.kind} desktops"
    results.add(AREA, f"{name}: start of one until its agent answers", "ms",
                report_starts(node.farm), None, None, "<= 1000")
    results.add(AREA, f"{name}: memory of all", "MB", full, None, None,
                f"<= {30 * n}")
    results.add(AREA, f"{name}: memory of one more", "MB",
                (full - half) / (n - n // 2), None, None, "<= 30")
    results.add(AREA, f"{name}: CPU of all when idle", "%", idle, None, None,
                "<= 20")
    # More than one: it had promised room that wasn't there.
    results.add(AREA, f"{name}: places of 'qvd host top' that one took", "",
                (half_room - full_room) / (n - n // 2), None, None, "<= 1.1")


def bench_hibernated(node, n, more):
    awake = node.used_mb()
    node.hibernate(n)
    asleep = node.used_mb()
    print(f"desktops: {n} hibernated, {awake:.0f} MB, now {asleep:.0f} MB",
          flush=True)
    node.add(more)
    node.hibernate(n + more)
    marginal = (node.used_mb() - asleep) / more
    wakes = [wake(node, vm) for vm in node.vms[:WAKES]]
    for vm in node.vms[WAKES:(n + more) // 10]:
        wake(node, vm)
    name = f"{n + more} {node.kind} desktops, 90 % hibernated"
    goals = zram.there_is()
    print(f"desktops: memory of one more that is hibernated "
          f"{marginal:.1f} MB" + ("" if goals else
          " (without swap only pages of files can go: not judged)"),
          flush=True)
    if goals:
        results.add(AREA, f"{name}: memory of one more that is", "MB",
                    marginal, None, None, "<= 8")
    results.add(AREA, f"{name}: memory of all", "MB", node.used_mb(), None,
                None, f"<= {(n + more) * 30}")
    results.add(AREA, "waking, to the first X reply", "ms",
                statistics.median(wakes), None, None, "<= 100")
    print(f"desktops: waking: slowest of {len(wakes)} {max(wakes):.0f} ms",
          flush=True)


def source(kind, folder):
    """The image: `demo` as it is, or `plain` with a terminal only."""
    if kind == "demo":
        return image("demo")
    tar, tree = folder / "plain.tar", folder / "plain"
    start = tree / "etc/qvd/autostart"
    start.parent.mkdir(parents=True)
    start.write_text("xterm -title Terminal &\n")
    shutil.copyfile(image("demo"), tar)
    # What comes later in an archive counts.
    subprocess.run(["tar", "-C", tree, "--owner=0", "--group=0", "-rf", tar,
                    "./etc/qvd/autostart"], check=True)
    return tar


# Without a window manager on the client's screen nxagent makes a window of
# three quarters of it: 1024x768.
SCREEN = "1366x1024"


def bench(n, more, kind):
    with tempfile.TemporaryDirectory() as folder, Farm() as farm, \
            Display(farm, SCREEN) as screen:
        farm.add_osf("demo", source(kind, pathlib.Path(folder)))
        farm.add_user("alice", "secret")
        # On a host with v2 alone the limit of swap counts.
        farm.qvd("osf", "set", "demo", "--swap", "1G")
        node = Node(farm, screen, kind)
        bench_awake(node, n)
        bench_hibernated(node, n, more)
