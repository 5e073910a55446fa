# SPDX-License-Identifier: GPL-3.0-or-later
"""The house-keeper: what rows want becomes so, whatever is killed when. The
image is BusyBox: a VM's life without a desktop."""

import base64
import fcntl
import os
import re
import signal
import ssl
import struct
import subprocess
import termios
import time

import pytest
from qvdlab import Farm, eventually, need
from qvdlab import run as run_program


@pytest.fixture(scope="module")
def house():
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        yield farm


@pytest.fixture
def vm(house, request):
    """A VM of this test alone."""
    name = re.sub(r"[^a-z0-9]", "-", request.node.name)[:60]
    vm = house.add_vm("alice", "busybox", name)
    yield vm
    if house.one("SELECT count(*) FROM vms WHERE id = %s", vm):
        want(house, vm, False)
        house.sql("UPDATE vms SET blocked = false WHERE id = %s", vm)
        wait(house, vm, "stopped")
        house.assert_clean(vm)


def want(farm, vm, running=True):
    """Writes what a connection, or a stop, would write."""
    if not running:
        farm.sql("UPDATE vms SET desired = 'stopped' WHERE id = %s", vm)
        return None
    return farm.one(
        "UPDATE vms SET desired = 'running', epoch = epoch + 1, "
        "host_id = (SELECT id FROM hosts) WHERE id = %s RETURNING epoch", vm)


def wait(farm, vm, state, timeout=60):
    """Until the newest run has that state; its row as a dict."""
    if farm.one("SELECT epoch FROM vms WHERE id = %s", vm) == 0:
        return None  # it never ran
    farm.wait_sql(
        "qvd_vm_runtimes",
        "SELECT r.state = %s AND (r.epoch = v.epoch OR "
        "v.desired = 'stopped') FROM vm_runtimes r JOIN vms v "
        "ON v.id = r.vm_id WHERE vm_id = %s",
        state, vm, timeout=timeout, what=f"VM {vm} {state}")
    return row(farm, vm)


def row(farm, vm):
    names = ("epoch", "state", "pid", "step", "error_id", "error",
             "error_ref")
    rows = farm.sql(f"SELECT {', '.join(names)} FROM vm_runtimes "
                    "WHERE vm_id = %s", vm)
    return dict(zip(names, rows[0])) if rows else None


def start(farm, vm):
    want(farm, vm)
    return wait(farm, vm, "running")


def wait_house(farm):
    """Until the host is served (again)."""
    eventually(lambda: farm.pids("qvd-hkd-main", "main"), what="the main role")
    farm.wait_sql("qvd_hosts", "SELECT state = 'running' FROM host_runtimes")


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


def test_start_and_stop(house, vm):
    run = start(house, vm)
    assert alive(run["pid"]) and run["error_id"] is None
    want(house, vm, False)
    assert wait(house, vm, "stopped")["pid"] is None
    assert not alive(run["pid"])
    house.assert_clean(vm)
    eventually(lambda: "vm.stopped" in house.event_names(vm))
    names = [n for n in house.event_names(vm) if n.startswith("vm.")]
    assert names[-4:] == ["vm.starting", "vm.running", "vm.stopping",
                          "vm.stopped"]
    assert house.one("SELECT duration_ms FROM events WHERE vm_id = %s AND "
                     "name = 'vm.running'", vm) > 0


@pytest.mark.parametrize("who", [("qvd-hkd-main", "main"),
                                 ("qvd-hkd", None)], ids=["main", "root"])
def test_killed_house_keeper_adopts(house, vm, who):
    pid = start(house, vm)["pid"]
    house.kill(*who)
    house.wait_event("vm.adopted", vm)
    wait_house(house)
    run = row(house, vm)
    assert run["state"] == "running" and run["pid"] == pid and alive(pid)
    # It can still be stopped in order.
    want(house, vm, False)
    wait(house, vm, "stopped")
    assert not alive(pid)


@pytest.mark.parametrize("who", [("qvd-hkd-main", "main"),
                                 ("qvd-hkd", None)], ids=["main", "root"])
def test_killed_while_starting(house, vm, who):
    """At whatever instruction: in the end it runs, or says why not."""
    for i in range(6):
        want(house, vm)
        time.sleep(0.02 * i)
        house.kill(*who)
        run = wait(house, vm, "running")
        assert alive(run["pid"])
        want(house, vm, False)
        wait(house, vm, "stopped")
        house.assert_clean(vm)
        wait_house(house)


