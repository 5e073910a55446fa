# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines of a farm: rows in the database become machines, whose
agent answers over TCP, and what is killed is found again."""

import os

import kvmguest
import pytest
from qvdlab import Farm, eventually, need, run

from test_hkd import alive, row, wait, wait_house, want

AGENT = "exec qvd-vma --service\n"


@pytest.fixture(scope="module")
def farm():
    need("root", "containers")
    with Farm() as farm:
        tree = kvmguest.make_tree(farm.dir / "guest", agent=AGENT,
                                  programs=[kvmguest.vma()])
        farm.qvd("config", "set", "vm.kvm.accel", "tcg")
        farm.qvd("config", "set", "vm.stop.grace", "60s")
        farm.add_osf("kvm", tree, "--hypervisor", "kvm", "--memory", "512M",
                     "--home", "64M")
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "kvm", "machine")
        yield farm


def test_life_through_rows(farm):
    vm = farm.vm
    want(farm, vm)
    run_ = wait(farm, vm, "running", timeout=200)
    assert alive(run_["pid"]) and run_["error_id"] is None
    name = os.readlink(f"/proc/{run_['pid']}/exe")
    assert name.endswith("qemu-system-x86_64")

    # Its agent answers nobody who doesn't know the secret.
    address = farm.one("SELECT host(address) FROM vms WHERE id = %s", vm)
    said = run(*farm.prefix, "curl", "-sS", "-m", "10",
               f"http://{address}:823/state", check=False)
    assert "session" not in said

    # Killed house-keepers find it again, and the agent's word with it.
    for n, who in enumerate((("qvd-hkd-main", "main"), ("qvd-hkd", None)), 1):
        farm.kill(*who)
        eventually(lambda: farm.event_names(vm).count("vm.adopted") == n, 60)
        wait_house(farm)
        assert row(farm, vm)["pid"] == run_["pid"] and alive(run_["pid"])

    # Its power button ends it in order.
    want(farm, vm, False)
    wait(farm, vm, "stopped", timeout=120)
    eventually(lambda: not alive(run_["pid"]), 10, "QEMU's end")
    farm.assert_clean(vm)
    names = [n for n in farm.event_names(vm) if n.startswith("vm.")]
    assert names[-2:] == ["vm.stopping", "vm.stopped"]


def test_refuses_an_image_of_a_container(farm):
    tree = farm.dir / "no-disk"
    (tree / "etc").mkdir(parents=True)
    farm.add_osf("odd", tree, "--hypervisor", "kvm")
    vm = farm.add_vm("alice", "odd", "odd")
    want(farm, vm)
    farm.wait_event("vm.start-failed", vm)
    run_ = row(farm, vm)
    assert run_["error_id"] == "image-unusable"
    assert "disk.qcow2" in run_["error"]
    want(farm, vm, False)
    wait(farm, vm, "stopped")
    farm.assert_clean(vm)
