# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines on a node, without a farm: QEMU emulates (TCG), the guest
is a kernel and BusyBox. What KVM adds can't be run here."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import time

import kvmguest
import pytest
from nodelab import Failed, Node, eventually, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

BOOT = 120  # seconds; two on a quiet machine


def import_tree(node, tree, image_id):
    done = node.ask("image.import", image_id=image_id, source=str(tree),
                    author="test", message="a guest", version="1")
    node.ask("image.checkout", checksum=done["checksum"])
    return done["checksum"]


@pytest.fixture(scope="module")
def shared():
    with Node() as node:
        node.setup()
        tree = kvmguest.make_tree(node.dir / "guest")
        node.default = import_tree(node, tree, 1)
        yield node


@pytest.fixture
def node(shared):
    yield shared
    shared.remove_vms()
    for path in (shared.data / "vms", shared.data / "homes"):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)


def start(node, vm_id=1, checksum=None, **more):
    spec = {"hypervisor": "kvm", "accel": "tcg", "memory_mb": 128,
            "cpu_percent": 100, "home_mb": 64, **more}
    return node.vm(vm_id, checksum or node.default, **spec)


@contextlib.contextmanager
def console(node, vm_id=1):
    _, fd = node.ask_fd("vm.console", vm_id=vm_id)
    with socket.socket(fileno=fd) as s:
        yield s


def boot(node, vm_id=1, **more):
    """Starts it and waits until its init is done; (answer, pidfd)."""
    started = start(node, vm_id, **more)
    with console(node, vm_id) as s:
        # Its shell comes last. What it said before we listened is lost; a
        # line makes it say that it is ready again.
        s.sendall(b"\n")
        kvmguest.read_until(s.fileno(), b"# ")
    return started


def ask_guest(node, command, vm_id=1):
    """What a command says in the guest's shell."""
    with console(node, vm_id) as s:
        s.sendall(b"\necho BE''GIN; " + command.encode() + b"; echo E''ND\n")
        said = kvmguest.read_until(s.fileno(), b"END")
    return said.split(b"BEGIN")[1].split(b"END")[0].decode().strip()


def suspend(node, vm_id=1):
    """To disk, and nothing else of it is left."""
    assert node.ask("vm.suspend", vm_id=vm_id)["bytes"] > 0
    assert node.ask("vm.clean", vm_id=vm_id)["saved"]


def ended(pidfd, timeout):
    return bool(select.select([pidfd], [], [], timeout)[0])


def fails(node, op, **args):
    with pytest.raises(Failed) as e:
        node.ask(op, **args)
    return e.value


def test_life(node):
    run_, pidfd = boot(node)
    assert set(run_["phases"]) == {"disks", "place", "machine"}
    assert node.ask("vm.list")["vms"] == [1]
    assert "boots: 1" in ask_guest(node, "echo boots: $(wc -l </disk/boots)")
    assert ask_guest(node, "hostname") == "vm1"
    assert ask_guest(node, "blockdev --getsize64 /dev/vdb") == str(64 << 20)
    # The power button, and what the guest has then written is there.
    node.ask("vm.stop", vm_id=1, grace_ms=BOOT * 1000)
    assert ended(pidfd, 0)
    removed = node.ask("vm.clean", vm_id=1)["removed"]
    assert "firewall elements" in removed and not node.left(1)
    boot(node)
    assert "boots: 2" in ask_guest(node, "echo boots: $(wc -l </disk/boots)")
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    boot(node, volatile=True)
    assert "boots: 1" in ask_guest(node, "echo boots: $(wc -l </disk/boots)")
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    assert not (node.data / "vms/1/volatile").exists()


