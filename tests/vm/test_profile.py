# SPDX-License-Identifier: GPL-3.0-or-later
"""AppArmor's profile for containers, enforced: tests/vm/conformance loads it,
so all of its tests live in it; here is what it forbids, beside the same
desktop without it."""

import contextlib
import pathlib

import pytest
from nodelab import Node, eventually, run
from qvdlab import TOP, Farm

PROFILE = TOP / "dist/apparmor/qvd-desktop"

# What nothing but the profile keeps a desktop's root from: done without it,
# refused with it. And what it may do in both.
TRY = """run :
try() { what=$1; shift; "$@" >/dev/null 2>&1 && echo $what; }
put() { echo "$1" >"$2"; }
{
	try kallsyms head -c1 /proc/kallsyms
	try keys cat /proc/keys
	try key-users cat /proc/key-users
	try profile put "changeprofile unconfined" /proc/self/attr/current
	try own-signal sh -c 'sleep 60 & kill $!'
	try own-files sh -c 'echo x >/tmp/x && mv /tmp/x /home/x && rm /home/x'
	try own-proc cat /proc/self/maps /proc/meminfo /proc/1/status
	try own-name put x /proc/self/comm
	try own-devices sh -c 'cat </dev/null >/dev/ptmx'
	try own-network ip -4 route get 10.88.0.1
	try own-sys cat /sys/class/net/eth0/address
} >/home/done.new
mv /home/done.new /home/done
"""
FORBIDDEN = {"kallsyms", "keys", "key-users", "profile"}
OWN = {"own-signal", "own-files", "own-proc", "own-name", "own-devices",
       "own-network", "own-sys"}


def parser(option):
    run("apparmor_parser", option, PROFILE)


def label(pid):
    return pathlib.Path(f"/proc/{pid}/attr/current").read_text().strip("\0\n")


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        node.setup()
        node.tries = node.image(TRY)
        yield node
        node.remove_vms()


def tried(node):
    """(AppArmor's word for its init, what it did)."""
    done = node.data / "homes/1/done"
    done.unlink(missing_ok=True)
    pid = node.vm(1, node.tries)[0]["pid"]
    eventually(done.exists, 60)
    found = label(pid), set(done.read_text().split())
    node.ask("vm.stop", vm_id=1, grace_ms=60000)
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)
    return found


def test_what_the_profile_forbids(node):
    assert node.setup()["apparmor"] == "on"
    try:
        parser("--remove")
        assert node.setup()["apparmor"] == "not-loaded"
        assert tried(node) == ("unconfined", FORBIDDEN | OWN)
    finally:
        parser("--replace")
    assert node.setup()["apparmor"] == "on"
    assert tried(node) == ("qvd-desktop (enforce)", OWN)


def test_all_that_a_desktop_runs_is_in_it(node):
    pid = node.vm(1, node.tries)[0]["pid"]
    eventually((node.data / "homes/1/done").exists, 60)
    pids = node.group_file(1, "cgroup.procs").read_text().split()
    assert str(pid) in pids
    found = set()
    for p in pids:
        with contextlib.suppress(FileNotFoundError):  # it has ended
            found.add(label(p))
    assert found == {"qvd-desktop (enforce)"}
    node.remove_vms()


def denials():
    """What the kernel said so far that the profile refused."""
    return [line for line in run("journalctl", "-q", "-k", "-o", "cat")
            .splitlines() if 'apparmor="DENIED"' in line
            and "qvd-desktop" in line]


def test_a_desktop_of_a_farm_lives_in_it():
    """With the real agent, which makes its user."""
    before = len(denials())
    with Farm(images=["busybox"]) as farm:
        assert "AppArmor's profile qvd-desktop" in farm.wait_event(
            "host.started")[1]
        farm.add_user("alice", "secret")
        vm = farm.add_vm("alice", "busybox")
        farm.qvd("vm", "start", vm)
        pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
        assert label(pid) == "qvd-desktop (enforce)"
        farm.qvd("vm", "stop", vm)
        farm.assert_clean(vm)
    assert denials()[before:] == []
