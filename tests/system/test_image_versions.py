# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as version control, with real containers: versions made of what was
changed in a desktop, what differs, tags, retiring, cancelling, garbage."""

import fcntl
import os
import re
import struct
import subprocess
import tarfile
import threading

import pytest
from qvdlab import eventually, need, run

STATUS = """Package: {name}
Status: install ok installed
Architecture: amd64
Installed-Size: {kib}
Version: {version}

"""


def inside(farm, vm, script, check=True):
    """Runs a script in the desktop as its root."""
    pid = farm.one("SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm)
    return subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "-p", "-n", "-u", "-U", "-r", "-w",
         "/bin/sh", "-c", script], text=True, check=check, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def refused(farm, *args, status, text):
    done = farm.qvd(*args, check=False)
    assert done.status == status and text in done.err, done.err
    return done.err


def tree(path, **files):
    """A small root file system: etc/name files, and a list of packages."""
    (path / "etc").mkdir(parents=True)
    (path / "var/lib/dpkg").mkdir(parents=True)
    packages = files.pop("packages", {})
    (path / "var/lib/dpkg/status").write_text("".join(
        STATUS.format(name=n, version=v, kib=k)
        for n, (v, k) in packages.items()))
    for name, text in files.items():
        (path / "etc" / name).write_text(text)
    return path


def refs(farm):
    d = farm.data / "images/repo/refs/heads/image"
    return sorted(int(p.name) for p in d.iterdir())


@pytest.fixture
def vm(busybox_farm):
    return busybox_farm.add_vm("alice", "busybox")


CHANGES = """
set -e
echo new > /etc/new; chown 7:8 /etc/new
echo changed > /etc/os-release
rm /etc/hosts
rm -r /etc/skel; mkdir /etc/skel; echo x > /etc/skel/fresh
mv /etc/qvd /etc/qvd-moved; mkdir /etc/qvd
echo alice:x:2000:2000::/home/alice:/bin/sh >> /etc/passwd
echo litter > /tmp/litter; echo mine > /home/mine
"""


def acl(group):
    """Of a file that its owner may write, and a group read, too."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in (
        (1, 6, 0xffffffff), (4, 4, 0xffffffff), (8, 4, group),
        (16, 4, 0xffffffff), (32, 4, 0xffffffff)))


