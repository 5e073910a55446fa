# SPDX-License-Identifier: GPL-3.0-or-later
"""Desktops that nobody uses: put to sleep, seen asleep, woken by whoever
needs them. The node has no swap here, so only pages of files are given back;
bench/density measures the rest."""

import os
import pathlib
import re
import signal
import time

import pytest
from qvdlab import eventually, need

import nodelab


# The helper alone

@pytest.fixture(scope="module")
def node():
    need("root", "containers")
    with nodelab.Node() as n:
        n.setup()
        n.checksum = n.image()
        yield n


def frozen(node, vm_id):
    path, = [g for g in node.groups() if g.parts[-2:] == ("ct", str(vm_id))
             and (g / "cgroup.events").exists()]
    return "frozen 1" in (path / "cgroup.events").read_text()


def test_freeze_and_thaw(node):
    answer, pidfd = node.vm(1, node.checksum)
    node.connect(1).close()
    done = node.ask("vm.freeze", vm_id=1)
    assert frozen(node, 1)
    assert done["before_kb"] > 0 and done["after_kb"] <= done["before_kb"]
    assert done["freeze_ms"] >= 0 and done["reclaim_ms"] >= 0
    if len(pathlib.Path("/proc/swaps").read_text().splitlines()) == 1:
        assert done["note"] == "the node has no swap"
    assert node.ask("vm.adopt", vm_id=1, idmap_slot=0,
                    address="10.88.0.3")["frozen"] is True
    usage, = [u for u in node.ask("vm.usage")["vms"] if u[0] == 1]
    assert usage[1] == 1 and usage[2] >= 1, usage
    node.ask("vm.thaw", vm_id=1)
    assert not frozen(node, 1)
    assert node.ask("vm.adopt", vm_id=1, idmap_slot=0,
                    address="10.88.0.3")["frozen"] is False
    # It lives.
    assert node.inside(answer["pid"], "/bin/busybox", "echo", "x") == "x\n"
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    os.close(pidfd)


@pytest.mark.parametrize("how", ["stop", "kill", "clean"])
def test_frozen_vm_ends(node, how):
    """Asked, killed from outside, or just removed: nothing is left."""
    answer, pidfd = node.vm(2, node.checksum)
    node.ask("vm.freeze", vm_id=2)
    assert frozen(node, 2)
    if how == "stop":
        # Long enough that a kill would be seen as one: it hears the signal.
        began = time.monotonic()
        node.ask("vm.stop", vm_id=2, grace_ms=60000)
        assert time.monotonic() - began < 50
    elif how == "kill":
        os.kill(answer["pid"], signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{answer['pid']}"))
    node.ask("vm.clean", vm_id=2)
    assert node.left(2) == []
    os.close(pidfd)


def test_freeze_taken_back(node):
    """However far it was, the thaw comes after it."""
    _, pidfd = node.vm(3, node.checksum)
    for i in range(8):
        ask = node.send("vm.freeze", vm_id=3)
        time.sleep(0.003 * i)
        node.cancel(ask)
        node.ask("vm.thaw", vm_id=3)
        # What was asked of it before has ended when this is answered.
        node.ask("vm.limits", vm_id=3)
        assert not frozen(node, 3)
    node.ask("vm.stop", vm_id=3, grace_ms=0)
    node.ask("vm.clean", vm_id=3)
    os.close(pidfd)


def test_no_such_vm(node):
    for op in ("vm.freeze", "vm.thaw"):
        with pytest.raises(nodelab.Failed, match="cgroup.freeze"):
            node.ask(op, vm_id=99)
        with pytest.raises(nodelab.Failed, match="vm_id"):
            node.ask(op, vm_id=0)


# In a farm

def suspend(farm, screen):
    """The user comes and goes."""
    client = farm.client("--vm", farm.vm, display=screen)
    farm.wait_vm(farm.vm, session="connected")
    client.terminate()
    client.wait(timeout=30)
    farm.wait_vm(farm.vm, session="suspended")


def hibernated(farm, wanted=True):
    farm.wait_sql("qvd_vm_runtimes", "SELECT (hibernated_at IS NOT NULL) = %s "
                  "FROM vm_runtimes WHERE vm_id = %s", wanted, farm.vm,
                  timeout=90, what=f"hibernated: {wanted}")


def kernel_says(farm):
    path = nodelab.UNIFIED / farm.id / "ct" / str(farm.vm)
    return (path / "cgroup.freeze").read_text().strip() == "1"


@pytest.fixture
def asleep(desktop, screen):
    """A desktop whose user went, hibernated."""
    desktop.qvd("osf", "set", "demo", "--idle-after", "1s")
    suspend(desktop, screen)
    hibernated(desktop)
    desktop.qvd("osf", "set", "demo", "--idle-after", "0")
    yield desktop
    desktop.qvd("vm", "stop", desktop.vm)
    desktop.wait_vm(desktop.vm, state="stopped")
    desktop.assert_clean(desktop.vm)


def test_sleeps_and_wakes_for_its_user(asleep, screen):
    farm = asleep
    assert kernel_says(farm)
    name, text, _ = farm.wait_event("vm.hibernated", farm.vm)
    assert re.search(r"hibernated after \d+ s without its user: [\d.]+ MiB, "
                     r"now [\d.]+ MiB", text), text
    assert farm.qvd("vm", "show", farm.vm, json=True)["hibernated_at"]
    top = farm.qvd("host", "top", json=True)
    vm, = [v for v in top["vms"] if v["vm_id"] == farm.vm]
    assert vm["hibernated"] and vm["pss_kb"] > 0
    # The client sees nothing of it: its session is resumed.
    agent = farm.one("SELECT count(*) FROM events WHERE vm_id = %s "
                     "AND name = 'session.connected'", farm.vm)
    client = farm.client("--vm", farm.vm, display=screen)
    farm.wait_vm(farm.vm, session="connected")
    hibernated(farm, False)
    assert not kernel_says(farm)
    _, text, error = farm.wait_event("vm.woken", farm.vm)
    assert text.startswith("woken for its user after ") and error is None
    _, text, _ = farm.wait_event("session.connected", farm.vm,
                                 count=agent + 1)
    assert "resumed in" in text
    client.terminate()
    client.wait(timeout=30)
    farm.wait_vm(farm.vm, session="suspended")


def test_frozen_through_deadlines(asleep, screen):
    """Longer than the agent's stream may be silent, and than the agent may
    take to answer."""
    time.sleep(12)
    pid = asleep.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", asleep.vm)
    client = asleep.client("--vm", asleep.vm, display=screen)
    asleep.wait_vm(asleep.vm, session="connected")
    assert pid == asleep.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s",
                             asleep.vm)
    client.terminate()
    client.wait(timeout=30)
    asleep.wait_vm(asleep.vm, session="suspended")


