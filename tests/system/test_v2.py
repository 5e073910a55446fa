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

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]

# Tests that have nothing to ask of such a machine, and why.
SKIPPED = {"test_no_controllers_is_an_error": "cgroup v2 has controllers here"}


@pytest.mark.skipif(build.BUILD.name == "asan",
                    reason="emulated, the sanitized programs take too long")
def test_conformance(tmp_path):
    need("root", "qemu-system-x86_64", "mke2fs")
    where = pathlib.Path(os.environ.get("QVD_VM_RESULTS", tmp_path))
    done = subprocess.run(
        [build.TOP / "tests/vm/run", "-b", build.BUILD.name, "-o", where,
         "tests/vm/conformance"], check=False, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    (where / "output").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:]
    cases = list(ET.parse(where / "junit.xml").getroot().iter("testcase"))
    skipped = {c.get("name"): c.find("skipped").get("message")
               for c in cases if c.find("skipped") is not None}
    assert skipped == SKIPPED
    assert len(cases) > 100
