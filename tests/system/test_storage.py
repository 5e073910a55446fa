# SPDX-License-Identifier: GPL-3.0-or-later
"""Where homes and roots are kept: limits, growth, snapshots, locks, and that
nothing is left of them. Real containers with a stand-in for the agent; the
helper is asked directly."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import time

import pytest
from nodelab import MB, Failed, Node, eventually, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def storage_node(disk):
    with Node(disk=disk) as node:
        node.setup()
        node.default = node.image()
        yield node


@pytest.fixture(scope="module")
def ext4():
    yield from storage_node(None)


@pytest.fixture(scope="module")
def btrfs():
    yield from storage_node("btrfs")


@pytest.fixture(params=["image", "btrfs"])
def homes(request):
    """(node, kind of home) that can limit and snapshot."""
    node = request.getfixturevalue(
        "btrfs" if request.param == "btrfs" else "ext4")
    yield node, request.param
    leave(node)


@pytest.fixture
def node(ext4):
    yield ext4
    leave(ext4)


def leave(node):
    for vm in node.ask("vm.list")["vms"]:
        stop(node, vm)
    shutil.rmtree(node.data / "snapshots", ignore_errors=True)
    eventually(lambda: not loops(node), 10, "loop devices are left")


def stop(node, vm):
    node.ask("vm.stop", vm_id=vm, grace_ms=0)
    node.ask("vm.clean", vm_id=vm)


def loops(node):
    """Loop devices on files of the node, but its own disk's."""
    found = []
    for f in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            name = f.read_text().strip()
            if name.startswith(f"{node.dir}/") and name != str(
                    node.dir / "disk"):
                found.append(f"{f.parent.parent.name} {name}")
    return found


def fails(node, op, **args):
    with pytest.raises(Failed) as e:
        node.ask(op, **args)
    return e.value


class Home:
    """A VM's home as the desktop in it sees it."""

    def __init__(self, node, vm, kind, **more):
        self.node, self.vm = node, vm
        spec = {"home_store": kind, **more}
        self.result, self.pidfd = node.vm(vm, node.default, **spec)
        self.pid = self.result["pid"]

    def sh(self, script, check=True):
        return self.node.inside(self.pid, "/bin/sh", "-c", script,
                                check=check)

    def facts(self):
        return self.result["home"]


def fill(home, mb, name="big"):
    """The error, or "" if there was room."""
    return home.sh(f"dd if=/dev/zero of=/home/{name} bs=1M count={mb} "
                   "2>&1 >/dev/null && sync || true")


def test_full_home_is_felt_there_only(homes):
    node, kind = homes
    home = Home(node, 1, kind, home_mb=40)
    facts = home.facts()
    assert facts["store"] == kind and facts["size_mb"] == 40
    assert 0 <= facts["used_mb"] < 20
    other = Home(node, 2, kind, home_mb=40)
    said = fill(home, 60)
    assert "No space left" in said or "quota" in said.lower(), said
    # Root and neighbour have room; the home can be emptied and used again.
    home.sh("dd if=/dev/zero of=/var/big bs=1M count=50 && rm /var/big")
    assert "error" not in fill(other, 20)
    home.sh("rm /home/big; sync")
    fill(home, 10, "again")
    home.sh("test $(stat -c %s /home/again) = 10485760")


def disks(node, vm):
    """How full (system, home) of it are, in percent; None: no limit."""
    row, = (r for r in node.ask("vm.disks")["vms"] if r[0] == vm)
    assert row[7] == 0  # what is paused is a machine
    return [100 * used // size if size else None
            for used, size in (row[1:3], row[4:6])]


