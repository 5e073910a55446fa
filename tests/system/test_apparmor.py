# SPDX-License-Identifier: GPL-3.0-or-later
"""AppArmor's profile for containers: what its own parser says of it, and that
the node tells the truth about its kernel. (Few machines that run tests have
AppArmor in theirs.)"""

import os
import pathlib
import subprocess

import pytest
from nodelab import Node
from qvdlab import TOP, need

PROFILE = TOP / "dist/apparmor/qvd-desktop"
KERNEL = pathlib.Path("/sys/module/apparmor/parameters/enabled")
# What a kernel can do, as the distribution's policies take it for granted.
FEATURES = pathlib.Path("/usr/share/apparmor-features/features")


def parsed(path):
    """Whether it can be compiled for that kernel; nothing is loaded."""
    need("apparmor_parser")
    done = subprocess.run(
        ["apparmor_parser", "--skip-cache", "--stdout", "--features-file",
         FEATURES, path], stdin=subprocess.DEVNULL, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode == 0 and done.stdout, done.stderr.decode()


def test_the_profile_can_be_loaded(tmp_path):
    policy, said = parsed(PROFILE)
    assert policy and b"qvd-desktop" in policy, said
    broken = tmp_path / "broken"
    broken.write_text(PROFILE.read_text().replace("  unix,", "  unixx,"))
    assert not parsed(broken)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_node_knows_its_kernel():
    has = KERNEL.exists() and KERNEL.read_text().startswith("Y")
    with Node() as node:
        assert node.setup()["apparmor"] in (
            ("on", "not-loaded") if has else ("off",))
        # It starts in any case, in the profile or without.
        began, _ = node.vm(1, node.image())
        label = pathlib.Path(f"/proc/{began['pid']}/attr/current")
        if node.setup()["apparmor"] == "on":
            assert label.read_text().startswith("qvd-desktop ")
        node.ask("vm.stop", vm_id=1, grace_ms=0)
        node.ask("vm.clean", vm_id=1)
