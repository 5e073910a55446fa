# SPDX-License-Identifier: GPL-3.0-or-later
"""qvd home: from the command line to the node and back, in a farm."""

import pytest
from qvdlab import Farm, need, run


@pytest.fixture(scope="module")
def house():
    need("root", "containers")
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        farm.qvd("osf", "set", "busybox", "--home", "40")
        yield farm


@pytest.fixture
def vm(house, request):
    name = request.node.name.replace("_", "-")[:60]
    vm = house.add_vm("alice", "busybox", name)
    yield vm
    house.qvd("vm", "stop", vm)
    house.assert_clean(vm)


def home(house, vm):
    return house.qvd("home", "show", vm, json=True)


def inside(house, vm, script):
    pid = house.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
    return run("nsenter", "-t", str(pid), "-m", "-p", "-U", "-r", "-w",
               "/bin/sh", "-c", script)


def write(house, vm, text):
    inside(house, vm, f"echo {text} >/home/file")


def read(house, vm):
    return inside(house, vm, "cat /home/file").strip()


def refused(house, *args):
    result = house.qvd(*args, check=False)
    assert result.status != 0, result.out
    return result.err


def test_snapshot_restore_and_timeline(house, vm):
    assert "has no home yet" in refused(house, "home", "look", vm)
    house.qvd("vm", "start", vm)
    write(house, vm, "one")
    facts = home(house, vm)
    assert (facts["store"], facts["size_mb"], facts["snapshots"]) == \
        ("image", 40, [])
    house.qvd("vm", "stop", vm)
    house.qvd("home", "snapshot", vm, "monday")
    house.qvd("vm", "start", vm)
    assert read(house, vm) == "one"
    write(house, vm, "two")
    assert "stop the VM first" in refused(
        house, "home", "restore", vm, "monday")
    house.qvd("vm", "stop", vm)
    assert "has no snapshot 'x'" in refused(house, "home", "restore", vm, "x")
    house.qvd("home", "restore", vm, "monday")
    assert [s["name"] for s in home(house, vm)["snapshots"]] == ["monday"]
    house.qvd("vm", "start", vm)
    assert read(house, vm) == "one"
    house.qvd("home", "forget", vm, "monday")
    house.qvd("home", "look", vm)
    assert home(house, vm)["snapshots"] == []
    for name in ("home.snapshot-made", "home.restored", "home.failed",
                 "home.snapshot-removed"):
        house.wait_event(name, vm)
    texts = {n: (t, e) for n, t, e in house.events(vm)}
    assert texts["home.restored"][0] == \
        "its home is as in the snapshot 'monday' again"
    assert texts["home.failed"][1] == "not-found"
    assert "monday" in house.qvd("why", "vm", vm).out
    assert str(vm) in house.qvd("-q", "home", "list").out.split()


def test_grow(house, vm):
    house.qvd("vm", "start", vm)
    house.qvd("vm", "stop", vm)
    house.qvd("home", "grow", vm, "80M")
    facts = home(house, vm)
    assert facts["size_mb"] == facts["wanted_mb"] == 80
    house.wait_event("home.grown", vm)
    assert "only grow" in refused(house, "home", "grow", vm, "60M")
    # What was refused is not wanted, either, when it starts.
    house.qvd("vm", "start", vm)
    assert home(house, vm)["size_mb"] == 80
    house.qvd("vm", "stop", vm)
    # Without a size: what the OSF says.
    house.sql("UPDATE vms SET home_mb = NULL WHERE id = %s", vm)
    house.sql("UPDATE osfs SET home_mb = 100")
    try:
        house.qvd("home", "grow", vm)
        assert home(house, vm)["size_mb"] == 100
    finally:
        house.sql("UPDATE osfs SET home_mb = 40")


def test_wrong_choice_is_said(house, vm):
    house.qvd("config", "set", "node.storage.home", "btrfs")
    try:
        name, text, error = house.wait_event("host.storage-unusable")
        assert error == "configuration"
        assert "node.storage.home is 'btrfs'" in text
        assert "not on a btrfs file system" in text
        assert "not on a btrfs file system" in refused(
            house, "vm", "start", vm)
    finally:
        house.qvd("config", "unset", "node.storage.home")
    house.qvd("vm", "start", vm)
    assert "one of auto, image, btrfs, project, directory" in refused(
        house, "config", "set", "node.storage.home", "zfs")