def test_what_is_full_is_seen(homes):
    """... of what has a limit; and what is frozen is left alone."""
    node, kind = homes
    home = Home(node, 6, kind, home_mb=40, root_mb=40)
    Home(node, 7, kind, home_mb=40)
    system, used = disks(node, 6)
    assert system < 60 and used < 60
    fill(home, 60)
    assert disks(node, 6)[1] >= 90
    home.sh("rm /home/big; sync; dd if=/dev/zero of=/var/big bs=1M count=60; "
            "sync", check=False)
    system, used = disks(node, 6)
    assert system >= 90 and used < 60
    assert disks(node, 7)[0] is None and disks(node, 7)[1] < 60
    node.ask("vm.freeze", vm_id=6)
    assert [r[0] for r in node.ask("vm.disks")["vms"]] == [7]
    node.ask("vm.thaw", vm_id=6)


def test_home_is_the_desktops(homes):
    """Owned by its root, nothing of the machinery in it, kept over runs."""
    node, kind = homes
    home = Home(node, 3, kind, home_mb=40)
    assert home.sh("stat -c '%u %g %a' /home; ls -a /home").split() == [
        "0", "0", "755", ".", ".."]
    home.sh("echo kept >/home/file; chown 1000:1000 /home/file")
    stop(node, 3)
    home = Home(node, 3, kind, home_mb=40, idmap_slot=7)
    assert home.sh("cat /home/file; stat -c '%u %g' /home/file").split() == [
        "kept", "1000", "1000"]
    flags = home.sh("grep ' /home ' /proc/mounts").split()[3].split(",")
    assert {"nosuid", "nodev"} <= set(flags)


def test_grows_with_the_next_start(homes):
    node, kind = homes
    home = Home(node, 4, kind, home_mb=40)
    home.sh("echo kept >/home/file")
    stop(node, 4)
    home = Home(node, 4, kind, home_mb=120)
    assert home.facts()["size_mb"] == 120
    fill(home, 80)
    assert home.sh("cat /home/file; stat -c %s /home/big").split() == [
        "kept", str(80 * MB)]


def test_two_vms_cant_have_one_home(homes):
    """A second house-keeper on the same data directory: the kernel holds the
    lock, whatever the second one believes."""
    node, kind = homes
    home = Home(node, 5, kind, home_mb=40)
    home.sh("echo mine >/home/file")
    with Node() as second:
        second.data.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", node.data, second.data)
        try:
            second.setup()
            e = fails(second, "vm.start", **second.spec(
                5, node.default, home_store=kind, home_mb=40))
            assert e.id == "conflict" and "home of VM 5 is in use" in e.message
            assert home.sh("cat /home/file") == "mine\n"
            stop(node, 5)
            _, pidfd = second.vm(5, node.default, home_store=kind, home_mb=40)
            e = fails(node, "vm.start", **node.spec(
                5, node.default, home_store=kind, home_mb=40))
            assert e.id == "conflict", e
            os.close(pidfd)
            stop(second, 5)
        finally:
            second.stop()
            run("umount", "-l", second.data)


def test_stop_and_start_at_once(homes):
    """The last run's namespace may still be going when the next begins."""
    node, kind = homes
    for _ in range(5):
        Home(node, 6, kind, home_mb=40)
        stop(node, 6)


def test_killing_everything_leaves_nothing(homes):
    node, kind = homes
    for vm in (7, 8):
        Home(node, vm, kind, home_mb=40).sh("echo kept >/home/file; sync")
    pids = node.pids()
    node.kill()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not loops(node), 10, "loop devices are left")
    assert not re.search(f"^qvd-home .*{node.dir}", pathlib.Path(
        "/proc/mounts").read_text(), re.M)
    node.start()
    node.setup()
    for vm in (7, 8):
        stop(node, vm)
        assert not node.left(vm)
    assert Home(node, 7, kind, home_mb=40).sh("cat /home/file") == "kept\n"


def test_killed_while_it_is_made(node):
    """No half-made home is ever used."""
    for i in range(8):
        ask = node.send("vm.start", **node.spec(
            9, node.default, home_store="image", home_mb=64))
        time.sleep(0.004 * i)
        node.cancel(ask)  # and so has no answer
        stop(node, 9)
        assert not node.left(9)
    Home(node, 9, "image", home_mb=64).sh("echo >/home/file")


