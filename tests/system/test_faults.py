# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between a user and a desktop, in a whole farm: each time
one clear sentence with an error id at the client, the same story under the
same reference on the timeline, and nothing left behind."""

import os
import re
import signal

import pytest
from qvdlab import Desk, Display, eventually, run


@pytest.fixture(scope="module")
def farm(desktop):
    desktop.add_user("bob", "secret")
    with Display(desktop) as desktop.screen:
        yield desktop


def refused(farm, code, *words, vm=None, **options):
    """The client ends with the exit code, and says the words; the reference
    that it was shown, or None."""
    status, said = farm.client_ends("--vm", vm or farm.vm, "--reconnect", "0",
                                    display=farm.screen, **options)
    assert status == code, (status, said)
    for word in words:
        assert word in said, said
    match = re.search(r"ref(?:erence)?:? ([A-Z2-7]{8})", said)
    return match[1] if match else None


def told(farm, vm, ref, *words):
    """`qvd why` tells it, by VM and by reference."""
    assert ref, "the client was shown no reference"
    for args in (("vm", vm), ("ref", ref)):
        text = farm.qvd("why", *args).out
        assert ref in text, text
        for word in words:
            assert word in text, text


def clean(farm, vm):
    farm.wait_vm(vm, state="stopped")
    farm.assert_clean(vm)
    assert farm.one("SELECT state FROM sessions WHERE vm_id = %s", vm) in (
        None, "disconnected")


# Who may not


def test_wrong_password(farm):
    refused(farm, 12, "password", "authentication-failed", password="wrong")
    farm.wait_event("user.login-failed")


def test_unknown_user(farm):
    refused(farm, 12, "authentication-failed", user="nobody")


def test_blocked_user(farm):
    farm.add_user("carol", "secret")
    farm.qvd("user", "block", "carol")
    refused(farm, 12, "authentication-failed", user="carol")
    assert "blocked" in farm.qvd("why", "user", "carol").out


def test_unknown_vm(farm):
    refused(farm, 15, "not-found", vm=99999)


def test_somebody_elses_vm(farm):
    ref = refused(farm, 14, "not allowed", "not-allowed", user="bob")
    told(farm, farm.vm, ref, "bob")


def test_blocked_vm(farm):
    vm = farm.add_vm("alice", "demo", "locked")
    farm.qvd("vm", "block", vm)
    ref = refused(farm, 13, "maintenance", "blocked", vm=vm)
    told(farm, vm, ref)


# What can't start


def test_image_that_does_not_exist(farm):
    farm.qvd("osf", "add", "empty")
    vm = farm.add_vm("alice", "empty", "noimage")
    ref = refused(farm, 29, "image-unusable", "empty", "default", vm=vm)
    told(farm, vm, ref, "default")
    clean(farm, vm)


def test_image_without_x_session(farm):
    from qvdlab import build
    farm.add_osf("plain", build.image("busybox"))
    vm = farm.add_vm("alice", "plain", "nosession")
    ref = refused(farm, 32, "no X session", "session-failed", vm=vm)
    told(farm, vm, ref, "no X session")
    farm.qvd("vm", "stop", vm)
    clean(farm, vm)


def upper(farm, vm):
    """The directory of the VM's own changes to its image."""
    base = farm.data / f"vms/{vm}"
    return next(p for p in base.rglob("upper") if p.is_dir())


def test_agent_that_dies_at_start(farm):
    vm = farm.add_vm("alice", "demo", "broken")
    farm.qvd("vm", "start", vm)
    farm.wait_vm(vm, state="running")
    farm.qvd("vm", "stop", vm)
    farm.wait_vm(vm, state="stopped")
    place = upper(farm, vm) / "usr/bin"
    place.mkdir(parents=True, exist_ok=True)
    agent = place / "nxagent"
    agent.write_text("#!/bin/sh\necho 'Error: no luck today' >&2\nexit 3\n")
    agent.chmod(0o755)
    ref = refused(farm, 32, "display agent", "no luck today", "session-failed",
                  vm=vm)
    told(farm, vm, ref, "no luck today")
    # It can be mended, without a restart.
    agent.unlink()
    farm.qvd("vm", "stop", vm)
    clean(farm, vm)


def test_full_disk_under_the_overlay(farm):
    vm = farm.add_vm("alice", "demo", "full")
    place = farm.data / f"vms/{vm}"
    place.mkdir(mode=0o755)
    run("mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "full", place)
    try:
        with open(place / "ballast", "wb", buffering=0) as out, \
                pytest.raises(OSError, match="No space"):
            while True:
                out.write(b"x" * 4096)
        ref = refused(farm, 22, "No space left", "no-space", vm=vm)
        told(farm, vm, ref, "No space left")
        # Whether it ran before the first write failed is a matter of bytes.
        farm.sql("UPDATE vms SET desired = 'stopped' WHERE id = %s", vm)
        clean(farm, vm)
    finally:
        run("umount", "-l", place)


# What dies while somebody is in the desktop


@pytest.fixture
def desk(farm):
    with Display(farm) as screen:
        yield Desk(farm, screen)


def test_container_dies(farm, desk):
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", farm.vm)
    run_before = farm.one("SELECT epoch FROM vms WHERE id = %s", farm.vm)
    os.kill(pid, signal.SIGKILL)
    # The client reconnects by itself, into a new run of the desktop.
    farm.wait_event("vm.died", farm.vm)
    eventually(lambda: farm.one(
        "SELECT epoch FROM vms WHERE id = %s", farm.vm) > run_before, 30,
        desk.log)
    farm.wait_vm(farm.vm, state="running", session="connected")
    desk.works()
    desk.close()


def test_client_vanishes(farm, desk):
    os.killpg(desk.client.pid, signal.SIGKILL)
    farm.wait_vm(farm.vm, session="suspended")
    assert farm.one("SELECT state FROM sessions WHERE vm_id = %s",
                    farm.vm) == "disconnected"
    with Display(farm) as screen:
        again = Desk(farm, screen)
        again.close()


KILLED = [("qvd-l7r", None), ("qvd-l7r", "worker"), ("qvd-l7r-broker", "broker"),
          ("qvd-l7r", "auth"), ("qvd-hkd", None), ("qvd-hkd-main", "main"),
          ("qvd-api", None), ("postgres", None)]


@pytest.mark.parametrize("program,role", KILLED,
                         ids=[f"{p}-{r or 'parent'}" for p, r in KILLED])
def test_killed_in_use(farm, desk, program, role):
    """kill -9 of every daemon and role: the desktop lives on, the user is
    back in it (or never left), and another connection works."""
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", farm.vm)
    farm.kill(program, role)
    farm.close_db()
    desk.works()
    assert os.path.exists(f"/proc/{pid}"), "the desktop ended"

    def whole():
        return farm.client_ends("list")[0] == 0 and \
            farm.qvd("vm", "list").status == 0
    eventually(whole, 60, "the farm works again", every=0.3)
    farm.wait_vm(farm.vm, state="running", session="connected")
    with Display(farm) as screen:
        other = Desk(farm, screen)       # takes it over
        assert desk.ends() == 33, desk.log()
        other.close()
    assert farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s",
                    farm.vm) == pid


def test_all_killed_at_once(farm, desk):
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", farm.vm)
    for program, role in KILLED:
        for victim in farm.pids(program, role):
            os.kill(victim, signal.SIGKILL)
    farm.close_db()
    desk.works(90)
    assert os.path.exists(f"/proc/{pid}"), "the desktop ended"
    desk.close()
