# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node does with a kernel that has all of it: cgroup v2 alone with
every controller, swap, PSI, project quotas, and a systemd that owns the root of
the hierarchy. Run by tests/vm/conformance in a machine of its own; nothing of
it is skipped."""

import os
import pathlib
import re
import signal

import pytest
from nodelab import MB, UNIFIED, Node, eventually, run
from qvdlab import Farm
from test_storage import Home, fill

MEMORY = pathlib.Path("/proc/meminfo")


@pytest.fixture(scope="module")
def shared():
    with Node() as node:
        node.setup()
        node.default = node.image()
        node.busy = node.image("run while :; do :; done", image_id=2)
        # A shell that holds some memory of its own.
        node.fat = node.image(
            "run x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 "
            "14 15 16 17 18 19 20; do x=$x$x; done; echo >/home/full; "
            "while :; do sleep 1; done", image_id=3)
        yield node


@pytest.fixture
def node(shared):
    yield shared
    shared.remove_vms()


def says(node, vm, name, part="ct"):
    return (UNIFIED / node.id / part / str(vm) / name).read_text().strip()


def number(node, vm, name, key):
    return int(re.search(rf"^{key} (\d+)$", says(node, vm, name), re.M)[1])


def test_the_machine():
    """Else this file tests something else."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    assert " - cgroup2 " in mounts and " - cgroup " not in mounts
    have = (UNIFIED / "cgroup.controllers").read_text().split()
    assert {"cpu", "io", "memory", "pids"} <= set(have)
    assert len(pathlib.Path("/proc/swaps").read_text().splitlines()) == 2
    assert pathlib.Path("/proc/pressure/memory").exists()
    assert "apparmor" in pathlib.Path(
        "/sys/kernel/security/lsm").read_text().split(",")
    assert pathlib.Path("/proc/1/comm").read_text() == "systemd\n"


CPU_PRESSURE = 7  # its place in src/model/usage.h
LIMITS = {"memory.max": str(96 * MB), "memory.swap.max": str(32 * MB),
          "cpu.max": "50000 100000", "cpu.weight": "200", "pids.max": "40",
          "io.bfq.weight": "250"}
ASKED = {"memory_mb": 96, "swap_mb": 32, "cpu_percent": 50, "cpu_weight": 200,
         "pids_max": 40, "io_weight": 250}


def test_each_limit_is_in_its_file(node):
    node.vm(1, node.default, **ASKED)
    for name, value in LIMITS.items():
        assert says(node, 1, name).removeprefix("default ") == value, name
    assert node.ask("vm.limits", vm_id=1) == ASKED
    # What copies its console has less.
    assert says(node, 1, "cpu.max", "mon") == "20000 100000"


def test_systemd_takes_no_controller_away(node):
    """It owns the root group and passes on what its units need: neither a
    reload nor units that come and go may change a desktop's limits, nor those
    of the next one."""
    def units_come_and_go():
        run("systemctl", "daemon-reload")
        run("systemd-run", "--wait", "-q", "-p", "CPUWeight=50", "-p",
            "IOWeight=50", "-p", "TasksMax=50", "true")
        run("systemctl", "daemon-reexec")
    units_come_and_go()
    node.vm(1, node.default, **ASKED)
    units_come_and_go()
    assert node.ask("vm.limits", vm_id=1) == ASKED
    node.vm(2, node.default, **ASKED)
    assert node.ask("vm.limits", vm_id=2) == ASKED


def test_quota_throttles_and_presses(node):
    node.vm(1, node.busy, cpu_percent=20)
    eventually(lambda: number(node, 1, "cpu.stat", "nr_throttled") > 10)

    def usage():
        mine, = [u for u in node.ask("vm.usage")["vms"] if u[0] == 1]
        return mine[CPU_PRESSURE] > 0
    eventually(usage, 60)