def test_auto_is_by_limit(node):
    assert Home(node, 10, "auto").facts() == {
        "store": "directory", "size_mb": 0, "used_mb": -1}
    assert Home(node, 11, "auto", home_mb=40).facts()["store"] == "image"
    assert (node.data / "homes/10").is_dir()
    assert (node.data / "homes/11.img").is_file()


def test_what_is_there_stays(node):
    """The choice is for new homes."""
    Home(node, 12, "image", home_mb=40).sh("echo kept >/home/file")
    stop(node, 12)
    home = Home(node, 12, "directory", home_mb=40)
    assert home.sh("cat /home/file") == "kept\n"
    assert home.facts()["store"] == "image"


@pytest.mark.parametrize("kind,mb,words", [
    ("btrfs", 40, "is not on a btrfs file system"),
    ("project", 40, "project quota"),
    ("directory", 40, "has no limit"),
    ("image", 0, "an image needs a size"),
])
def test_wrong_choice_says_what_is_missing(node, kind, mb, words):
    e = fails(node, "vm.start", **node.spec(
        13, node.default, home_store=kind, home_mb=mb))
    assert e.id == "configuration" and words in e.message, e
    assert "home: " in e.message
    assert not node.left(13)
    assert not list((node.data / "homes").glob("13*")) or \
        [p.name for p in (node.data / "homes").glob("13*")] == ["13.lock"]


def test_limit_on_a_directory_that_is_there(node):
    Home(node, 14, "auto").sh("echo kept >/home/file")
    stop(node, 14)
    e = fails(node, "vm.start", **node.spec(
        14, node.default, home_store="auto", home_mb=40))
    assert e.id == "configuration" and "qvd home convert" in e.message, e


def test_space_is_given_back(node):
    """What is deleted in a home is free on the node's disk."""
    home = Home(node, 15, "image", home_mb=100)
    file = node.data / "homes/15.img"
    fill(home, 60)
    assert file.stat().st_blocks * 512 > 60 * MB
    home.sh("rm /home/big; sync")
    run("sync", "-f", file)
    eventually(lambda: file.stat().st_blocks * 512 < 30 * MB, 20)


USUAL = {"home_store": "directory", "root_store": "overlay", "root_mb": 0}


def test_no_room_for_a_new_home():
    with Node(disk="ext4", disk_mb=90, disk_inodes=20000) as n:
        n.setup()
        checksum = n.image()
        with (n.data / "fill").open("wb") as f:
            with contextlib.suppress(OSError):
                while os.statvfs(n.data).f_bavail * 4096 > 40 * MB:
                    f.write(bytes(MB))
                    f.flush()
        e = fails(n, "vm.start", **n.spec(
            1, checksum, home_store="image", home_mb=1000))
        assert e.id == "no-space" and "MiB left" in e.message, e
        assert not n.left(1)


def test_no_room_for_any_choice():
    """A choice that nothing can be begun with says so before a start."""
    with Node(disk="btrfs", disk_mb=200) as n:
        n.setup()
        choices = [{"home_store": "btrfs"}, {"home_store": "image"},
                   {"root_store": "btrfs"}, {"root_mb": 100}]
        for choice in choices:
            n.ask("storage.check", **{**USUAL, **choice})
        with (n.data / "fill").open("wb") as f:
            with contextlib.suppress(OSError):
                while os.statvfs(n.data).f_bavail * 4096 > 40 * MB:
                    f.write(os.urandom(MB))
                    os.fsync(f.fileno())
        for choice in choices:
            e = fails(n, "storage.check", **{**USUAL, **choice})
            assert e.id == "no-space" and "MiB left" in e.message, e
        n.ask("storage.check", **USUAL)


def snapshots(answer):
    return sorted(s["name"] for s in answer["snapshots"])