def test_confined_process(node):
    pid = start(node)[0]["pid"]
    status = dict(line.split(":", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split() == ["66000001"] * 4
    assert status["Groups"].split() == []
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"].split() == ["1"]
    assert status["Seccomp"].split() == ["2"]
    root = pathlib.Path(f"/proc/{pid}/root")
    assert not list(root.glob("etc/*")) and not list(root.glob("var/*"))
    assert not list(root.glob("proc/*")) and not list(root.glob("sys/class"))
    # It sees no link, not even its own tap, and listens nowhere.
    net = run("nsenter", "-t", pid, "-n", "ip", "-o", "link").splitlines()
    assert len(net) == 1 and "lo:" in net[0]
    for name in ("qmp.sock", "console.sock"):
        path = node.run / "vms/1" / name
        assert path.stat().st_mode & 0o777 == 0o600
    assert (node.run / "vms/1").stat().st_mode & 0o777 == 0o700
    secret = (node.run / "vms/1/run.json").read_text()
    assert '"secret"' in secret
    args = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    assert secret.split('"secret":"')[1].split('"')[0] not in args


def test_limits_are_the_kernels(node):
    start(node, memory_mb=96, swap_mb=32, cpu_percent=150, cpu_weight=200)
    # Besides the guest's memory, what QEMU itself needs when it emulates.
    limits = node.ask("vm.limits", vm_id=1)
    assert limits.pop("io_weight") in (-1, 100)
    assert limits == {
        "memory_mb": 96 + 256, "swap_mb": 32, "cpu_percent": 150,
        "cpu_weight": 200, "pids_max": 256}
    assert "-smp\0002\0" in pathlib.Path(
        f"/proc/{node.ask('vm.adopt', vm_id=1, address='10.88.0.3')['pid']}"
        "/cmdline").read_text()


def test_adopted_by_the_next_helper(node):
    run_, pidfd = boot(node)
    node.kill()
    node.start()
    node.setup()
    found, fd = node.ask_fd("vm.adopt", vm_id=1, address="10.88.0.3")
    assert found["pid"] == run_["pid"] and found["epoch"] == 1
    assert not ended(fd, 0)
    assert ask_guest(node, "hostname") == "vm1"
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    assert ended(pidfd, 0)
    assert fails(node, "vm.adopt", vm_id=1,
                 address="10.88.0.3").id == "not-found"


def test_killed_qemu_leaves_nothing(node):
    run_, pidfd = start(node)
    os.kill(run_["pid"], signal.SIGKILL)
    assert ended(pidfd, 10)
    eventually(lambda: "qvd1" not in node.links())
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


@pytest.mark.once
def test_helper_killed_while_starting(node):
    for pause in (0.02, 0.1, 0.3):
        node.send("vm.start", **node.spec(
            1, node.default, hypervisor="kvm", accel="tcg", memory_mb=128))
        time.sleep(pause)
        node.kill()
        node.start()
        node.setup()
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        node.ask("vm.clean", vm_id=1)
        assert not node.left(1)
    start(node)


@pytest.mark.parametrize("machine", [
    "q35", pytest.param("microvm", marks=pytest.mark.once)])
def test_suspended_to_disk_and_back(node, machine):
    _, pidfd = boot(node, machine=machine)
    assert ask_guest(node, "echo here >/tmp/mark; cat /tmp/mark") == "here"
    suspend(node)
    assert ended(pidfd, 0) and not node.left(1)
    state = node.data / "vms/1" / node.default / "state"
    for name in ("state", "state.machine"):
        assert state.with_name(name).stat().st_mode & 0o777 == 0o600
    # Another machine can't go on from it, and says so; a container neither.
    for other, word in (({"memory_mb": 256}, "128 MB"),
                        ({"address": "10.88.0.9"}, "10.88.0.3"),
                        ({"volatile": True}, "persistent"),
                        ({"hypervisor": "lxc"}, "--hypervisor kvm")):
        spec = {"hypervisor": "kvm", "accel": "tcg", "machine": machine,
                "memory_mb": 128, "cpu_percent": 100, "resume": True, **other}
        failed = fails(node, "vm.start", **node.spec(1, node.default, **spec))
        assert failed.id == "conflict" and word in failed.message
        assert node.ask("vm.clean", vm_id=1)["saved"]
    start(node, machine=machine, resume=True)
    assert ask_guest(node, "cat /tmp/mark; wc -l </disk/boots").split() == \
        ["here", "1"]
    assert not state.exists()
    assert run(*node.in_net, "ping", "-c1", "-W10", "10.88.0.3")


@pytest.mark.once
def test_damaged_state_is_kept_aside(node):
    boot(node)
    suspend(node)
    state = node.data / "vms/1" / node.default / "state"
    with state.open("r+b") as f:
        f.write(b"not a state of any machine")
    spec = node.spec(1, node.default, hypervisor="kvm", accel="tcg",
                     memory_mb=128, cpu_percent=100, resume=True)
    failed = fails(node, "vm.start", **spec)
    assert failed.id == "vm-start-failed" and "saved state" in failed.message
    assert not node.ask("vm.clean", vm_id=1)["saved"]
    assert not node.left(1)
    assert fails(node, "vm.start", **spec).id == "vm-lost"
    node.ask("vm.clean", vm_id=1)
    boot(node)
    failed = state.with_name("state.failed")
    assert failed.exists()
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1, forget_state=True)
    assert not failed.exists()


@pytest.mark.long
def test_helper_killed_while_saving(node):
    """However far it was: the machine runs, or is whole on disk."""
    for pause in (0.05, 0.2, 0.5, 1):
        run_, pidfd = boot(node)
        node.send("vm.suspend", vm_id=1)
        time.sleep(pause)
        node.kill()
        node.start()
        node.setup()
        if ended(pidfd, 0.2):
            assert node.ask("vm.clean", vm_id=1)["saved"]
            start(node, resume=True)
        else:
            node.ask("vm.adopt", vm_id=1, address="10.88.0.3")
        assert ask_guest(node, "hostname") == "vm1"
        assert not list(node.data.glob("vms/1/*/state*"))
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        node.ask("vm.clean", vm_id=1)


def test_hibernates(node):
    """Frozen, its memory given back, and suspended to disk from there."""
    _, pidfd = boot(node)
    done = node.ask("vm.freeze", vm_id=1)
    assert done["before_kb"] > 0 and done["after_kb"] <= done["before_kb"]
    usage, = [u for u in node.ask("vm.usage")["vms"] if u[0] == 1]
    assert usage[1] == 1
    assert node.ask("vm.adopt", vm_id=1, address="10.88.0.3")["frozen"]
    node.ask("vm.thaw", vm_id=1)
    assert ask_guest(node, "hostname") == "vm1"
    assert not node.ask("vm.adopt", vm_id=1, address="10.88.0.3")["frozen"]
    node.ask("vm.freeze", vm_id=1)
    suspend(node)
    assert ended(pidfd, 0)
    start(node, resume=True)
    assert ask_guest(node, "wc -l </disk/boots") == "1"
    # Asleep it hears no button, and is ended all the same.
    node.ask("vm.freeze", vm_id=1)
    node.ask("vm.stop", vm_id=1, grace_ms=BOOT * 1000)
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


def commit(node, image_id):
    asked = node.send("image.commit", image_id=image_id, vm_id=1,
                      idmap_slot=0, base=node.default, hypervisor="kvm",
                      accel="tcg", author="test", version="2")
    return node.wait(asked, 600)[0]


def test_commit_of_a_disk(node):
    """The new version has the blocks of both, and leans on nothing."""
    def refused():
        with pytest.raises(Failed) as e:
            commit(node, 20)
        return e.value
    failed = refused()
    assert failed.id == "not-found" and "no changes" in failed.message
    boot(node)
    ask_guest(node, "echo kept >/disk/kept; sync")
    assert refused().id == "conflict"
    node.ask("vm.stop", vm_id=1, grace_ms=BOOT * 1000)
    node.ask("vm.clean", vm_id=1)
    before = node.data / "vms/1" / node.default
    (before / "state").write_text("")
    failed = refused()
    assert failed.id == "conflict" and "suspended" in failed.message
    (before / "state").unlink()  # it hasn't been forgotten
    done = commit(node, 20)
    assert done["hypervisors"] == "kvm" and done["files"] == 5
    assert not node.left(1)
    node.ask("image.checkout", checksum=done["checksum"])
    tree = node.data / "images/trees" / done["checksum"]
    old = node.data / "images/trees" / node.default
    assert {p.name for p in tree.iterdir()} == {p.name for p in old.iterdir()}
    for same in ("vmlinuz", "initrd.img"):
        assert (tree / same).stat().st_ino == (old / same).stat().st_ino
    info = run("qemu-img", "info", tree / "disk.qcow2")
    assert "backing" not in info
    raw = node.dir / "committed.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw",
        tree / "disk.qcow2", raw)
    assert run("debugfs", "-R", "cat kept", raw).endswith("kept\n")
    # What is zero takes no room.
    assert (tree / "disk.qcow2").stat().st_blocks * 512 < 8 << 20
    node.ask("image.verify", checksum=done["checksum"])