def test_killed_while_stopping(house, vm):
    for i in range(4):
        pid = start(house, vm)["pid"]
        want(house, vm, False)
        time.sleep(0.01 * i)
        house.kill("qvd-hkd-main", "main")
        wait(house, vm, "stopped")
        assert not alive(pid)
        house.assert_clean(vm)
        wait_house(house)


def test_dies(house, vm):
    pid = start(house, vm)["pid"]
    os.kill(pid, signal.SIGKILL)
    run = wait(house, vm, "stopped")
    assert run["error_id"] == "vm-lost"
    assert re.fullmatch("[A-Z2-7]{8}", run["error_ref"])
    house.wait_event("vm.died", vm)
    house.assert_clean(vm)
    # The error goes with the next run.
    assert start(house, vm)["error_id"] is None


def test_powered_off_from_inside(house, vm):
    """No crash, which a roll-out would count."""
    pid = start(house, vm)["pid"]
    os.kill(pid, signal.SIGTERM)  # as its root may
    run = wait(house, vm, "stopped")
    assert run["error_id"] is None
    house.wait_event("vm.powered-off", vm)
    assert "vm.died" not in house.event_names(vm)
    house.assert_clean(vm)
    start(house, vm)


def test_dies_unseen(house, vm):
    pid = start(house, vm)["pid"]
    main, = house.pids("qvd-hkd-main", "main")
    os.kill(main, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(main, signal.SIGKILL)
    run = wait(house, vm, "stopped")
    assert run["error_id"] == "vm-lost"
    assert "house-keeper" in run["error"]
    wait_house(house)


def test_no_such_image(house, vm):
    house.sql("UPDATE vms SET tag = 'nothing' WHERE id = %s", vm)
    want(house, vm)
    run = wait(house, vm, "stopped")
    assert run["error_id"] == "image-unusable"
    assert "OSF 'busybox' has no image 'nothing'" in run["error"]
    name, text, error_id = house.wait_event("vm.start-failed", vm)
    assert error_id == "image-unusable" and text == run["error"]
    house.assert_clean(vm)
    # A version is as good as a tag.
    house.sql("UPDATE vms SET tag = (SELECT version FROM images LIMIT 1) "
              "WHERE id = %s", vm)
    assert start(house, vm)["error_id"] is None


def test_blocked_image(house, vm):
    house.sql("UPDATE images SET blocked = true")
    try:
        want(house, vm)
        run = wait(house, vm, "stopped")
    finally:
        house.sql("UPDATE images SET blocked = false")
    assert run["error_id"] == "image-unusable" and "blocked" in run["error"]


def test_missing_tree(house, vm):
    """The image is published, but its files are gone and can't be made."""
    image = house.one("SELECT id FROM images WHERE state = 'published'")
    checksum = house.one("SELECT checksum FROM images WHERE id = %s", image)
    house.sql("UPDATE images SET checksum = %s WHERE id = %s", "0" * 64, image)
    try:
        want(house, vm)
        run = wait(house, vm, "stopped")
    finally:
        house.sql("UPDATE images SET checksum = %s WHERE id = %s", checksum,
                  image)
    assert run["error_id"] in ("image-unusable", "vm-start-failed")
    assert f"start VM {vm}: " in run["error"]
    house.assert_clean(vm)
    assert start(house, vm)["error_id"] is None


def test_new_run_replaces_the_old(house, vm):
    first = start(house, vm)
    second = start(house, vm)
    assert second["epoch"] == first["epoch"] + 1
    assert second["pid"] != first["pid"] and not alive(first["pid"])


def test_stop_while_starting(house, vm):
    for i in range(4):
        want(house, vm)
        time.sleep(0.02 * i)
        want(house, vm, False)
        wait(house, vm, "stopped")
        house.assert_clean(vm)


def test_deleted_while_running(house):
    vm = house.add_vm("alice", "busybox", "gone")
    pid = start(house, vm)["pid"]
    house.sql("DELETE FROM vms WHERE id = %s", vm)
    eventually(lambda: not alive(pid), what="its end")
    eventually(lambda: not (house.run / "vms" / str(vm)).exists())


def test_deleted_unseen(house):
    """A VM that no row speaks of any more when the house-keeper returns."""
    vm = house.add_vm("alice", "busybox", "orphan")
    pid = start(house, vm)["pid"]
    main, = house.pids("qvd-hkd-main", "main")
    os.kill(main, signal.SIGSTOP)
    house.sql("DELETE FROM vms WHERE id = %s", vm)
    os.kill(main, signal.SIGKILL)
    eventually(lambda: not alive(pid), what="its end")
    wait_house(house)


def test_many_at_once_then_idle(house):
    """They start in turns; when they run, nothing wakes the house-keeper."""
    house.sql("INSERT INTO configs (key, value) VALUES ('hkd.starts', '3')")
    vms = [house.add_vm("alice", "busybox", f"many{i}") for i in range(12)]
    try:
        for vm in vms:
            want(house, vm)
        for vm in vms:
            wait(house, vm, "running")
        main, = house.pids("qvd-hkd-main", "main")

        def wakeups():
            text = open(f"/proc/{main}/status", encoding="ascii").read()
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text,
                                 re.M)[1])

        def woken():
            before = wakeups()
            time.sleep(3)
            return wakeups() - before
        # A heartbeat may be due, which is a query and its answer; a timer
        # of each VM would be at least as many as there are VMs. What the
        # starts have left to do ends sooner or later.
        eventually(lambda: woken() < len(vms), 30, "a quiet house-keeper")
        rss = int(re.search(r"^VmRSS:\s+(\d+)", open(
            f"/proc/{main}/status", encoding="ascii").read(), re.M)[1])
        if "asan" not in str(house.programs):
            assert rss <= 10 * 1024
    finally:
        for vm in vms:
            want(house, vm, False)
        for vm in vms:
            wait(house, vm, "stopped")
        house.sql("DELETE FROM configs WHERE key = 'hkd.starts'")
    for vm in vms:
        house.assert_clean(vm)