def test_snapshot_and_restore(homes):
    node, kind = homes
    home = Home(node, 16, kind, home_mb=40)
    home.sh("echo one >/home/file; mkdir /home/d; chown 1000 /home/d")
    stop(node, 16)
    done = node.ask("home.snapshot", vm_id=16, name="monday")
    assert done["store"] == kind and snapshots(done) == ["monday"]
    assert done["snapshots"][0]["at"].startswith("20")
    home = Home(node, 16, kind, home_mb=40)
    home.sh("echo two >/home/file; rm -r /home/d; echo >/home/new")
    e = fails(node, "home.restore", vm_id=16, name="monday")
    assert e.id == "conflict" and "stop the VM first" in e.message, e
    stop(node, 16)
    e = fails(node, "home.restore", vm_id=16, name="tuesday")
    assert e.id == "not-found", e
    node.ask("home.restore", vm_id=16, name="monday")
    home = Home(node, 16, kind, home_mb=40)
    assert home.sh("cat /home/file; stat -c %u /home/d; ls /home"
                   ).split() == ["one", "1000", "d", "file"]
    # The limit holds for what was restored.
    said = fill(home, 60)
    assert "No space left" in said or "quota" in said.lower(), said
    stop(node, 16)
    e = fails(node, "home.snapshot", vm_id=16, name="monday")
    assert e.id == "conflict" and "already" in e.message, e
    assert snapshots(node.ask("home.forget", vm_id=16, name="monday")) == []
    assert fails(node, "home.forget", vm_id=16,
                 name="monday").id == "not-found"


def test_snapshot_of_a_running_desktop(homes):
    node, kind = homes
    home = Home(node, 17, kind, home_mb=40)
    home.sh("echo one >/home/file")
    if kind == "image":  # the disk of the tests shares no extents
        e = fails(node, "home.snapshot", vm_id=17, name="live")
        assert e.id == "conflict" and "stop the VM first" in e.message, e
        assert not list((node.data / "snapshots/17").glob("*"))
        return
    node.ask("home.snapshot", vm_id=17, name="live")
    home.sh("echo two >/home/file")
    stop(node, 17)
    node.ask("home.restore", vm_id=17, name="live")
    assert Home(node, 17, kind, home_mb=40).sh("cat /home/file") == "one\n"


def test_image_on_btrfs_is_snapshotted_while_it_runs(btrfs):
    node = btrfs
    home = Home(node, 18, "image", home_mb=40)
    home.sh("echo one >/home/file")
    node.ask("home.snapshot", vm_id=18, name="live")
    home.sh("echo two >/home/file; sync")
    stop(node, 18)
    node.ask("home.restore", vm_id=18, name="live")
    assert Home(node, 18, "image", home_mb=40).sh("cat /home/file") == "one\n"
    leave(node)


def may_grow_mounted():
    """ext4 wants CAP_SYS_RESOURCE of who enlarges it."""
    status_ = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"CapEff:\s+(\w+)", status_)[1], 16) >> 24 & 1


def test_grows_while_it_runs(homes):
    node, kind = homes
    home = Home(node, 19, kind, home_mb=40)
    fill(home, 60)
    if kind == "image" and not may_grow_mounted():
        e = fails(node, "home.grow", vm_id=19, size_mb=120)
        assert e.id == "configuration" and "CAP_SYS_RESOURCE" in e.message
        stop(node, 19)
        assert node.ask("home.grow", vm_id=19, size_mb=120)["size_mb"] == 120
        home = Home(node, 19, kind, home_mb=40)
    else:
        assert node.ask("home.grow", vm_id=19, size_mb=120)["size_mb"] == 120
    home.sh("rm /home/big; sync")
    fill(home, 80)
    assert home.sh("stat -c %s /home/big") == f"{80 * MB}\n"
    e = fails(node, "home.grow", vm_id=19, size_mb=60)
    assert e.id == "bad-parameter" and "only grow" in e.message, e
    # df in the desktop: an image's own, the whole disk's with btrfs.
    if kind == "image":
        df = home.sh("df -m /home").splitlines()[-1].split()
        assert 90 < int(df[1]) <= 120, df