def test_snapshots_of_its_home(node):
    """Copies of its disk, of one moment: when nothing has it."""
    home = {"vm_id": 1, "machine": True}
    assert fails(node, "home.look", **home).id == "not-found"
    start(node)
    failed = fails(node, "home.snapshot", name="one", **home)
    assert failed.id == "conflict" and "stop the VM first" in failed.message
    suspend(node)
    for op in ("home.snapshot", "home.restore"):
        failed = fails(node, op, name="one", **home)
        assert failed.id == "conflict" and "suspended" in failed.message
    node.ask("vm.clean", vm_id=1, forget_state=True)
    disk = node.data / "homes/1.raw"
    with disk.open("r+b") as f:
        f.seek(30 << 20)
        f.write(b"the first")
        f.truncate(64 << 20)
    done = node.ask("home.snapshot", name="one", **home)
    assert [s["name"] for s in done["snapshots"]] == ["one"]
    assert (done["store"], done["size_mb"]) == ("image", 64)
    with disk.open("r+b") as f:
        f.seek(30 << 20)
        f.write(b"a later one")
    node.ask("home.restore", name="one", **home)
    with disk.open("rb") as f:
        f.seek(30 << 20)
        assert f.read(11) == b"the first\0\0"
    assert node.ask("home.grow", size_mb=80, **home)["size_mb"] == 80
    # The home of the VM as a container is another, and has none.
    assert fails(node, "home.look", vm_id=1).id == "not-found"
    for op, name in (("home.snapshot", "x.raw"), ("home.convert", None)):
        args = {"name": name} if name else {}
        assert fails(node, op, **args, **home).id in ("conflict",
                                                      "bad-parameter")
    start(node)
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    assert not node.ask("home.forget", name="one", **home)["snapshots"]


