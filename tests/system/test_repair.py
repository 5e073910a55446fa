# SPDX-License-Identifier: GPL-3.0-or-later
"""What a crash leaves on a node is found, named and removed; what runs is not
touched."""

import os
import pathlib
import shutil

import pytest
from qvdlab import Farm, eventually, leaks, need, run


@pytest.fixture(scope="module")
def house():
    need("root", "containers", "losetup")
    with Farm(images=["busybox"]) as farm:
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "busybox")
        farm.qvd("vm", "start", farm.vm)
        farm.host = farm.one("SELECT name FROM hosts")
        yield farm


class Debris:
    """One of each, of VMs that there never were."""

    def __init__(self, farm):
        self.farm = farm
        self.group = next(d for d in leaks.cgroup_dirs(farm)
                          if d.name == str(farm.vm) and d.parent.name == "ct"
                          ).parent / "900001"
        self.left_by_vms()
        run(*farm.prefix, "nft", "add", "element", "bridge", "qvd", "macip",
            '{ "qvd900003" . 54:52:00:58:77:77 . 10.88.119.119 }')
        # The helper reads the sets when it starts. The end of the repair
        # that it begins then is waited for, or it would take the next things,
        # too: until then another is refused.
        before = self.starts()
        farm.kill("qvd-hkd")
        eventually(lambda: self.starts() > before, 60)
        eventually(lambda: farm.qvd("host", "repair", farm.host, "--dry-run",
                                    check=False).status == 0, 60)
        self.notes = farm.run / "vms/900004"
        self.changes = farm.data / "vms/900005"
        self.mount = farm.run / "mnt/dead"
        self.image = farm.data / "homes/900006.img"
        self.unfinished = [farm.data / name for name in (
            "homes/900008.img.new", "homes/900009.new",
            "snapshots/900008/monday.img.new",
            "vms/900010/" + "2" * 64 + ".old",
            f"vms/{farm.vm}/{'1' * 64}/root.img.new")]
        # What has nothing to do with it.
        self.others = [farm.data / name for name in (
            "homes/900008.img", "homes/notes.new",
            "snapshots/900008/monday.img", "snapshots/900008/monday.old",
            f"vms/{farm.vm}/{'1' * 64}/upper/home/a.new")]

    def left_by_vms(self):
        """A desktop's own groups, and both kinds of ports."""
        (self.group / "init.scope").mkdir(parents=True)
        run(*self.farm.prefix, "ip", "link", "add", "qvd900002", "type",
            "veth", "peer", "name", "p900002")
        run(*self.farm.prefix, "ip", "tuntap", "add", "qvd900007", "mode",
            "tap")

    def starts(self):
        return self.farm.one("SELECT count(*) FROM events "
                             "WHERE name = 'host.started'")

    def rest(self):
        """What is not looked for when the helper starts, or is made anew."""
        self.notes.mkdir(parents=True)
        (self.notes / "run.json").write_text("{}")
        upper = self.changes / ("0" * 64) / "upper"
        upper.mkdir(parents=True)
        (upper / "file").write_text("changed")
        self.mount.mkdir(exist_ok=True)
        # Where the house-keeper sees it, whichever namespace that is. A root
        # over it, so that it can't go first.
        run("mount", "-t", "tmpfs", "dead", self.mount)
        for d in ("lower", "upper", "work", "root"):
            (self.mount / d).mkdir()
        run("mount", "-t", "overlay", "-o",
            ",".join(f"{d}dir={self.mount}/{d}"
                     for d in ("lower", "upper", "work")),
            "dead", self.mount / "root")
        for path in (*self.unfinished, *self.others):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(4096))
        self.unfinished[1].unlink()
        (self.unfinished[1] / "folder").mkdir(parents=True)
        self.image.write_bytes(bytes(1 << 20))
        self.loop = run("losetup", "--find", "--show", self.image).strip()

    def there(self):
        rules = run(*self.farm.prefix, "nft", "list", "ruleset")
        return {name for name, is_there in {
            "cgroups": self.group.exists(),
            "link": "qvd900002" in leaks.links(self.farm),
            "tap": "qvd900007" in leaks.links(self.farm),
            "firewall elements": "qvd900003" in rules,
            "notes": self.notes.exists(),
            "changes": self.changes.exists(),
            "mount": os.path.ismount(self.mount),
            "loop device": str(self.image) in run("losetup", "-a"),
            "unfinished": any(p.exists() for p in self.unfinished[:4]),
            "others": all(p.exists() for p in self.others),
            "of one that runs": self.unfinished[4].exists()}.items()
            if is_there}

    def remove(self):
        run("umount", "-R", "-l", self.mount, check=False)
        if str(self.image) in run("losetup", "-a"):
            run("losetup", "-d", self.loop, check=False)
        for link in ("qvd900002", "qvd900007"):
            run(*self.farm.prefix, "ip", "link", "del", link, check=False)
        for path in (*self.unfinished, *self.others):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        for path in (self.notes, self.changes, *(
                p.parent for p in self.unfinished[2:])):
            shutil.rmtree(path, ignore_errors=True)
        for group in (self.group / "init.scope", self.group):
            if group.exists():
                group.rmdir()