@pytest.mark.parametrize("to", ["image", "btrfs"])
def test_convert(btrfs, to):
    node = btrfs
    home = Home(node, 20, "directory")
    home.sh("echo kept >/home/file; mkdir /home/d; ln /home/file /home/d/f; "
            "chown 1000:1000 /home/file")
    e = fails(node, "home.convert", vm_id=20, home_store=to, size_mb=40)
    assert e.id == "conflict", e
    stop(node, 20)
    done = node.ask("home.convert", vm_id=20, home_store=to, size_mb=40)
    assert (done["store"], done["size_mb"]) == (to, 40)
    home = Home(node, 20, to, home_mb=40)
    assert home.sh("cat /home/file; stat -c '%u %g %h' /home/d/f").split() == [
        "kept", "1000", "1000", "2"]
    stop(node, 20)
    node.ask("home.snapshot", vm_id=20, name="s")
    e = fails(node, "home.convert", vm_id=20, home_store="directory")
    assert e.id == "conflict" and "snapshots" in e.message
    node.ask("home.forget", vm_id=20, name="s")
    node.ask("home.convert", vm_id=20, home_store="directory")
    assert Home(node, 20, "auto").sh("cat /home/file") == "kept\n"
    leave(node)


def subvolumes(top):
    """In it, others below others, one of them for reading only."""
    for path in ("one", "one/two", "one/two/three"):
        run("btrfs", "-q", "subvolume", "create", top / path)
    (top / "one/two/three/file").write_text("there")
    run("btrfs", "-q", "subvolume", "snapshot", "-r", top / "one/two/three",
        top / "frozen")


def test_subvolumes_in_a_volume_go_with_it(btrfs):
    node = btrfs
    checked_out(node, node.default)
    more = {"home_store": "btrfs", "home_mb": 40, "volatile": True,
            "root_store": "btrfs"}
    node.vm(27, node.default, **more)
    subvolumes(node.data / "homes/27")
    subvolumes(node.data / "vms/27/volatile/root")
    stop(node, 27)
    assert not (node.data / "vms/27/volatile").exists()
    node.ask("home.convert", vm_id=27, home_store="image", size_mb=40)
    assert not (node.data / "homes/27").exists()
    leave(node)


def test_desktop_makes_no_subvolumes(btrfs):
    """They would not count in its limit."""
    node = btrfs
    image = node.image("run /usr/lib/qvd/qvd-vma subvolume /home "
                       ">/home/said; mv /home/said /home/done", image_id=3)
    node.vm(28, image, home_store="btrfs", home_mb=40)
    done = node.data / "homes/28/done"
    eventually(done.exists, 30, "the desktop's program doesn't end")
    refused = "Operation not permitted"
    said = [line.split(" ", 1) for line in done.read_text().splitlines()]
    assert said == [[what, refused] for what in
                    ("create", "create", "create2", "create2", "snapshot",
                     "snapshot", "snapshot2", "snapshot2")] + [
                         ["terminal", "Inappropriate ioctl for device"]] * 2
    leave(node)


def test_killed_snapshot_does_not_block(btrfs):
    node = btrfs
    for kind in ("image", "btrfs"):
        Home(node, 29, kind, home_mb=40).sh("echo kept >/home/file")
        stop(node, 29)
        left = node.data / "snapshots/29"
        left.mkdir(parents=True)
        if kind == "btrfs":
            run("btrfs", "-q", "subvolume", "snapshot", node.data / "homes/29",
                left / "s.new")
        else:
            (left / "s.img.new").write_text("half of it")
        node.ask("home.convert", vm_id=29, home_store="directory")
        assert not left.exists()
        assert (node.data / "homes/29/file").read_text() == "kept\n"
        run("rm", "-r", node.data / "homes/29")


def test_subvolumes_of_collected_images(btrfs):
    node = btrfs
    gone = node.image("gone", image_id=4)
    for image in (gone, node.default):
        checked_out(node, image)
    tops = node.data / "images/subvolumes"
    Home(node, 30, "auto", root_store="btrfs").sh("echo mine >/etc/mark")
    node.ask("image.gc", gone=[4], dry_run=True)
    assert (tops / gone).exists()
    node.ask("image.gc", gone=[4], dry_run=False)
    assert not (tops / gone).exists() and (tops / node.default).exists()
    stop(node, 30)
    assert Home(node, 30, "auto").sh("cat /etc/mark") == "mine\n"
    leave(node)


