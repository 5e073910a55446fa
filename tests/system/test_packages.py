# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's packages for images: built from this tree, looked into,
installed in a Debian with systemd and removed again; and the Debian one in an
image where it then serves a desktop."""

import pathlib
import shutil
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


@pytest.fixture(scope="module")
def rpm(tmp_path_factory):
    need("root", "rpmbuild", "rpm")
    return packaged("rpm", tmp_path_factory.mktemp("rpm"))


def test_what_the_rpm_holds(rpm):
    names = set(run("rpm", "-qlp", rpm).splitlines())
    assert FILES | {"/usr/lib/systemd/system/qvd-vma.service"} <= names
    assert [n for n in names if n.startswith("/usr/share/man/man8/qvd-vma.8")]
    assert not [n for n in names if "hkd" in n or "l7r" in n or "sql" in n]
    needs = run("rpm", "-qp", "--requires", rpm)
    assert "nxagent" in needs and "xorg-x11-xauth" in needs
    assert "preset qvd-vma.service" in run("rpm", "-qp", "--scripts", rpm)


# A Debian as an administrator would put the agent into: with systemd.
DEBIAN = r"""
set -e
. images/debian.sh
sources=$1/sources.list
debian_sources >"$sources"
[ -s "$sources" ] || sources=
mmdebstrap --mode=root --variant=minbase --include=systemd-sysv \
    --aptopt='APT::Install-Recommends "false"' --skip=cleanup/apt \
    "$SUITE" "$1/debian" ${sources:+"$sources"}
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """Its root; a test leaves it as it was."""
    need("root", "mmdebstrap", "systemctl", "systemd-analyze")
    out = tmp_path_factory.mktemp("debian")
    run("bash", "-c", DEBIAN, "bash", out, cwd=TOP, timeout=1800)
    yield out / "debian"
    shutil.rmtree(out / "debian")


def files(root):
    """What is of the agent's in it."""
    return {str(p.relative_to(root)) for part in ("etc", "usr")
            for p in (root / part).rglob("*qvd*")}


def check_installed(root):
    """The unit is one that systemd takes, enabled, and of a program that finds
    its libraries; what others may not change is root's."""
    assert run("systemctl", "--root", root, "is-enabled",
               "qvd-vma.service") == "enabled\n"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", f"--root={root}",
         "qvd-vma.service"], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (0, "")
    assert "qvd-vma" in run("chroot", root, "/usr/lib/qvd/qvd-vma",
                            "--version")
    for name in FILES:
        st = (root / name.lstrip("/")).stat()
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (0, 0, 0o755)


@pytest.mark.timeout(2400)
def test_the_deb_comes_and_goes(deb, debian):
    before = files(debian)
    shutil.copy(deb, debian / "tmp/agent.deb")
    apt = ["chroot", debian, "env", "DEBIAN_FRONTEND=noninteractive",
           "apt-get", "-y", "--no-install-recommends"]
    run(*apt, "install", "/tmp/agent.deb", timeout=900)
    (debian / "tmp/agent.deb").unlink()
    check_installed(debian)
    assert run("chroot", debian, "dpkg", "--verify", "qvd-vma") == ""
    # An administrator's choice outlives the next version.
    run("systemctl", "--root", debian, "disable", "qvd-vma.service")
    shutil.copy(deb, debian / "tmp/agent.deb")
    run("chroot", debian, "dpkg", "--install", "/tmp/agent.deb")
    (debian / "tmp/agent.deb").unlink()
    assert run("systemctl", "--root", debian, "is-enabled",
               "qvd-vma.service", check=False) == "disabled\n"
    run(*apt, "purge", "qvd-vma")
    assert files(debian) == before


@pytest.mark.timeout(2400)
def test_the_rpm_comes_and_goes(deb, rpm, debian):
    before = files(debian)
    # The libraries, which RPM's database knows nothing of here.
    needs = [n.split()[0] for n in run("dpkg-deb", "-f", deb, "Depends")
             .split(", ")]
    run("chroot", debian, "apt-get", "-y", "--no-install-recommends",
        "install", *needs, timeout=900)
    rpm_in = ["rpm", "--root", debian]
    run(*rpm_in, "--install", "--nodeps", rpm)
    check_installed(debian)
    assert run(*rpm_in, "--verify", "--nodeps", "qvd-vma") == ""
    run("systemctl", "--root", debian, "disable", "qvd-vma.service")
    run(*rpm_in, "--upgrade", "--force", "--nodeps", rpm)
    assert run("systemctl", "--root", debian, "is-enabled",
               "qvd-vma.service", check=False) == "disabled\n"
    run("systemctl", "--root", debian, "enable", "qvd-vma.service")
    run(*rpm_in, "--erase", "qvd-vma")
    assert files(debian) == before
