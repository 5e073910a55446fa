# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm without its database for a while: nothing that runs is lost,
nothing is stuck when it is back."""

import os
import signal
import time

import pytest
from qvdlab import Farm, eventually, need
from test_hkd import alive, row, start, wait, wait_house, want


@pytest.fixture(scope="module")
def house():
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        yield farm


def lose_database(farm):
    """kill -9; `qvd up` starts it again."""
    farm.close_db()
    farm.kill("postgres")


def wait_database(farm, count=1):
    def look():
        try:
            return farm.one("SELECT count(*) FROM events "
                            "WHERE name = 'database.back'") >= count
        except Exception:  # noqa: it is not back yet
            farm.close_db()
            return False
    eventually(look, 30, "the database")


def backs(farm):
    return farm.one("SELECT count(*) FROM events "
                    "WHERE name = 'database.back'")


def test_desktops_go_on(house):
    vm = house.add_vm("alice", "busybox", "goes-on")
    pid = start(house, vm)["pid"]
    n = backs(house)
    lose_database(house)
    wait_database(house, n + 1)
    run = row(house, vm)
    assert run["state"] == "running" and run["pid"] == pid and alive(pid)
    want(house, vm, False)
    wait(house, vm, "stopped")
    house.assert_clean(vm)


def test_what_happened_meanwhile_is_written(house):
    vm = house.add_vm("alice", "busybox", "dies")
    pid = start(house, vm)["pid"]
    n = backs(house)
    lose_database(house)
    os.kill(pid, signal.SIGKILL)
    wait_database(house, n + 1)
    run = wait(house, vm, "stopped")
    assert run["error_id"] == "vm-lost"
    house.wait_event("vm.died", vm)
    house.assert_clean(vm)


def test_killed_while_vms_start_and_stop(house):
    """Three times, at different moments. A start whose database went away
    may fail, with a sentence; it is never stuck."""
    vms = [house.add_vm("alice", "busybox", f"load{i}") for i in range(4)]
    for i in range(3):
        n = backs(house)
        for vm in vms:
            want(house, vm)
        time.sleep(0.05 * i)
        lose_database(house)
        wait_database(house, n + 1)
        for vm in vms:
            eventually(lambda vm=vm: row(house, vm) and house.one(
                "SELECT r.epoch = v.epoch AND r.state IN "
                "('running', 'stopped') FROM vms v JOIN vm_runtimes r "
                "ON r.vm_id = v.id WHERE v.id = %s", vm), 60,
                f"an end of the start of VM {vm}")
            run = row(house, vm)
            assert run["state"] == "running" or run["error_id"], run
        for vm in vms:
            want(house, vm, False)
        for vm in vms:
            wait(house, vm, "stopped")
            house.assert_clean(vm)
    wait_house(house)