def test_names_of_snapshots_are_checked(node):
    Home(node, 21, "image", home_mb=40)
    stop(node, 21)
    for name in ("../x", "a/b", "", ".x", "x.new", "x.img", "y" * 65):
        e = fails(node, "home.snapshot", vm_id=21, name=name)
        assert e.id == "bad-parameter", e
    assert fails(node, "home.snapshot", vm_id=21).id == "bad-parameter"
    assert fails(node, "home.look", vm_id=99).id == "not-found"


def checked_out(node, checksum):
    node.ask("image.checkout", checksum=checksum, root_store="btrfs")


def test_btrfs_roots(btrfs):
    node = btrfs
    checked_out(node, node.default)
    tree = node.data / "images/subvolumes" / node.default

    def start(vm, **more):
        return Home(node, vm, "auto", root_store="btrfs", **more)
    one, two = start(22, root_mb=40), start(23)
    assert one.sh("stat -c '%u %g' /bin/busybox").split() == ["0", "0"]
    one.sh("echo mine >/etc/mark; rm /etc/tiny")
    assert not (tree / "etc/mark").exists() and (tree / "etc/tiny").exists()
    two.sh("test ! -e /etc/mark && test -e /etc/tiny")
    said = one.sh("dd if=/dev/zero of=/var/big bs=1M count=60 2>&1; sync; "
                  "rm -f /var/big", check=False)
    assert "No space left" in said or "quota" in said.lower(), said
    # Persistent, and of the kind that it is.
    stop(node, 22)
    assert Home(node, 22, "auto").sh("cat /etc/mark") == "mine\n"
    stop(node, 22)
    volatile = start(24, volatile=True)
    volatile.sh("echo mine >/etc/mark")
    stop(node, 24)
    assert not (node.data / "vms/24/volatile").exists()
    assert "1" == start(24, volatile=True).sh(
        "test -e /etc/mark; echo $?").strip()
    leave(node)


def test_commit_of_a_btrfs_root(btrfs):
    node = btrfs
    checked_out(node, node.default)
    vm = Home(node, 35, "auto", root_store="btrfs")
    vm.sh("echo mine >/etc/mark; chown 7 /etc/mark; rm /etc/tiny; "
          "echo id >/etc/machine-id; echo passing >/tmp/passing")
    stop(node, 35)
    done = node.ask("image.commit", image_id=35, vm_id=35, base=node.default,
                    idmap_slot=0, author="test", message="", version="35")
    node.ask("image.checkout", checksum=done["checksum"])
    trees = node.data / "images/trees"
    new, old = trees / done["checksum"], trees / node.default
    assert (new / "etc/mark").read_text() == "mine\n"
    assert (new / "etc/mark").stat().st_uid == 7
    assert not (new / "etc/tiny").exists()
    for same in ("etc/machine-id", "tmp/passing", "usr/lib/qvd/qvd-vma"):
        assert (new / same).exists() == (old / same).exists(), same
    node.ask("image.verify", checksum=done["checksum"])
    leave(node)


def test_btrfs_root_elsewhere(node):
    e = fails(node, "image.checkout", checksum=node.default,
              root_store="btrfs")
    assert e.id == "configuration" and "not on a btrfs" in e.message, e
    e = fails(node, "vm.start", **node.spec(
        25, node.default, root_store="btrfs"))
    assert e.id == "configuration" and "not on a btrfs" in e.message, e
    e = fails(node, "storage.check", root_store="btrfs", home_store="auto")
    assert "node.storage.root is 'btrfs'" in e.message
    e = fails(node, "storage.check", root_store="overlay", home_store="btrfs")
    assert "node.storage.home is 'btrfs'" in e.message
    node.ask("storage.check", root_store="overlay", home_store="auto")
    assert not node.left(25)