@pytest.mark.parametrize("swap_mb", [64, 0])
def test_memory_of_a_sleeper_goes_to_swap(node, swap_mb):
    """... as far as its OSF allows, and it wakes."""
    pid = node.vm(1, node.fat, memory_mb=128, swap_mb=swap_mb)[0]["pid"]
    full = node.data / "homes/1/full"
    eventually(full.exists, 20)
    full.unlink()
    done = node.ask("vm.freeze", vm_id=1)
    assert number(node, 1, "cgroup.events", "frozen") == 1
    if swap_mb:
        assert done.get("note") is None, done
        assert done["swapped_kb"] > 12 * 1024, done
        assert done["after_kb"] < done["before_kb"] - 12 * 1024, done
        assert int(says(node, 1, "memory.swap.current")) > 12 * MB
    else:
        assert done["note"] == "its OSF allows no swap"
        assert done["swapped_kb"] == 0
    mine, = [u for u in node.ask("vm.usage")["vms"] if u[0] == 1]
    assert mine[1] == 1  # hibernated
    node.ask("vm.thaw", vm_id=1)
    eventually(lambda: number(node, 1, "cgroup.events", "frozen") == 0)
    assert node.inside(pid, "/bin/busybox", "echo", "x") == "x\n"


def test_hibernated_is_adopted(node):
    _, pidfd = node.vm(1, node.fat, memory_mb=128, swap_mb=64)
    node.ask("vm.freeze", vm_id=1)
    node.kill()
    node.start()
    node.setup()
    assert node.ask("vm.adopt", vm_id=1, idmap_slot=0,
                    address="10.88.0.3")["frozen"] is True
    node.ask("vm.thaw", vm_id=1)
    node.ask("vm.stop", vm_id=1, grace_ms=0)
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)
    os.close(pidfd)


@pytest.fixture(scope="module")
def project():
    with Node(disk="project") as node:
        node.setup()
        node.default = node.image()
        yield node


def test_home_with_a_project_quota(project):
    node = project
    home = Home(node, 1, "project", home_mb=40)
    assert home.facts()["store"] == "project"
    assert home.facts()["size_mb"] == 40
    other = Home(node, 2, "project", home_mb=40)
    said = fill(home, 60)
    assert "No space left" in said or "quota" in said.lower(), said
    assert "error" not in fill(other, 20)
    df = home.sh("df -m /home").splitlines()[-1].split()
    assert int(df[-5]) == 40, df
    # It can't leave its project: what it makes elsewhere counts, too.
    home.sh("rm /home/big; sync")
    assert fill(home, 20, "again") == "" or \
        home.sh("stat -c %s /home/again") == f"{20 * MB}\n"
    assert node.ask("home.look", vm_id=1)["used_mb"] in range(19, 25)
    done = node.ask("home.grow", vm_id=1, size_mb=80)
    assert done["size_mb"] == 80
    fill(home, 50, "more")
    assert home.sh("stat -c %s /home/more") == f"{50 * MB}\n"
    for vm in (1, 2):
        node.ask("vm.stop", vm_id=vm, grace_ms=0)
        node.ask("vm.clean", vm_id=vm)
        assert not node.left(vm)


def test_project_is_checked(project):
    project.ask("storage.check", root_store="overlay", home_store="project")


def test_what_the_node_shows():
    """qvd host top: pressure of the node and of each desktop."""
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        vm = farm.add_vm("alice", "busybox")
        farm.qvd("vm", "start", vm)
        top = farm.qvd("host", "top", json=True)
        assert set(top["host"]["pressure"]) == {"cpu", "memory", "io"}
        mine, = [v for v in top["vms"] if v["vm_id"] == vm]
        assert mine["kernel_kb"] > 0 and mine["pss_kb"] > 0
        assert top["host"]["swap_kb"] > 0
        pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
        farm.kill("qvd-hkd", sig=signal.SIGKILL)
        farm.wait_event("vm.adopted", vm)
        assert farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s",
                        vm) == pid
        farm.qvd("vm", "stop", vm)
        farm.assert_clean(vm)
