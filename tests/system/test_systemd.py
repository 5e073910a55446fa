# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers whose image has an init of its own, systemd: what it finds, with
a stand-in that says it; and (long) a real one, in which the agent is a service
of its package, with a session and a client."""

import os
import pathlib
import shutil

import pytest
from nodelab import Node, binary, eventually
from qvdlab import Desk, Display, Farm, image, need, run
from test_packages import packaged

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

UNIT = "lib/systemd/system/qvd-vma.service"
WANTS = "etc/systemd/system/multi-user.target.wants"

# As the stand-in's child, what systemd does and sees; each line of /home/seen
# is a name and a value.
LOOK = """run :
exec >/home/seen.new 2>&1
g=/sys/fs/cgroup
may() { name=$1; shift; "$@" 2>/dev/null && v=yes || v=no; echo $name $v; }
put() { echo $1 >$2; }
echo container $(tr '\\0' '\\n' </proc/1/environ | sed -n s/^container=//p)
echo arguments $(tr '\\0' ' ' </proc/1/cmdline)
echo group $(sed -n s/^0:://p /proc/self/cgroup)
echo cgroups $(stat -f -c %t $g)
echo run $(stat -f -c %t /run) $(stat -c %a /run)
echo shm $(stat -f -c %t /dev/shm)
echo hostname $(hostname)
echo address $(ip -4 -o addr show eth0 | awk '{print $4}')
may scope mkdir $g/init.scope
may move put 1 $g/init.scope/cgroup.procs
may move-on put 0 $g/init.scope/cgroup.procs
may freeze put 1 $g/cgroup.freeze
may more-groups put max $g/cgroup.max.descendants
may mount mount -t tmpfs t /tmp
may mount-v1 mount -t cgroup -o memory m /tmp
may sysfs mkdir /sys/fs/other
d=$g/deep; n=0
while [ $n -lt 40 ] && mkdir $d 2>/dev/null; do d=$d/d; n=$((n+1)); done
echo depth $n
n=0
while [ $n -lt 2000 ] && mkdir $g/w$n 2>/dev/null; do n=$((n+1)); done
[ $n -lt 2000 ] && echo groups held || echo groups $n
for m in memory.max pids.max cpu.max; do
	[ ! -e $g/$m ] || may $m put max $g/$m
done
mv /home/seen.new /home/seen
"""


def with_systemd(tree, enabled=True, init="/lib/systemd/systemd"):
    """Makes a tree one that says that it has systemd."""
    (tree / UNIT).parent.mkdir(parents=True)
    shutil.copy(binary("tests/system/drivers/tiny_init"),
                tree / "lib/systemd/systemd")
    (tree / "sbin/init").unlink(missing_ok=True)
    (tree / "sbin/init").symlink_to(init)
    (tree / UNIT).write_text("[Service]\n")
    if enabled:
        (tree / WANTS).mkdir(parents=True)
        (tree / WANTS / "qvd-vma.service").symlink_to("/" + UNIT)


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        node.setup()
        yield node


@pytest.fixture(autouse=True)
def ended(node):
    yield
    for vm in node.ask("vm.list")["vms"]:
        node.ask("vm.stop", vm_id=vm, grace_ms=0)
        node.ask("vm.clean", vm_id=vm)
        assert not node.left(vm)


def test_what_systemd_finds(node):
    own = node.image(LOOK, image_id=1, extra=with_systemd)
    began, _ = node.vm(1, own, memory_mb=96)
    assert began["init"] == "systemd"
    home = node.data / "homes/1"
    eventually((home / "seen").exists, 60, lambda: (
        home / "seen.new").read_text())
    seen = dict(line.split(" ", 1)
                for line in (home / "seen").read_text().splitlines())
    assert seen.pop("container") == "lxc"
    assert seen.pop("arguments").startswith("/sbin/init systemd.mask=")
    assert seen.pop("group") == "/"
    assert seen.pop("cgroups") == "63677270"  # cgroup2
    assert seen.pop("run") == "1021994 755"  # tmpfs
    assert seen.pop("shm") == "1021994"
    assert seen.pop("hostname") == "vm1"
    assert seen.pop("address") == "10.88.0.3/16"
    # Its groups are its own to divide, within limits, and those are not.
    assert seen.pop("scope") == seen.pop("move") == seen.pop("move-on") \
        == "yes"
    assert 4 < int(seen.pop("depth")) <= 16
    assert seen.pop("groups") == "held"
    assert set(seen.values()) == {"no"}, seen
    # What the node does by the desktop's group reaches those below.
    usage = next(u for u in node.ask("vm.usage")["vms"] if u[0] == 1)
    assert usage[2] >= 1, "its init is counted"
    assert node.ask("vm.limits", vm_id=1)["memory_mb"] == 96


def test_life_under_systemd(node):
    own = node.image("", image_id=2, extra=with_systemd)
    first, pidfd = node.vm(1, own)
    (node.data / "homes/1/halted").unlink(missing_ok=True)
    with node.connect(1) as s:
        assert s.recv(100) == b"tiny vm1 uid 0\n"
    node.kill()
    node.start()
    node.setup()
    again, fd = node.ask_fd("vm.adopt", vm_id=1, idmap_slot=0,
                            address="10.88.0.3")
    os.close(fd)
    assert again["pid"] == first["pid"]
    node.ask("vm.freeze", vm_id=1)
    node.ask("vm.thaw", vm_id=1)
    # Told as systemd is told: TERM would mean something else to it.
    node.ask("vm.stop", vm_id=1, grace_ms=30000)
    os.close(pidfd)
    assert (node.data / "homes/1/halted").exists()
    node.ask("vm.clean", vm_id=1)
    assert not node.left(1)


@pytest.mark.parametrize("why", ["unit not enabled", "another init",
                                 "init leads out"])
def test_images_that_keep_the_agent(node, why):
    """systemd is in many images because other packages need it."""
    n = {"unit not enabled": 3, "another init": 4, "init leads out": 5}[why]

    def extra(tree):
        if why == "unit not enabled":
            with_systemd(tree, enabled=False)
        elif why == "another init":
            with_systemd(tree, init="/bin/busybox")
        else:
            with_systemd(tree, init="../../../../../../../bin/true")

    began, _ = node.vm(1, node.image("", image_id=n, extra=extra))
    assert began["init"] == "agent"
    with node.connect(1) as s:
        assert s.recv(100) == b"tiny vm1 uid 0\n"


def test_a_desktop_that_changes_its_init(node):
    """Its root may: it is held as before, whatever it chose."""
    own = node.image("run rm /sbin/init; echo >/home/end", image_id=6,
                     extra=with_systemd)
    home = node.data / "homes/1"
    (home / "end").unlink(missing_ok=True)
    node.vm(1, own)
    eventually((home / "end").exists, 30)
    node.ask("vm.stop", vm_id=1, grace_ms=30000)
    node.ask("vm.clean", vm_id=1)
    began, _ = node.vm(1, own)
    assert began["init"] == "agent"
    status = pathlib.Path(f"/proc/{began['pid']}/status").read_text()
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status


# The real one


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A Debian with systemd, our package for the agent, and a desktop."""
    need("root", "containers", "dpkg-buildpackage", "dh")
    work = tmp_path_factory.mktemp("systemd")
    deb = packaged("deb", work)
    tree = work / "tree"
    tree.mkdir(mode=0o755)
    run("tar", "-C", tree, "--numeric-owner", "-xf", image("systemd"))
    shutil.copy(deb, tree / "tmp/agent.deb")
    run("chroot", tree, "dpkg", "--install", "/tmp/agent.deb")
    (tree / "tmp/agent.deb").unlink()
    yield tree
    shutil.rmtree(tree)


def inside(farm, *argv, check=True):
    """Runs a program in the desktop as its root."""
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", farm.vm)
    return run("nsenter", "-t", pid, "-m", "-p", "-n", "-u", "-U", "-C", "-r",
               "-w", *argv, check=check)


@pytest.mark.long
@pytest.mark.parametrize("how", ["persistent", "volatile"])
def test_desktop_under_systemd(debian, how):
    with Farm() as farm:
        farm.add_user("alice", "secret")
        farm.add_osf("debian", debian, "--memory", "1G", "--pids", "500",
                     *(["--root", "volatile"] if how == "volatile" else []))
        farm.vm = farm.add_vm("alice", "debian")
        with Display(farm) as screen:
            desk = Desk(farm, screen)
            assert "under its own systemd" in farm.wait_event(
                "vm.running", farm.vm)[1]
            assert inside(farm, "systemctl", "is-system-running", "--wait",
                          check=False) == "running\n", inside(
                              farm, "systemctl", "--failed", check=False)
            assert inside(farm, "readlink", "-f", "/proc/1/exe") \
                .endswith("/systemd\n")
            # The agent is its service, and the session is in that.
            assert inside(farm, "systemctl", "show", "-P", "ActiveState",
                          "qvd-vma.service") == "active\n"
            assert "nxagent" in inside(farm, "systemctl", "status",
                                       "qvd-vma.service")
            # What the node gave it.
            assert inside(farm, "cat", "/proc/sys/kernel/hostname") == "desk\n"
            address = farm.one("SELECT host(address) FROM vms WHERE id = %s",
                               farm.vm)
            assert f" {address}/" in inside(farm, "ip", "-4", "addr", "show",
                                            "eth0")
            assert inside(farm, "systemd-detect-virt") == "lxc\n"
            # The daemon goes and comes: the desktop is the same.
            before = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s",
                              farm.vm)
            farm.kill("qvd-hkd")
            farm.wait_event("vm.adopted", farm.vm)
            desk.works()
            assert before == farm.one(
                "SELECT pid FROM vm_runtimes WHERE vm_id = %s", farm.vm)
            desk.close()
        # In order: the session first, then all services, and no kill.
        farm.qvd("vm", "stop", farm.vm)
        farm.wait_vm(farm.vm, state="stopped")
        assert "did not power off" not in farm.text()
        farm.assert_clean(farm.vm)