def too_much(vm, mb):
    """What dd says that fills the desktop's system, and empties it again."""
    return vm.sh(f"dd if=/dev/zero of=/var/big bs=1M count={mb} 2>&1; sync; "
                 "rm -f /var/big", check=False)


def test_limit_of_an_overlay(node):
    vm = Home(node, 31, "auto", root_mb=40)
    assert "No space left" in too_much(vm, 60)
    vm.sh("echo mine >/etc/mark; rm /etc/tiny; mv /usr /usb")
    assert "error" not in too_much(Home(node, 32, "auto"), 60)
    stop(node, 31)
    # It is kept without a setting, and grows with it.
    vm = Home(node, 31, "auto")
    assert "No space left" in too_much(vm, 60)
    stop(node, 31)
    vm = Home(node, 31, "auto", root_mb=100)
    assert "No space left" not in too_much(vm, 60)
    assert vm.sh("cat /etc/mark; ls -d /etc/tiny /usb 2>/dev/null",
                 check=False).split() == ["mine", "/usb"]
    stop(node, 31)
    done = node.ask("image.commit", image_id=5, vm_id=31, base=node.default,
                    idmap_slot=0, author="test", message="", version="5")
    node.ask("image.checkout", checksum=done["checksum"])
    tree = node.data / "images/trees" / done["checksum"]
    assert (tree / "etc/mark").read_text() == "mine\n"
    assert (tree / "usb").is_dir() and not (tree / "etc/tiny").exists()
    volatile = Home(node, 33, "auto", root_mb=40, volatile=True)
    assert "No space left" in too_much(volatile, 60)
    stop(node, 33)
    assert not (node.data / "vms/33/volatile").exists()


def test_changes_move_under_a_limit(node):
    """... when it is set later; or the start says that they don't fit."""
    vm = Home(node, 34, "auto")
    vm.sh("echo mine >/etc/mark; rm /etc/tiny; mv /usr /usb; "
          "chown 1000 /etc/mark; dd if=/dev/zero of=/var/big bs=1M count=60")
    stop(node, 34)
    changes = node.data / "vms/34" / node.default
    e = fails(node, "vm.start", **node.spec(34, node.default, root_mb=40))
    assert "under the limit of 40 MiB" in e.message, e
    assert "No space left" in e.message, e
    assert (changes / "upper/var/big").stat().st_size == 60 * MB
    vm = Home(node, 34, "auto", root_mb=100)
    assert not (changes / "upper").exists()
    assert vm.sh("cat /etc/mark; stat -c %u /etc/mark; "
                 "ls -d /etc/tiny /usb 2>/dev/null",
                 check=False).split() == ["mine", "1000", "/usb"]
    assert "No space left" in too_much(vm, 110)


def test_old_changes_are_collected(node, kind="overlay"):
    """Changes wait for the return of their version, but not for ever."""
    second = node.image("again", image_id=2)
    Home(node, 26, "auto").sh("echo first >/etc/mark")
    stop(node, 26)
    first, node.default = node.default, second
    try:
        Home(node, 26, "auto").sh("test ! -e /etc/mark")
    finally:
        node.default = first
    dirs = node.data / "vms/26"

    def collect(keep_ms):
        return node.ask("storage.collect", vm_id=26, keep=second,
                        keep_ms=keep_ms)["removed"]
    assert collect(3600 * 1000) == 0 and len(list(dirs.iterdir())) == 2
    os.utime(dirs / first, (0, 0))
    os.utime(dirs / second, (0, 0))  # runs from it: stays all the same
    assert collect(3600 * 1000) == 1
    assert [d.name for d in dirs.iterdir()] == [second]
    # What a killed one had begun to remove.
    (dirs / f"{first}.old/upper").mkdir(parents=True)
    assert collect(3600 * 1000) == 1
    assert fails(node, "storage.collect", vm_id=26, keep="../x",
                 keep_ms=1).id == "bad-parameter"
