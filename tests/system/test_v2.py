# SPDX-License-Identifier: GPL-3.0-or-later
"""A node on a machine with Debian's own kernel, systemd, and cgroup v2 alone:
the tests of a node's life and of its network, and those of tests/vm, which
need such a machine. Emulated; QVD_VM_RESULTS=DIR keeps what they said."""

import os
import pathlib
import subprocess
import xml.etree.ElementTree as ET

import pytest
from qvdlab import build, need

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

# Why a test may have nothing to ask of such a machine.
REASONS = {"cgroup v2 has controllers here"}
# The least that each part of tests/vm/conformance has to run.
PARTS = {"life": 60, "storage": 45, "farm": 28, "session": 14, "network": 55}


@pytest.mark.skipif(build.BUILD.name == "asan",
                    reason="emulated, the sanitized programs take too long")
@pytest.mark.parametrize("part", PARTS)
def test_conformance(tmp_path, part):
    need("root", "qemu-system-x86_64", "mke2fs")
    where = pathlib.Path(os.environ.get("QVD_VM_RESULTS", tmp_path)) / part
    where.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [build.TOP / "tests/vm/run", "-b", build.BUILD.name, "-o", where,
         *(("-i", "demo") if part == "session" else ()),
         "tests/vm/conformance", part], check=False, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    (where / "output").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:]
    cases = list(ET.parse(where / "junit.xml").getroot().iter("testcase"))
    skipped = {c.get("name"): c.find("skipped").get("message")
               for c in cases if c.find("skipped") is not None}
    assert set(skipped.values()) <= REASONS, skipped
    assert len(cases) - len(skipped) >= PARTS[part]