def test_lease(house):
    assert house.one("SELECT lease_until > now() + interval '30 s' AND "
                     "memory_bytes > 0 AND cpus > 0 FROM host_runtimes")


def test_import_fails(house):
    image = house.one(
        "INSERT INTO images (osf_id, version, source) SELECT id, 'bad', "
        "'/nonexistent.tar' FROM osfs WHERE name = 'busybox' RETURNING id")
    house.wait_sql("qvd_images", "SELECT state = 'failed' FROM images "
                   "WHERE id = %s", image)
    assert "/nonexistent.tar" in house.one(
        "SELECT error FROM images WHERE id = %s", image)
    text, ref = house.sql(
        "SELECT text, ref FROM events WHERE image_id = %s AND "
        "name = 'image.import-failed'", image)[0]
    assert "busybox/bad" in text and len(ref) == 8


def test_import_goes_on_after_a_kill(house):
    source = house.one("SELECT source FROM images WHERE state = 'published'")
    image = house.one(
        "INSERT INTO images (osf_id, version, source) SELECT id, 'again', "
        "%s FROM osfs WHERE name = 'busybox' RETURNING id", source)
    house.wait_sql("qvd_images", "SELECT state = 'importing' FROM images "
                   "WHERE id = %s", image)
    house.kill("qvd-hkd-main", "main")
    house.wait_sql("qvd_images", "SELECT state = 'published' FROM images "
                   "WHERE id = %s", image)
    wait_house(house)


def test_only_its_users_reach_the_socket(house):
    code = ("import socket; s = socket.socket(socket.AF_UNIX, "
            f"socket.SOCK_SEQPACKET); s.connect('{house.run}/hkd.sock')")
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
         "/usr/bin/python3", "-c", code], capture_output=True, text=True,
        check=False)
    assert "PermissionError" in done.stderr
    main, = house.pids("qvd-hkd-main", "main")
    status = open(f"/proc/{main}/status", encoding="ascii").read()
    assert not re.search(r"^Uid:\s+0", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)


@pytest.mark.long
def test_zombie(house, vm):
    """What can't be removed is said, and tried again each minute."""
    start(house, vm)
    busy = house.run / "vms" / str(vm) / "busy"
    busy.mkdir()
    run_program("mount", "-t", "tmpfs", "none", busy)
    try:
        want(house, vm, False)
        state = wait(house, vm, "zombie")
        assert state["error_id"] and "remove what is left" in state["error"]
        house.wait_event("vm.zombie", vm)
    finally:
        run_program("umount", busy)
    wait(house, vm, "stopped", timeout=90)
    house.assert_clean(vm)
    assert start(house, vm)["error_id"] is None


def wants_in(farm, vm):
    """A client that waits for its desktop, as bytes on the wire."""
    context = ssl.create_default_context(
        cafile=str(farm.data / "tls/cert.pem"))
    context.check_hostname = False
    client = context.wrap_socket(farm.connect(timeout=60))
    login = base64.b64encode(b"alice:secret").decode()
    client.sendall(
        f"GET /qvd/connect_to_vm?id={vm}&qvd.client.link=lan HTTP/1.1\r\n"
        f"Host: farm\r\nAuthorization: Basic {login}\r\n"
        "Connection: Upgrade\r\nUpgrade: QVD/1.0\r\n\r\n".encode())
    return client


