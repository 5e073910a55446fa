# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's packages for images: built from this tree, looked into, and the
Debian one installed in an image where it then serves a desktop."""

import pathlib
import subprocess

import pytest
from qvdlab import TOP, Display, need, run
from vmabox import Box

pytestmark = pytest.mark.long

# In every package, where a node mounts its own agent and where systemd looks.
FILES = {"/usr/lib/qvd/qvd-vma", "/etc/qvd/hooks/action",
         "/etc/qvd/hooks/provisioning", "/etc/qvd/hooks/state"}

# Instead of the node's agent the image's package's.
INSTALL = r"""
umount "$R/usr/lib/qvd/qvd-vma"
rm -r "$R/usr/lib/qvd"
cp "{deb}" "$R/tmp/agent.deb"
chroot "$R" dpkg --install /tmp/agent.deb
chroot "$R" dpkg --verify qvd-vma
"""


def packaged(kind, out):
    done = subprocess.run([TOP / "packaging" / kind, out], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False)
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="module")
def deb(tmp_path_factory):
    need("root", "dpkg-buildpackage", "dh")
    return packaged("deb", tmp_path_factory.mktemp("deb"))


def test_what_the_deb_holds(deb):
    names = {line.split()[5].lstrip(".").rstrip("/")
             for line in run("dpkg-deb", "-c", deb).splitlines()}
    assert FILES <= names
    assert [n for n in names if n.endswith("/systemd/system/qvd-vma.service")]
    assert "/usr/share/man/man8/qvd-vma.8.gz" in names
    # Of the farm's programs none, and no settings that the node decides.
    assert not [n for n in names if "hkd" in n or "l7r" in n or "sql" in n]
    needs = run("dpkg-deb", "-f", deb, "Depends")
    assert "nxagent" in needs and "xauth" in needs
    # Enabled in the image, and not started where the image is made.
    postinst = run("dpkg-deb", "-I", deb, "postinst")
    assert "enable 'qvd-vma.service'" in postinst
    assert "invoke start" not in postinst


def test_the_deb_in_an_image_serves_a_desktop(deb):
    need("Xvfb", "nxproxy", "unshare")
    with Display() as screen, \
            Box(prepare=INSTALL.format(deb=deb)) as box:
        version = run("dpkg-deb", "-f", deb, "Version").strip()
        assert box.state()["version"] == version
        inside = box.run("sha256sum", "/proc/1/exe").split()[0]
        packed = box.run("sha256sum", "/usr/lib/qvd/qvd-vma").split()[0]
        assert inside == packed
        box.connect(screen, fullscreen=True)
        box.wait("connected")
        screen.wait_drawn(20)


def test_what_the_rpm_holds(tmp_path):
    need("rpmbuild", "rpm")
    rpm = packaged("rpm", tmp_path)
    names = set(run("rpm", "-qlp", rpm).splitlines())
    assert FILES | {"/usr/lib/systemd/system/qvd-vma.service"} <= names
    assert [n for n in names if n.startswith("/usr/share/man/man8/qvd-vma.8")]
    assert not [n for n in names if "hkd" in n or "l7r" in n or "sql" in n]
    needs = run("rpm", "-qp", "--requires", rpm)
    assert "nxagent" in needs and "xorg-x11-xauth" in needs
    assert "preset qvd-vma.service" in run("rpm", "-qp", "--scripts", rpm)
