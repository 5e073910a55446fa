# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of the node's that a desktop can't open. No cgroup forbids them
(v2 has no controller for it): its mounts do, all of which ignore device
files, and its user namespace, in which nobody may make any."""

import os
import stat

import pytest
from nodelab import Node, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Made for every container, one mount each or terminals of its own.
USUAL = {"/dev/" + name for name in (
    "console", "full", "null", "ptmx", "pts/ptmx", "random", "tty", "urandom",
    "zero")}

# What its root tries; each that is done is a line of /home/did.
TRY = """did() { what=$1; shift; "$@" 2>/dev/null && echo "$what" >>/home/did; }
did nothing true
for d in / /tmp /home /dev /dev/shm /run /run/qvd; do
	did "made in $d" mknod $d/x$$ b 254 0
	did "made in $d, namespaced" unshare -U -r mknod $d/y$$ c 1 3
done
did "opened the root's" head -c1 /forged
did "opened the home's" head -c1 /home/forged
did "took nodev from home" mount -o remount,bind,dev /home
did "took nodev from /" mount -o remount,bind,dev /
did "mounted devtmpfs" mount -t devtmpfs d /tmp
did "mounted and made" sh -c 'mount -t tmpfs t /tmp && mknod /tmp/z c 1 3'
echo >/home/end
"""


@pytest.fixture(scope="module", params=["overlay", "btrfs"])
def node(request):
    disk = "btrfs" if request.param == "btrfs" else None
    with Node(disk=disk) as node:
        node.setup()
        node.root_store = request.param
        node.tries = node.image("run " + TRY)
        if request.param == "btrfs":
            node.ask("image.checkout", checksum=node.tries,
                     root_store="btrfs")
        yield node
        node.remove_vms()


def forge(folder):
    """A device file, as a restored backup might bring it. Of /dev/zero, so
    that whoever may open it can read it."""
    path = folder / "forged"
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    path.chmod(0o666)
    with path.open("rb") as f:
        assert f.read(1) == b"\0"


def test_device_files_are_none(node):
    options = {"root_store": node.root_store}
    home = node.data / "homes/1"
    node.vm(1, node.tries, **options)
    eventually((home / "end").exists, 60)
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    root, = (node.data / "vms/1").glob(
        "*/root" if node.root_store == "btrfs" else "*/upper")
    forge(root)
    forge(home)
    for name in ("end", "did"):
        (home / name).unlink()
    pid = node.vm(1, node.tries, **options)[0]["pid"]
    eventually((home / "end").exists, 60)
    assert (home / "did").read_text() == "nothing\n"
    # Also with all capabilities in there and no filter of system calls, which
    # is how we come in.
    node.inside(pid, "/bin/sh", "-c", "rm /home/end /home/did; " + TRY)
    assert (home / "end").exists()
    assert (home / "did").read_text() == "nothing\n"
    found = node.inside(pid, "/bin/sh", "-c",
                        "find / '(' -path /proc -o -path '/dev/pts/[0-9]*' ')' "
                        "-prune -o '(' -type b -o -type c ')' -print")
    assert set(found.split()) - USUAL == {"/forged", "/home/forged"}


def test_an_image_brings_no_device(node):
    def disk(tree):
        os.mknod(tree / "disk", 0o666 | stat.S_IFBLK, os.makedev(254, 0))
    odd = node.image(image_id=2, extra=disk)
    tree = node.data / "images/trees" / odd
    assert (tree / "bin").is_dir() and not os.path.lexists(tree / "disk")