def test_commit_what_was_done_in_a_desktop(busybox_farm, vm):
    farm = busybox_farm
    base = farm.qvd("image", "show", "busybox:default", json=True)
    refused(farm, "image", "commit", vm, status=16, text="it has not run")
    farm.qvd("vm", "start", vm)
    inside(farm, vm, CHANGES)
    # On the node its ids are others.
    seen = "/proc/{}/root/etc/new".format(farm.one(
        "SELECT pid FROM vm_runtimes WHERE vm_id = %s", vm))
    os.setxattr(seen, "system.posix_acl_access",
                acl(os.stat(seen).st_uid - 7 + 4))
    refused(farm, "image", "commit", vm, status=16, text="VM 1 runs; stop it")
    farm.qvd("vm", "stop", vm)
    farm.qvd("image", "commit", "alice/desk", "--message", "What I did")
    made = farm.qvd("image", "show", "busybox:head", json=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{3}", made["version"])
    assert (made["parent"], made["author"]) == (base["version"], "root")
    assert made["message"] == "What I did" and made["hypervisors"] == "lxc"
    new = farm.data / "images/trees" / made["checksum"]
    assert (new / "etc/new").read_text() == "new\n"
    st = (new / "etc/new").stat()
    assert (st.st_uid, st.st_gid) == (7, 8), "ids as the desktop sees them"
    assert os.getxattr(new / "etc/new", "system.posix_acl_access") == acl(4)
    assert (new / "etc/os-release").read_text() == "changed\n"
    assert not (new / "etc/hosts").exists()
    assert [p.name for p in (new / "etc/skel").iterdir()] == ["fresh"]
    assert (new / "etc/qvd-moved").is_dir()
    assert "alice" not in (new / "etc/passwd").read_text()
    for left_out in ("tmp", "home"):
        assert list((new / left_out).iterdir()) == [], left_out
    same = "bin/busybox"
    old = farm.data / "images/trees" / base["checksum"]
    assert (new / same).stat().st_ino == (old / same).stat().st_ino
    log = farm.qvd("image", "log", "busybox").out
    assert log.index(made["version"]) < log.index(f"version {base['version']}")
    assert "What I did" in log and f"parent:  {base['version']}" in log
    diff = farm.qvd("image", "diff", "busybox:head", json=True)
    changes = {f["path"]: f["change"] for f in diff["files"]}
    assert changes["/etc/new"] == "added"
    assert changes["/etc/os-release"] == "changed"
    assert changes["/etc/hosts"] == "removed"
    assert "/bin/busybox" not in changes and "/etc/passwd" not in changes
    # What each desktop has of its own doesn't become everybody's.
    assert not {"/etc/machine-id", "/etc/resolv.conf",
                "/usr/lib/qvd/qvd-vma"} & set(changes)
    # The VM gets it when its tag does, at its next start.
    farm.qvd("image", "tag", "busybox:head", "default")
    farm.qvd("vm", "start", vm)
    assert inside(farm, vm, "cat /etc/new") == "new\n"
    farm.qvd("image", "tag", base["id"], "default")
    assert inside(farm, vm, "cat /etc/new") == "new\n"
    refused(farm, "image", "del", made["id"], status=16,
            text=f"VM {vm} (alice/desk) runs it")
    farm.qvd("vm", "stop", vm)
    farm.qvd("image", "verify", base["id"], made["id"])


def test_nothing_modifies_a_checkout(busybox_farm, vm):
    farm = busybox_farm
    farm.qvd("vm", "start", vm)
    checksum = farm.one("SELECT checksum FROM images")
    trees = farm.data / "images/trees" / checksum
    before = run("find", trees, "-printf", "%P %i %m %U %s %T@ %C@\n")
    out = inside(farm, vm, """
        echo x >> /bin/busybox; chmod 777 /bin/busybox; chown 5 /bin/sh
        rm -f /etc/hosts; mkdir /etc/x; touch /etc/os-release
        mount -o remount,rw /; mount -o bind / /run; echo x > /run/bin/y
        for m in $(cut -d' ' -f2 /proc/mounts); do
            mount -o remount,rw,bind $m; done
        mkdir /run/l; mount -t overlay -o lowerdir=/etc,upperdir=/etc,workdir=/etc x /run/l
        ls -d /proc/1/root/../lower /var/lib/qvd
        true""", check=False)
    assert "lower" not in out.split("ls:")[0].replace("lowerdir", "")
    # On the host, as the user that the desktop's root is there.
    uid = farm.one("SELECT idmap_slot FROM tenants") * 65536 + 100000
    as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}",
               "--clear-groups"]
    for what in (["touch", trees / "etc/os-release"], ["ls", trees],
                 ["sh", "-c", f"echo x > {trees}/bin/busybox"],
                 ["chmod", "777", trees], ["ln", trees / "bin/busybox",
                                           "/tmp/qvd-stolen"]):
        done = subprocess.run([str(a) for a in as_user + what], check=False,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode != 0, what
        assert b"ermission denied" in done.stdout, done.stdout
    assert run("find", trees, "-printf",
               "%P %i %m %U %s %T@ %C@\n") == before
    farm.qvd("image", "verify", "busybox:default")
    farm.qvd("vm", "stop", vm)


def test_diff_of_packages(farm, tmp_path):
    farm.add_osf("deb")
    one = tree(tmp_path / "1", a="1", b="1", packages={
        "libc6": ("2.36-9", 13000), "vim": ("9.0", 4000), "old": ("1", 10)})
    two = tree(tmp_path / "2", a="22", c="1", packages={
        "libc6": ("2.36-10", 13100), "vim": ("9.0", 4000), "new": ("1", 20)})
    for source in (one, two):
        farm.qvd("image", "import", source, "--osf", "deb", "--version",
                 "v" + source.name)
    diff = farm.qvd("image", "diff", "deb/v1", "deb/v2", json=True)
    found = {p["name"]: (p["change"], p.get("old_version"),
                         p.get("new_version"), p["new_bytes"])
             for p in diff["packages"]}
    assert found == {
        "libc6:amd64": ("changed", "2.36-9", "2.36-10", 13100 * 1024),
        "new:amd64": ("added", None, "1", 20 * 1024),
        "old:amd64": ("removed", "1", None, 0)}
    assert {(f["path"], f["change"], f["old_bytes"], f["new_bytes"])
            for f in diff["files"] if f["path"].startswith("/etc")} == {
        ("/etc/a", "changed", 1, 2), ("/etc/b", "removed", 1, 0),
        ("/etc/c", "added", 0, 1)}
    assert (diff["added"], diff["removed"], diff["changed"]) == (1, 1, 2)
    assert (diff["from"], diff["to"]) == ("deb/v1", "deb/v2")
    out = farm.qvd("image", "diff", "deb/v2").out
    assert re.search(r"libc6:amd64 +changed +2\.36-9 +2\.36-10 +13M", out)
    assert re.search(r"/etc/b +removed +file", out)
    assert "/etc/b" not in farm.qvd("image", "diff", "deb/v2",
                                    "--packages").out
    refused(farm, "image", "diff", "deb/v1", status=18, text="no parent")
    # Backwards.
    diff = farm.qvd("image", "diff", "deb/v2", "deb/v1", json=True)
    assert (diff["added"], diff["removed"], diff["changed"]) == (1, 1, 2)


def test_export_and_back(farm, tmp_path):
    farm.add_osf("deb")
    source = tree(tmp_path / "t", a="1" * 100000)
    (source / "usr").mkdir()
    (source / "usr/su").write_text("x")
    (source / "usr/su").chmod(0o4755)
    os.symlink("/etc/a", source / "etc/link")
    os.setxattr(source / "etc/a", "user.mark", b"kept")
    os.chown(source / "etc/a", 12, 13)
    farm.qvd("image", "import", source, "--osf", "deb", "--version", "1")
    first = farm.qvd("image", "show", "deb/1", json=True)
    for i, end in enumerate((".tar", ".tar.gz", ".tar.xz", ".tar.zst")):
        out = tmp_path / f"out{end}"
        farm.qvd("image", "export", "deb/1", out)
        farm.qvd("image", "import", out, "--osf", "deb", "--version",
                 f"back{i}")
        back = farm.qvd("image", "show", f"deb/back{i}", json=True)
        assert back["content"] == first["content"], end
    farm.qvd("image", "export", "deb/1", tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == \
        (tmp_path / "out.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "out.tar") as t:
        assert t.getmember("./etc/link").linkname == "/etc/a"
    # Where there is too little room for it, nothing of it stays.
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "qvd-test", small)
    try:
        refused(farm, "image", "export", "deb/1", small / "x.tar", status=22,
                text="No space left on device")
        assert list(small.iterdir()) == []
    finally:
        run("umount", small)
    assert list((farm.data / "images/exports").iterdir()) == []
    refused(farm, "image", "export", "deb/1", tmp_path / "x.zip", status=2,
            text="ends in none of")
    refused(farm, "image", "export", "deb/1", tmp_path / "no/x.tar",
            status=24, text="No such file")


def test_publish_and_retire(busybox_farm, vm, tmp_path):
    farm = busybox_farm
    first = farm.one("SELECT id FROM images")
    farm.qvd("image", "import", tree(tmp_path / "t", a="1"), "--osf",
             "busybox", "--version", "next", "--tag", "beta", "--no-publish")
    shown = farm.qvd("image", "show", "busybox/next", json=True)
    assert (shown["state"], shown["tags"]) == ("ready", [])
    refused(farm, "image", "tag", "busybox/next", "default", status=16,
            text="it is ready (see 'qvd image publish')")
    farm.qvd("image", "publish", "busybox/next")
    shown = farm.qvd("image", "show", "busybox/next", json=True)
    assert (shown["state"], shown["tags"]) == ("published", ["beta", "head"])
    refused(farm, "image", "publish", "busybox/next", status=16,
            text="is published; only one that is ready or retired")
    refused(farm, "image", "retire", first, status=16,
            text=f"VM {vm} (alice/desk) follows its tag default")
    refused(farm, "image", "retire", "busybox/next", status=16,
            text="its tag beta")
    farm.qvd("image", "untag", "busybox/next", "beta")
    farm.qvd("image", "retire", "busybox/next")
    shown = farm.qvd("image", "show", "busybox/next", json=True)
    assert (shown["state"], shown["tags"]) == ("retired", [])
    assert farm.qvd("image", "show", "busybox:head", json=True)["id"] == first
    refused(farm, "image", "tag", "busybox/next", "beta", status=16,
            text="it is retired")
    refused(farm, "image", "tag", first, "next", status=16,
            text="is a version of the OSF")
    # A VM that follows it by its version.
    farm.qvd("image", "publish", "busybox/next")
    farm.qvd("vm", "set", vm, "--tag", "next")
    refused(farm, "image", "retire", "busybox/next", status=16,
            text="follows its version")
    refused(farm, "image", "del", "busybox/next", status=16,
            text="follows its version")
    # Blocked: nothing starts, and says why.
    farm.qvd("vm", "set", vm, "--tag", "default")
    farm.qvd("image", "block", first)
    refused(farm, "vm", "start", vm, status=29, text="is blocked")
    refused(farm, "image", "tag", first, "other", status=16,
            text="unblock it first")
    farm.qvd("image", "unblock", first)
    farm.qvd("vm", "start", vm)
    farm.qvd("vm", "stop", vm)


def test_a_name_is_given_once(farm, tmp_path):
    """Of those that versions get by themselves."""
    farm.add_osf("n")
    source = tree(tmp_path / "t", a="1")
    args = ("image", "import", source, "--osf", "n")
    first = farm.qvd(*args, json=True)["version"]
    # A tag that is named as the next one would be.
    tag = f"{first[:-3]}{int(first[-3:]) + 1:03}"
    farm.qvd("image", "tag", f"n/{first}", tag)
    second = farm.qvd(*args, json=True)["version"]
    farm.qvd("image", "del", f"n/{second}")
    third = farm.qvd(*args, json=True)["version"]
    assert len({first, tag, second, third}) == 4
    at_once = [subprocess.Popen(
        [str(a) for a in (farm.programs / "qvd", *args, "--no-wait")],
        env=farm.env, stdout=subprocess.DEVNULL) for _ in range(5)]
    assert [p.wait(60) for p in at_once] == [0] * 5
    assert farm.one("SELECT count(DISTINCT version) FROM images") == 7
    assert not farm.one("SELECT count(*) FROM images WHERE version = %s", tag)


def test_no_moment_without_an_image(busybox_farm, tmp_path):
    """What a start asks always finds a published image, while tags move,
    imports publish and others are retired."""
    farm = busybox_farm
    first = farm.one("SELECT id FROM images")
    osf = farm.one("SELECT osf_id FROM images")
    farm.qvd("image", "import", tree(tmp_path / "t", a="1"), "--osf",
             "busybox", "--version", "other")
    other = farm.qvd("image", "show", "busybox/other", json=True)["id"]
    missing, seen, stop = [], set(), threading.Event()

    def look():
        import psycopg
        with psycopg.connect(host=str(farm.run / "pg"), dbname="qvd",
                             user="qvd_owner", autocommit=True,
                             options="-c search_path=qvd") as db:
            while not stop.is_set():
                row = db.execute(
                    "SELECT i.id, i.state FROM image_tags g JOIN images i ON "
                    "i.id = g.image_id WHERE g.osf_id = %s AND g.tag = "
                    "'default'", (osf,)).fetchone()
                if row is None or row[1] != "published":
                    missing.append(row)
                else:
                    seen.add(row[0])
    thread = threading.Thread(target=look)
    thread.start()
    for i in range(6):
        farm.qvd("image", "tag", (other, first)[i % 2], "default")
    (tmp_path / "t/etc/b").write_text("b")
    farm.qvd("image", "import", tmp_path / "t", "--osf", "busybox",
             "--version", "third", "--tag", "default")
    farm.qvd("image", "retire", other)
    stop.set()
    thread.join(30)
    assert not missing
    assert len(seen) == 3


def test_cancel(farm, tmp_path):
    farm.add_osf("big")
    source = tree(tmp_path / "t", a="1")
    with (source / "etc/huge").open("wb") as f:
        f.truncate(30 << 30)
    farm.qvd("image", "import", source, "--osf", "big", "--version", "1",
             "--no-wait")
    image = farm.one("SELECT id FROM images")
    farm.wait_sql("qvd_images", "SELECT state = 'importing' FROM images")
    waiting = subprocess.Popen(
        [farm.programs / "qvd", "image", "import", source, "--osf", "big",
         "--version", "2"], env=farm.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    # How far each is can be seen here and from elsewhere.
    next(line for line in waiting.stderr
         if "importing 0 %: waiting for its turn" in line)
    second = farm.one("SELECT max(id) FROM images")
    assert farm.qvd("image", "show", second, json=True)["step"] == \
        "waiting for its turn"
    shown = eventually(lambda: [x for x in [farm.qvd(
        "image", "show", image, json=True)] if x["progress"] > 0], 60)[0]
    assert shown["step"] == "reading the directory" and \
        shown["progress"] < 95
    assert re.search(r"importing \d+ %: reading the directory\n",
                     farm.qvd("image", "log", "big").out)
    assert re.search(r" 1 +importing +\d+ ", farm.qvd("image", "list").out)
    # Ctrl-C leaves the import running, and says so.
    waiting.send_signal(2)
    _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == 130, said
    assert f"The work on image {second} goes on" in said and \
        f"'qvd image cancel {second}' ends it" in said, said
    assert farm.sql("SELECT count(*) FROM images WHERE state IN "
                    "('new', 'importing')") == [(2,)]
    farm.qvd("image", "cancel", image, "big/2")
    shown = farm.qvd("image", "show", image, json=True)
    assert (shown["state"], shown["error_id"]) == ("failed", "cancelled")
    assert shown["error"] == "cancelled by root"
    refused(farm, "image", "cancel", image, status=16, text="only one that")
    # The next one doesn't wait for them, and nothing of them is left.
    farm.qvd("image", "import", tree(tmp_path / "s", a="1"), "--osf", "big",
             "--version", "3", "--tag", "default", timeout=60)
    assert len(refs(farm)) == 1
    staging = (farm.data / "images/repo/tmp").glob("staging-*/*/*")
    assert list(staging) == []
    assert "default" in farm.qvd("image", "show", "big/3", json=True)["tags"]


def test_what_ends_with_its_command(farm, tmp_path):
    """Exports, comparisons and collections have no row: Ctrl-C says what
    becomes of them, and nothing of an archive is left."""
    farm.add_osf("big")
    source = tree(tmp_path / "t", a="1")
    (source / "etc/large").write_bytes(os.urandom(64 << 20))
    farm.qvd("image", "import", source, "--osf", "big", "--version", "1")
    exports = farm.data / "images/exports"

    def interrupted(*args, step):
        command = subprocess.Popen(
            [str(a) for a in (farm.programs / "qvd", "image", *args)],
            env=farm.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        next(line for line in command.stderr if step in line)
        command.send_signal(2)
        _, said = command.communicate(timeout=20)
        assert command.returncode == 130, said
        eventually(lambda: not farm.pids("qvd-hkd-image"), 60,
                   "the end of the work")
        return said
    # xz is slow: it isn't done before it is interrupted.
    said = interrupted("export", "big/1", tmp_path / "out.tar.xz",
                       step="writing the archive")
    assert "The export has ended" in said
    eventually(lambda: list(exports.iterdir()) == [], 30, "its removal")
    assert not list(tmp_path.glob("out*"))
    # Its house-keeper is killed.
    command = subprocess.Popen(
        [farm.programs / "qvd", "image", "export", "big/1",
         tmp_path / "out.tar.xz"], env=farm.env, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)
    # A large file is no step of its own.
    next(line for line in command.stderr if "writing the archive" in line
         and 0 < int(line.split()[-2]) < 90)
    farm.kill("qvd-hkd-main", "main")
    _, said = command.communicate(timeout=60)
    assert command.returncode == 20 and "repeat it when" in said, said
    eventually(lambda: list(exports.iterdir()) == [], 60, "its removal")
    farm.wait_event("host.started", count=2, timeout=60)
    # While somebody has the store, a collection waits, and says for whom.
    store = os.open(farm.data / "images/repo", os.O_RDONLY)
    fcntl.flock(store, fcntl.LOCK_SH)
    command = subprocess.Popen(
        [farm.programs / "qvd", "image", "gc"], env=farm.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    next(line for line in command.stderr
         if "waiting for an import or commit to end" in line)
    os.close(store)
    out, said = command.communicate(timeout=60)
    assert command.returncode == 0 and "0 images that no OSF keeps" in out


def test_garbage(farm, tmp_path):
    farm.add_osf("g")
    source = tree(tmp_path / "t", shared="s" * 100000)
    for i in range(1, 6):
        (source / "etc/own").write_text(str(i) * 1000000)
        farm.qvd("image", "import", source, "--osf", "g", "--version",
                 f"v{i}", *(["--tag", "stable"] if i == 2 else []))
    ids = dict(farm.sql("SELECT version, id FROM images"))
    assert farm.qvd("image", "gc", json=True)["bytes"] == 0
    farm.qvd("osf", "set", "g", "--keep", "1")
    dry = farm.qvd("image", "gc", "--dry-run", json=True)
    # v5 is head, v2 has a tag, v4 is the one that is kept.
    assert [x["name"] for x in dry["items"]] == ["g/v1", "g/v3"]
    assert dry["trees"] == 2 and 2_000_000 < dry["bytes"] < 2_100_000
    assert refs(farm) == sorted(ids.values())
    said = farm.qvd("image", "gc", "--dry-run").out
    assert "g/v1" in said and "would be removed" in said
    done = farm.qvd("image", "gc", json=True)
    assert [x["name"] for x in done["items"]] == ["g/v1", "g/v3"]
    eventually(lambda: refs(farm) == sorted(
        ids[v] for v in ("v2", "v4", "v5")), 30)
    assert len(list((farm.data / "images/trees").iterdir())) == 3
    assert farm.one("SELECT parent_id FROM images WHERE version = 'v4'") == \
        ids["v2"]
    assert farm.one("SELECT count(*) FROM events WHERE name = "
                    "'image.removed'") == 2
    farm.qvd("image", "verify", "g/v2", "g/v4", "g/v5")
    # By itself, at the next import; and what is deleted goes by itself.
    (source / "etc/own").write_text("6")
    farm.qvd("image", "import", source, "--osf", "g", "--version", "v6")
    eventually(lambda: farm.sql("SELECT version FROM images ORDER BY id") ==
               [("v2",), ("v5",), ("v6",)], 30)
    farm.qvd("image", "del", "g/v5")
    eventually(lambda: refs(farm) == sorted(
        r[0] for r in farm.sql("SELECT id FROM images")), 60)
    eventually(lambda: len(run(
        "find", farm.data / "images/repo/objects", "-size", "+900k").split())
        == 1, 60, "only v2's own file is left")
    assert farm.qvd("image", "gc", json=True)["bytes"] == 0


def test_recipe(farm, tmp_path):
    need("root")
    recipes = tmp_path / "images"
    (recipes / "tiny").mkdir(parents=True)
    top = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    for name in ("build", "debian.sh"):
        run("cp", f"{top}/images/{name}", recipes)
    make = recipes / "tiny/make"
    make.write_text('#!/bin/bash\nset -e\n[ "$1" != --key ] || exit 0\n'
                    'd=$(dirname "$1")/r; mkdir -p "$d/etc"; date +%N >"$0.t"\n'
                    'echo hello >"$d/etc/hello"\ntar -C "$d" -cf "$1" .\n')
    make.chmod(0o755)
    farm.add_osf("tiny")
    args = ["image", "build", recipes / "tiny", "--osf", "tiny", "--output",
            tmp_path / "out"]
    farm.qvd(*args, "--version", "1", "--tag", "default")
    # Its steps are told as they come; ended, it leaves its log alone.
    text = make.read_text()
    make.write_text(text.replace(
        "tar -C", 'echo "I: waiting for nobody"; sleep 1000; tar -C'))
    building = subprocess.Popen(
        [str(a) for a in (farm.programs / "qvd", *args)], env=farm.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = [next(line for line in building.stderr if part in line)
            for part in ("its log: ", "waiting for nobody")]
    assert re.match(r"building tiny, \d+ s: waiting for nobody", said[1])
    log = said[0].split("its log: ")[1].strip()
    building.send_signal(2)
    _, said = building.communicate(timeout=60)
    assert building.returncode == 130 and "The build has ended" in said, said
    assert {p.suffix for p in (tmp_path / "out").iterdir()
            if not p.name.startswith(".")} == {".tar", ".log"}
    assert not list((tmp_path / "out").glob(".tiny.??????"))
    assert os.path.exists(log)
    make.write_text(text)
    made = recipes / "tiny/make.t"
    made.unlink()
    farm.qvd(*args, "--version", "2", "--fresh", "--upload")
    one, two = (farm.qvd("image", "show", f"tiny/{v}", json=True)
                for v in (1, 2))
    assert one["content"] == two["content"]
    assert one["message"].startswith("Recipe tiny, ")
    assert one["source"].startswith(f"{tmp_path}/out/")
    assert two["source"].startswith(f"{farm.data}/uploads/")
    make.write_text("#!/bin/bash\necho the reason; exit 1\n")
    assert "the reason" in refused(farm, *args, status=29,
                                   text="recipe 'tiny' could not be built")
    refused(farm, "image", "build", "no-such", "--osf", "tiny", status=15,
            text="no recipe 'no-such'")