@pytest.mark.long
def test_paused_until_the_disk_has_room(node):
    """A guest sees no error of a node's full disk, and goes on by itself."""
    def look(go_on=False):
        row, = node.ask("vm.disks", go_on=go_on)["vms"]
        return row
    homes = node.data / "homes"
    run("mount", "-t", "tmpfs", "-o", "size=2m", "qvd-test", homes)
    try:
        boot(node)
        row = look()
        # A home of which nothing is written yet; its system has no limit.
        assert row[4] < 1024 and row[5] == 64 * 1024
        assert row[2] == 0 and row[7] == 0
        with console(node) as s:
            # No zeros, which take no room.
            s.sendall(b"\nyes | dd of=/dev/vdb bs=64k count=48 conv=fsync "
                      b"iflag=fullblock && echo WRIT''TEN\n")
            eventually(lambda: look()[7], BOOT, "a paused machine")
            # Without room it stands still again.
            look(go_on=True)
            eventually(lambda: look()[7], BOOT, "a machine paused again")
            run("mount", "-o", "remount,size=64m", homes)
            assert look(go_on=True)[7]
            kvmguest.read_until(s.fileno(), b"WRITTEN")
        row = look(go_on=True)
        assert row[7] == 0 and row[4] >= 3 * 1024
    finally:
        node.remove_vms()
        run("umount", homes)


