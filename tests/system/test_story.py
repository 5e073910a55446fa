# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole story of an image's versions, on real containers and on real
machines: made, changed in a desktop, compared, rolled out, halted when broken,
taken back, cleared away."""

import contextlib

import kvmguest
import pytest
from qvdlab import Failed, Farm, build, eventually, need, run
from test_image_versions import inside, refs


class Containers:
    """Of the BusyBox image."""

    desktops = 20
    osf = ()

    def __init__(self, farm):
        self.farm = farm

    def image(self):
        return build.image("busybox")

    def do(self, vm, script):
        """As the root of a desktop; what it said."""
        return inside(self.farm, vm, script)

    def broken(self):
        """A version in which a file is where the agent is to be mounted, so
        that nothing starts."""
        path = self.farm.dir / "broken"
        path.mkdir()
        run("tar", "-C", path, "-xf", build.image("busybox"))
        (path / "usr/lib").rmdir()
        (path / "usr/lib").write_text("")
        return path


class Machines(Containers):
    """Of the same with a kernel; few, because all is emulated."""

    desktops = 3
    osf = ("--hypervisor", "kvm", "--memory", "256M", "--accel", "tcg",
           "--home", "64M")

    def image(self):
        return kvmguest.make_system(self.farm.dir / "system")

    def do(self, vm, script):
        said = kvmguest.console(
            self.farm, vm, ("#", "\n"),
            ("END", f"echo BE''GIN; {script}; sync; echo E''ND\n"))
        return said.split("BEGIN\r\n")[1].split("END")[0].replace("\r", "")

    def broken(self):
        path = super().broken()
        kvmguest.add_kernel(path)
        return path


def pids(farm):
    return dict(farm.sql("SELECT vm_id, pid FROM vm_runtimes WHERE state = "
                         "'running'"))


def version_of(farm, vm):
    """What it would get if it started now."""
    return farm.one("SELECT version FROM images WHERE id = vm_image(%s)", vm)


def ran(farm, vm):
    return farm.one("SELECT i.version FROM vm_runtimes r JOIN images i ON "
                    "i.id = r.image_id WHERE r.vm_id = %s", vm)


def restart(farm, vm):
    """Whether it runs again."""
    farm.qvd("vm", "stop", vm, timeout=300)
    with contextlib.suppress(Failed):
        farm.qvd("vm", "start", vm, timeout=300)
        return True
    return False


def begin(farm, kind):
    """Version 1 and the desktops that run it."""
    farm.add_user("alice", "secret")
    farm.add_osf("story", None, *kind.osf)
    farm.qvd("image", "import", kind.image(), "--osf", "story",
             "--version", "1", "--tag", "default", timeout=300)
    vms = [farm.add_vm("alice", "story", f"desk{i:02}")
           for i in range(kind.desktops)]
    farm.qvd("vm", "start", *vms, timeout=600)
    assert len(pids(farm)) == len(vms)
    return vms


def change_and_commit(farm, kind, vm):
    """Version 2 is what somebody did in a desktop, and only that."""
    kind.do(vm, "echo 2 > /etc/version; rm /etc/hosts")
    farm.qvd("vm", "stop", vm, timeout=300)
    farm.qvd("image", "commit", vm, "--version", "2", "--message", "A hosts "
             "file less", timeout=300)
    diff = farm.qvd("image", "diff", "story/1", "story/2", json=True)
    files = {f["path"]: f["change"] for f in diff["files"]
             if f["kind"] == "file"}
    assert files["/etc/version"] == "added"
    assert files["/etc/hosts"] == "removed"
    assert not {"/bin/busybox", "/etc/passwd", "/etc/os-release"} & set(files)
    # One file is one inode, in both versions.
    inodes = {(farm.data / "images/trees" / c / "bin/busybox").stat().st_ino
              for c, in farm.sql("SELECT checksum FROM images")}
    assert len(inodes) == 1
    farm.qvd("vm", "start", vm, timeout=300)


def tag_moves_nothing_that_runs(farm, kind, vms):
    before = pids(farm)
    farm.qvd("image", "tag", "story/2", "default")
    assert pids(farm) == before
    assert {version_of(farm, v) for v in vms} == {"2"}
    assert restart(farm, vms[1])
    assert kind.do(vms[1], "cat /etc/version") == "2\n"
    assert (ran(farm, vms[1]), ran(farm, vms[2])) == ("2", "1")


def canary_halts(farm, vms):
    """The broken version reaches one desktop, which has the old one again as
    soon as it is seen to be worse."""
    before = pids(farm)
    which = farm.qvd("image", "rollout", "story/3", "--to", "default",
                     "--canary", "5%", "--watch", "1h", json=True)["id"]
    (canary,), = farm.sql("SELECT vm_id FROM rollout_members WHERE "
                          "rollout_id = %s", which)
    assert [v for v in vms if version_of(farm, v) == "3"] == [canary]
    assert [restart(farm, canary) for _ in range(3)] == [False] * 3
    farm.wait_sql("qvd_rollouts", "SELECT state = 'halted' FROM rollouts "
                  "WHERE id = %s", which, timeout=120)
    reason = farm.qvd("rollout", "show", which, json=True)["reason"]
    assert reason.startswith("3 of 3 starts of version 3 failed (version 2: ")
    assert {version_of(farm, v) for v in vms} == {"2"}
    farm.qvd("vm", "start", canary, timeout=300)
    assert ran(farm, canary) == "2"
    assert f"because {reason}" in farm.qvd("why", "vm", canary).out
    now = pids(farm)
    assert {v: now[v] for v in vms if v != canary} == \
        {v: before[v] for v in vms if v != canary}, "nobody else was touched"


def rollbacks(farm, vms):
    """Takes the roll-out back; then to the version before; then no further."""
    farm.qvd("image", "rollback", "story")
    assert {version_of(farm, v) for v in vms} == {"2"}
    farm.qvd("image", "rollback", "story")
    assert {version_of(farm, v) for v in vms} == {"1"}
    assert restart(farm, vms[1]) and ran(farm, vms[1]) == "1"
    done = farm.qvd("image", "rollback", "story", check=False)
    assert done.status == 16 and "nothing good is left" in done.err


def clear_away(farm, vms):
    """What nobody needs goes, what runs stays: a desktop runs version 2."""
    ids = dict(farm.sql("SELECT version, id FROM images"))
    done = farm.qvd("image", "del", "story/2", check=False)
    assert done.status == 16 and "runs it" in done.err
    farm.qvd("image", "retire", "story/3")
    farm.qvd("osf", "set", "story", "--keep", "0")
    dry = farm.qvd("image", "gc", "--dry-run", json=True)
    assert [x["name"] for x in dry["items"]] == ["story/3"]
    assert refs(farm) == sorted(ids.values())
    done = farm.qvd("image", "gc", json=True)
    assert [x["name"] for x in done["items"]] == ["story/3"]
    eventually(lambda: refs(farm) == sorted((ids["1"], ids["2"])), 60)
    farm.qvd("image", "verify", "story/1", "story/2")
    assert farm.qvd("image", "log", "story", json=True)
    assert len(pids(farm)) == len(vms)


@pytest.mark.parametrize("kind", [
    Containers,
    pytest.param(Machines, marks=[pytest.mark.once,
                                  pytest.mark.timeout(3600)])])
def test_the_whole_story(kind):
    need("root", "containers")
    with Farm() as farm:
        kind = kind(farm)
        vms = begin(farm, kind)
        change_and_commit(farm, kind, vms[0])
        tag_moves_nothing_that_runs(farm, kind, vms)
        farm.qvd("image", "import", kind.broken(), "--osf", "story",
                 "--version", "3", timeout=300)
        canary_halts(farm, vms)
        rollbacks(farm, vms)
        clear_away(farm, vms)
        farm.qvd("vm", "stop", *vms, timeout=600)
        for vm in vms:
            farm.assert_clean(vm)