def test_stops_in_order(asleep):
    count = asleep.event_names(asleep.vm).count("vm.woken")
    asleep.qvd("vm", "stop", asleep.vm)
    asleep.wait_vm(asleep.vm, state="stopped")
    _, text, _ = asleep.wait_event("vm.woken", asleep.vm, count=count + 1)
    assert text.startswith("woken to be stopped")
    assert asleep.one("SELECT error_id FROM vm_runtimes WHERE vm_id = %s",
                      asleep.vm) is None


def test_dies_asleep(asleep):
    pid = asleep.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", asleep.vm)
    os.kill(pid, signal.SIGKILL)
    asleep.wait_vm(asleep.vm, state="stopped")
    assert asleep.one("SELECT error_id FROM vm_runtimes WHERE vm_id = %s",
                      asleep.vm) == "vm-lost"
    assert asleep.one("SELECT hibernated_at FROM vm_runtimes "
                      "WHERE vm_id = %s", asleep.vm) is None


@pytest.mark.parametrize("who", [("qvd-hkd-main", "main"),
                                 ("qvd-hkd", None)], ids=["main", "root"])
def test_adopted_asleep(asleep, screen, who):
    farm = asleep
    count = farm.event_names(farm.vm).count("vm.adopted")
    farm.kill(*who)
    _, text, _ = farm.wait_event("vm.adopted", farm.vm, count=count + 1)
    assert "running, hibernated," in text
    farm.wait_sql("qvd_hosts", "SELECT state = 'running' FROM host_runtimes")
    assert kernel_says(farm)
    hibernated(farm)
    client = farm.client("--vm", farm.vm, display=screen)
    farm.wait_vm(farm.vm, session="connected")
    hibernated(farm, False)
    # Its agent is listened to again.
    client.terminate()
    client.wait(timeout=30)
    farm.wait_vm(farm.vm, session="suspended")


def test_policy_for_those_that_run(desktop, screen):
    """Set while the session is suspended already; and taken away in time."""
    desktop.qvd("osf", "set", "demo", "--idle-after", "1h")
    suspend(desktop, screen)
    assert not kernel_says(desktop)
    desktop.qvd("osf", "set", "demo", "--idle-after", "2s")
    hibernated(desktop)
    desktop.qvd("osf", "set", "demo", "--idle-after", "0")
    desktop.qvd("vm", "stop", desktop.vm)
    desktop.wait_vm(desktop.vm, state="stopped")