def test_waiting_for_a_turn(house):
    """Who waits is told its place, in its row and so on its client's line."""
    vms = [house.add_vm("alice", "busybox", f"turn{i}") for i in range(5)]
    helper, = house.pids("qvd-hkd")
    client = None
    heard = b""
    try:
        house.qvd("config", "set", "hkd.starts", "1")
        # Nothing is done while it stands still, so nobody's turn ends.
        os.kill(helper, signal.SIGSTOP)
        for vm in vms[:4]:
            want(house, vm)
            house.wait_vm(vm, state="starting")
        steps = [eventually(lambda v=vm: row(house, v)["step"])
                 for vm in vms[:4]]
        assert not any(s.startswith("waiting for its turn") for s in steps[:1])
        for i, step in enumerate(steps[1:], 1):
            assert re.match(rf"waiting for its turn to start: place {i} of "
                            rf"{i}, about \d+ s", step), steps
        client = wants_in(house, vms[4])
        while b"place 4 of 4, about" not in heard:
            more = client.recv(4096)
            assert more, heard
            heard += more
        assert re.search(rb"HTTP/1.1 102 .*\r\nX-QVD-VM-Info: [^\r]*waiting for"
                         rb" its turn to start: place 4 of 4", heard), heard
    finally:
        os.kill(helper, signal.SIGCONT)
        house.qvd("config", "unset", "hkd.starts")
        if client is not None:
            client.close()
    for vm in vms:
        wait(house, vm, "running")
        want(house, vm, False)
        wait(house, vm, "stopped")


def on_terminal(farm, columns):
    """What `qvd host top` shows on a terminal of that width."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ,
                struct.pack("HHHH", 24, columns, 0, 0))
    try:
        subprocess.run([str(farm.programs / "qvd"), "host", "top"],
                       stdout=theirs, env=farm.env, check=True)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_host_top(house, vm):
    """What is short first, then who uses most; the whole of it as JSON."""
    start(house, vm)
    out = house.qvd("host", "top").out
    assert re.match(r"node1: \d+ CPUs, load [\d.]+; memory [\d.]+[KMGT], "
                    r"available ", out), out
    assert re.search(r"^\d+ VMs?, 0 of them hibernated", out, re.M), out
    assert re.search(r"^room for \d+ more of busybox/\S+ \(", out, re.M), out
    assert re.search(rf"^ *{vm}  \S+  running +stopped ", out, re.M), out
    top = house.qvd("host", "top", json=True)
    mine, = [v for v in top["vms"] if v["vm_id"] == vm]
    assert mine["processes"] >= 1 and mine["pss_kb"] > 0
    assert mine["anon_kb"] <= mine["pss_kb"] and mine["hibernated"] is False
    assert top["host"]["available_kb"] <= top["host"]["memory_kb"]
    room, = [r for r in top["room"] if r["image_id"] == mine["image_id"]]
    assert room["each_bytes"] > 0 and room["more"] > 0
    # On a narrow terminal some columns are left out.
    assert "IMAGE" in on_terminal(house, 200) and "PROCS" in out
    head = next(line for line in on_terminal(house, 60).splitlines()
                if line.startswith("VM ")).split()
    assert head == ["VM", "NAME", "STATE", "PSS", "ANON", "SWAP", "CPU%",
                    "MEM%", "IO%"]
    # Refusals say what to do.
    bad = house.qvd("host", "top", "--sort", "size", check=False)
    assert bad.status == 2 and "not one of memory, swap" in bad.err
    house.qvd("host", "add", "elsewhere", "--address", "192.0.2.1")
    try:
        bad = house.qvd("host", "top", "elsewhere", check=False)
        assert bad.status == 20 and "ask its own API" in bad.err
    finally:
        house.qvd("host", "del", "elsewhere")


def test_idle_after_is_a_time(house):
    house.qvd("osf", "set", "busybox", "--idle-after", "90m")
    try:
        assert house.one("SELECT idle_after_s FROM osfs "
                         "WHERE name = 'busybox'") == 5400
        assert "1 h 30 min" in house.qvd("osf", "list").out
        bad = house.qvd("osf", "set", "busybox", "--idle-after", "soon",
                        check=False)
        assert bad.status == 2 and "a time such as 30m" in bad.err
    finally:
        house.qvd("osf", "set", "busybox", "--idle-after", "0")
