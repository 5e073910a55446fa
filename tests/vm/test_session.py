# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's session where AppArmor's profile and cgroup v2 are in force: what
a desktop of any Debian server's is."""

import pathlib
import re
import subprocess

import pytest
from qvdlab import Display, Farm, eventually, need
from qvdlab.desk import Desk


@pytest.fixture(scope="module")
def farm():
    need("image demo", "nxproxy", "Xvfb", "xdotool")
    with Farm(images=["demo"]) as farm:
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "demo")
        yield farm


@pytest.fixture
def screen(farm):
    with Display(farm) as display:
        yield display


def labels(farm):
    """{(its name, AppArmor's word)} of all processes of the desktop."""
    found = set()
    group = pathlib.Path(f"/sys/fs/cgroup/{farm.id}/ct/{farm.vm}")
    for procs in group.rglob("cgroup.procs"):
        for pid in procs.read_text().split():
            proc = pathlib.Path("/proc") / pid
            try:
                found.add(((proc / "comm").read_text().strip(),
                           (proc / "attr/current").read_text().strip("\0\n")))
            except OSError:
                pass  # it has ended
    return found


def denied():
    """What the kernel has refused to who lives in the profile."""
    said = subprocess.run(["dmesg"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    return [line for line in said.splitlines() if "DENIED" in line
            and re.search(r'(profile|label)="qvd-desktop', line)]


def test_a_desktop_in_the_profile(farm, screen):
    """Typed in its terminal, left, resumed, and typed again; nothing that it
    is made of is refused what it needs."""
    before = denied()
    desk = Desk(farm, screen)
    found = labels(farm)
    assert {"nxagent", "openbox", "xterm", "qvd-vma"} <= \
        {name for name, _ in found}, found
    assert {label for _, label in found} == {"qvd-desktop (enforce)"}, found
    desk.close()
    farm.wait_vm(farm.vm, session="suspended", timeout=300)
    desk = Desk(farm, screen)
    desk.close()
    farm.wait_vm(farm.vm, session="suspended", timeout=300)
    assert denied() == before
    farm.qvd("vm", "stop", farm.vm, timeout=600)
    farm.assert_clean(farm.vm)
    eventually(lambda: not labels(farm), 60)
