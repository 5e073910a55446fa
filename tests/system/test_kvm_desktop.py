# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration's desktop, which containers run, as a virtual machine: the
same Debian with a kernel in it, a session that the client shows, and work done
in it. Emulated, so slow. QVD_LAB_SHOTS=DIR keeps how it looked."""

import os
import pathlib

import kvmguest
import pytest
from qvdlab import Display, Farm, eventually, image, need, run


pytestmark = pytest.mark.long


def test_session_in_a_machine():
    need("root", "containers", "xdotool", "import")
    with Farm() as farm:
        tree = farm.dir / "debian"
        tree.mkdir()
        run("tar", "-C", tree, "--numeric-owner", "-xf", image("demo"))
        kvmguest.add_kernel(tree)
        # Emulated, all takes longer than an agent waits for.
        (tree / "etc/qvd/vma.conf").write_text("[agent]\ntimeout = 5m\n")
        farm.qvd("config", "set", "vm.kvm.accel", "tcg")
        farm.add_user("alice", "secret")
        farm.add_osf("debian", tree, "--hypervisor", "kvm", "--memory", "1G",
                     "--home", "256M")
        farm.vm = farm.add_vm("alice", "debian")
        farm.qvd("vm", "start", farm.vm, timeout=400)
        with Display(farm) as screen:
            client = farm.client("--vm", farm.vm, "--geometry", "1280x800",
                                 display=screen)
            eventually(lambda: "Connected." in client.log.read_text(), 600,
                       lambda: "a connection: " + client.log.read_text())
            # A window with text, not an empty screen.
            screen.wait_drawn(100, timeout=900)

            def typed():
                screen.click(640, 380)
                screen.type("id -un >here")
                screen.key("Return")
                return "alice END" in kvmguest.console(
                    farm, farm.vm, ("#", "\n"),
                    ("END", "echo $(cat /home/alice/here) E''ND\n"))
            eventually(typed, 900, "what was typed", every=5)
            if shots := os.environ.get("QVD_LAB_SHOTS"):
                screen.screenshot(pathlib.Path(shots) / "kvm.png")
            client.terminate()
            client.wait(60)
        farm.qvd("vm", "stop", farm.vm, timeout=400)
        farm.wait_vm(farm.vm, state="stopped")
        farm.assert_clean(farm.vm)