def test_choice_of_a_host(house, vm):
    """It wins over the farm's, for what this host makes."""
    def set_(*args, **more):
        return house.qvd("config", *args, "--host", "node1", **more)
    before = house.event_names().count("host.storage-unusable")
    house.sql("UPDATE osfs SET home_mb = 0")
    house.qvd("config", "set", "node.storage.home", "directory")
    set_("set", "node.storage.home", "btrfs")
    try:
        assert set_("get", "node.storage.home").out == "btrfs\n"
        assert house.qvd("config", "get", "node.storage.home").out == \
            "directory\n"
        row = next(s for s in set_("list", json=True)
                   if s["key"] == "node.storage.home")
        assert (row["host"], row["per_host"]) == ("node1", True)
        assert "node.storage.home is 'btrfs'" in house.wait_event(
            "host.storage-unusable", count=before + 1)[1]
        assert "not on a btrfs file system" in refused(
            house, "vm", "start", vm)
        set_("unset", "node.storage.home")
        house.qvd("vm", "start", vm)
        assert home(house, vm)["store"] == "directory"
    finally:
        house.sql("UPDATE osfs SET home_mb = 40")
        house.sql("DELETE FROM host_configs")
        house.qvd("config", "unset", "node.storage.home")
    assert "vm.network.nat is the same on all hosts" in refused(
        house, "config", "set", "vm.network.nat", "no", "--host", "node1")


def test_convert(house, vm):
    house.qvd("config", "set", "node.storage.home", "directory")
    house.sql("UPDATE osfs SET home_mb = 0")
    try:
        house.qvd("vm", "start", vm)
        write(house, vm, "kept")
        house.qvd("vm", "stop", vm)
    finally:
        house.sql("UPDATE osfs SET home_mb = 40")
        house.qvd("config", "unset", "node.storage.home")
    assert "qvd home convert" in refused(house, "vm", "start", vm)
    house.qvd("home", "convert", vm)
    house.qvd("vm", "start", vm)
    assert read(house, vm) == "kept"
    assert home(house, vm)["store"] == "image"


def test_full_is_told(house, vm):
    """Once, whatever is started again meanwhile; and when there is room."""
    house.qvd("config", "set", "node.storage.look", "1s")
    house.qvd("vm", "start", vm)
    inside(house, vm, "dd if=/dev/zero of=/home/big bs=1M count=60; sync; :")
    _, text, error = house.wait_event("vm.disk-full", vm)
    assert text.startswith("its home is full: ") and error == "no-space"
    assert "'qvd home grow'" in text
    # The row follows the event.
    house.wait_sql("qvd_vm_runtimes", "SELECT home_fill = 'full' FROM "
                   "vm_runtimes WHERE vm_id = %s", vm)
    shown = house.qvd("vm", "show", vm, json=True)
    assert (shown["home_fill"], shown["system_fill"]) == ("full", "ok")
    assert "Its home is full." in house.qvd("why", "vm", vm).out
    top = house.qvd("host", "top", json=True)
    used, = (v for v in top["vms"] if v["vm_id"] == vm)
    assert used["home_percent"] >= 98 and used["system_percent"] is None
    assert {"path", "free_kb", "percent"} <= top["host"]["disks"][0].keys()
    assert "disk of " in house.qvd("host", "top").out

    house.kill("qvd-hkd-main", "main")
    house.wait_event("vm.adopted", vm)
    inside(house, vm, "rm /home/big; sync")
    house.wait_event("vm.disk-room", vm)
    assert house.event_names(vm).count("vm.disk-full") == 1
    house.wait_sql("qvd_vm_runtimes", "SELECT home_fill = 'ok' FROM "
                   "vm_runtimes WHERE vm_id = %s", vm)
    house.qvd("config", "unset", "node.storage.look")


def test_killed_house_keeper_says_so(house, vm):
    """A job that was under way is not forgotten."""
    house.qvd("vm", "start", vm)
    house.qvd("vm", "stop", vm)
    job = house.one(
        "INSERT INTO home_jobs (vm_id, host_id, action, name, state) SELECT "
        "id, host_id, 'snapshot', 'lost', 'running' FROM vms WHERE id = %s "
        "RETURNING id", vm)
    house.kill("qvd-hkd-main", "main")
    house.wait_sql("qvd_homes", "SELECT state = 'failed' FROM home_jobs "
                   "WHERE id = %s", job)
    assert house.wait_event("home.failed", vm)[2] == "cancelled"
    house.wait_sql("qvd_hosts", "SELECT state = 'running' FROM host_runtimes")