def test_screen(node):
    start(node)
    for _ in range(2):
        _, fd = node.ask_fd("vm.screen", vm_id=1)
        with socket.socket(fileno=fd) as s:
            s.settimeout(30)
            assert s.recv(12) == b"RFB 003.008\n"


def test_containers_have_none_of_this(node):
    for op in ("vm.screen", "vm.console", "vm.suspend"):
        assert fails(node, op, vm_id=5).id == "conflict"


def test_image_without_a_usable_disk(node):
    tree = node.dir / "bad"
    tree.mkdir()
    disk = tree / "disk.qcow2"

    def refusal(image_id):
        checksum = import_tree(node, tree, image_id)
        failed = fails(node, "vm.start", **node.spec(
            1, checksum, hypervisor="kvm", accel="tcg"))
        assert failed.id == "image-unusable" and not node.left(1)
        return failed.message
    try:
        (tree / "notes").write_text("x")
        assert "needs a kernel" in refusal(50)
        disk.write_bytes(b"\0" * 4096)
        assert "no qcow2" in refusal(51)
        # One that would show a file of the node to the guest.
        disk.unlink()
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b",
            "/etc/shadow", "-F", "raw", disk, "1M")
        assert "backing file" in refusal(52)
        disk.unlink()
        disk.symlink_to("/etc/shadow")
        refusal(53)
    finally:
        shutil.rmtree(tree)


def test_header_of_a_guests_disk_is_not_believed(node):
    """A QEMU that was taken over can write what lies below its disk."""
    boot(node)
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    root = node.data / "vms/1" / node.default / "root.qcow2"
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F",
        "raw", root)
    boot(node)
    assert "boot" in ask_guest(node, "cat /disk/boots")
    assert "passwd" not in ask_guest(node, "head -c 300 /dev/vda")


def test_network_is_confined(node):
    boot(node)
    boot(node, 2)
    port = json.loads(run(*node.in_net, "ip", "-d", "-j", "link", "show",
                          "dev", "qvd1"))[0]["linkinfo"]["info_slave_data"]
    # No other port, and the rules before what is for a bridge itself.
    assert port["isolated"] and int(port["group_fwd_mask"], 16) == 0xfffd
    with pytest.raises(AssertionError):
        run(*node.in_net, "ping", "-c1", "-W1", "10.88.0.99")
    assert run(*node.in_net, "ping", "-c1", "-W20", "10.88.0.3")
    # Not each other, not as somebody else.
    assert "100% packet loss" in ask_guest(node, "ping -c2 -W2 10.88.0.4")
    ask_guest(node, "ip addr add 10.88.0.77/16 dev eth0")
    with pytest.raises(AssertionError):
        run(*node.in_net, "ping", "-c1", "-W3", "10.88.0.77")
    said = ask_guest(node, "ip link set eth0 down; ip link set eth0 address "
                     "54:52:00:58:00:63; ip link set eth0 up; "
                     "ping -c2 -W2 10.88.0.1; echo over")
    assert "over" in said and "0 packets received" in said


@pytest.mark.once
def test_chatty_console_fills_nothing(node):
    pid = boot(node)[0]["pid"]
    with console(node) as s:
        s.sendall(b"\nyes 0123456789012345678901234567890123456789\n")
        for _ in range(40):
            kvmguest.read_until(s.fileno(), b"0123456789", 30)
    log = pathlib.Path(f"/proc/{pid}/root/log/console.log")
    assert log.stat().st_size <= 256 * 1024
    node.ask("vm.stop", vm_id=1, grace_ms=0)