KEPT = {"others", "of one that runs"}
ALL = KEPT | {"cgroups", "link", "tap", "firewall elements", "notes",
              "changes", "mount", "loop device", "unfinished"}


def runs(farm, pid):
    state, now = farm.sql("SELECT state, pid FROM vm_runtimes "
                          "WHERE vm_id = %s", farm.vm)[0]
    address = farm.one("SELECT host(address) FROM vms WHERE id = %s", farm.vm)
    assert (state, now) == ("running", pid)
    assert pathlib.Path(f"/proc/{pid}").exists()
    assert " 0% packet loss" in run(*farm.prefix, "ping", "-n", "-c1", "-W5",
                                    address)
    assert (farm.data / f"vms/{farm.vm}").exists()


def test_nothing_to_repair(house):
    pid = house.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", house.vm)
    for args in ((), ("--dry-run",)):
        done = house.qvd("host", "repair", house.host, *args)
        assert done.out == "Nothing was left behind.\n"
    runs(house, pid)


def test_repair(house):
    pid = house.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", house.vm)
    debris = Debris(house)
    try:
        # The daemon's own start has done its part.
        assert debris.there() == set()
        debris.left_by_vms()
        debris.rest()
        there = debris.there()
        assert there == ALL - {"firewall elements"}
        found = house.qvd("host", "repair", house.host, "--dry-run",
                          json=True)
        named = sorted((i["vm_id"], i["what"]) for i in found)
        assert named == [(0, "mount"), (0, "mount"), (900001, "cgroups"),
                         (900002, "link"), (900004, "notes"),
                         (900005, "changes"), (900006, "loop device"),
                         (900007, "link"), (900008, "unfinished volume"),
                         (900008, "unfinished volume"),
                         (900009, "unfinished volume"),
                         (900010, "changes"), (900010, "unfinished volume")]
        assert debris.there() == there, "a dry run removes nothing"
        removed = house.qvd("host", "repair", house.host, json=True)
        assert sorted((i["vm_id"], i["what"]) for i in removed) == named
        assert not any("error" in i for i in removed)
        assert debris.there() == KEPT
        assert house.qvd("host", "repair", house.host).out \
            == "Nothing was left behind.\n"
        assert house.one("SELECT count(*) FROM audit WHERE "
                         "action = 'hosts.repair'") >= 3
        eventually(lambda: "removed what a crash had left: 13 things" in
                   [e[1] for e in house.events()])
        runs(house, pid)
    finally:
        debris.remove()


def test_repair_at_start(house):
    """Everything killed at once; mounts and devices are there, and changes to
    images stay: the rows may be what is wrong."""
    pid = house.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", house.vm)
    debris = Debris(house)
    try:
        debris.rest()
        house.kill("qvd-hkd")
        eventually(lambda: debris.there() == KEPT | {"changes"}, 30,
                   debris.there)
        house.wait_sql("qvd_hosts",
                       "SELECT state = 'running' FROM host_runtimes")
        runs(house, pid)
        found = eventually(lambda: house.qvd(
            "host", "repair", house.host, "--dry-run", "-o", "json",
            check=False))
        assert "changes" in found.out, found
    finally:
        debris.remove()


def test_repair_of_another(house):
    house.qvd("host", "add", "elsewhere", "--address", "192.0.2.1")
    done = house.qvd("host", "repair", "elsewhere", check=False)
    assert done.status == 20 and "on 'elsewhere' itself" in done.err
