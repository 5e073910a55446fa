# SPDX-License-Identifier: GPL-3.0-or-later
"""The image store through the helper: imports of good and bad sources,
checkouts, what a kill or a full disk leaves (nothing)."""

import io
import lzma
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import tarfile
import time

import pytest
from nodelab import Failed, Node, eventually, make_tree, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def node():
    with Node() as n:
        yield n


@pytest.fixture
def source(node, tmp_path):
    """A tree with one of everything."""
    tree = tmp_path / "tree"
    make_tree(tree)
    (tree / "bin/setuid").write_bytes(b"su")
    (tree / "bin/setuid").chmod(0o4755)
    (tree / "etc/absolute").symlink_to("/etc/passwd")
    (tree / "etc/up").symlink_to("../../../../etc/passwd")
    os.link(tree / "etc/passwd", tree / "etc/passwd-")
    (tree / "var/owned").write_text("x")
    os.chown(tree / "var/owned", 1000, 1001)
    (tree / "var/empty").touch()
    (tree / "var/sp ace\n\xe4").write_text("odd name")
    os.setxattr(tree / "var/owned", "user.mark", b"kept")
    os.mknod(tree / "dev/sda", 0o600 | stat.S_IFBLK, os.makedev(8, 0))
    os.mknod(tree / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(tree / "var/fifo")
    return tree


def tar(tree, path, *options):
    run("tar", "-C", tree, "--xattrs", "--numeric-owner", *options, "-cf",
        path, ".")
    return path


def do_import(node, source, image_id=1, **more):
    return node.ask("image.import", image_id=image_id, source=str(source),
                    **more)


def refused(node, source, **more):
    with pytest.raises(Failed) as e:
        do_import(node, source, **more)
    return e.value


def listing(tree):
    return sorted(run("find", tree, "-printf", "%P|%y|%m|%U:%G|%l\n")
                  .splitlines())


def trees(node):
    return sorted(p.name for p in (node.data / "images/trees").iterdir())


def leftovers(node):
    """What an import or checkout must not leave: our temporary files."""
    tmp = node.data / "images/tmp"
    staging = (node.data / "images/repo/tmp").glob("staging-*/*/*")
    return [str(p) for p in (*(tmp.iterdir() if tmp.exists() else ()),
                             *staging)]


def refs(node):
    """The ids of the images that the store has."""
    heads = node.data / "images/repo/refs/heads/image"
    return sorted(p.name for p in heads.glob("*"))


def test_directory_and_archives_alike(node, source, tmp_path):
    expect = [x for x in listing(source)
              if "dev/sda" not in x and "dev/null" not in x
              and "var/fifo" not in x]
    sources = [source, tar(source, tmp_path / "a.tar"),
               tar(source, tmp_path / "a.tar.gz", "-z"),
               tar(source, tmp_path / "a.tar.xz", "-J"),
               tar(source, tmp_path / "a.tar.zst", "--zstd")]
    checksums = []
    for i, s in enumerate(sources):
        node.progress.clear()
        done = do_import(node, s, 10 + i, author="A. Uthor", version=f"1.{i}",
                         message="Subject\n\nBody of it")
        assert done["size_bytes"] > 1_000_000
        percents = [p["percent"] for p in node.progress]
        assert percents == sorted(percents) and percents[-1] <= 100
        assert all(p["text"] for p in node.progress)
        node.ask("image.checkout", checksum=done["checksum"])
        tree = node.data / "images/trees" / done["checksum"]
        assert listing(tree) == expect, s
        assert os.getxattr(tree / "var/owned", "user.mark") == b"kept"
        checksums.append(done["checksum"])
        node.progress.clear()
        node.ask("image.verify", checksum=done["checksum"])
        percents = [p["percent"] for p in node.progress]
        assert percents == sorted(percents) and percents[-1] == 80
    inodes = {(node.data / "images/trees" / c / "bin/busybox").stat().st_ino
              for c in checksums}
    assert len(inodes) == 1, "images share what is the same"
    assert not leftovers(node)


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_progress_of_a_disk(node, tmp_path):
    """One large file: its conversion counts, and its bytes."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(os.urandom(24 << 20))
    node.progress.clear()
    do_import(node, disk, 60)
    said = [(p["percent"], p["text"]) for p in node.progress]
    percents = [percent for percent, _ in said]
    assert percents == sorted(percents)
    assert list(dict.fromkeys(text for _, text in said)) == [
        "converting the disk", "reading", "reading the disk",
        "writing to disk"]
    for text, low, high in (("converting the disk", 0, 50),
                            ("reading the disk", 50, 98)):
        assert [p for p, t in said if t == text and low < p < high], said
    assert not (node.data / "images/disks/60").exists()


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_cut_disks(node, tmp_path):
    """Whatever a qcow2 file is like, one that is whole is taken, and one that
    lost a block or more isn't."""
    raw = tmp_path / "disk.raw"
    raw.write_bytes(random.Random(1).randbytes(1 << 20) + bytes(1 << 20) +
                    b"text\n" * 100000 + bytes(288))
    disk = tmp_path / "disk.qcow2"
    for i, options in enumerate((
            (), ("-c",), ("-o", "compat=0.10"), ("-o", "cluster_size=512"),
            ("-c", "-o", "cluster_size=2M"), ("-o", "extended_l2=on"),
            ("-c", "-o", "compression_type=zstd"),
            ("-o", "preallocation=metadata"))):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw,
            disk)
        do_import(node, disk, 80 + i)
        whole = disk.read_bytes()
        end = len(whole.rstrip(b"\0"))
        for cut in (79, 100, end // 9, end // 2, end - (2 << 20), end - 70000):
            if cut < 0 or "cluster_size=2M" in options and cut > end - 80000:
                continue
            disk.write_bytes(whole[:cut])
            e = refused(node, disk, image_id=90)
            assert e.id == "image-unusable", (options, cut, e)
            assert "is cut or damaged" in e.message or cut < 80
    assert "90" not in refs(node)


def test_source_is_left_alone(node, source):
    before = listing(source)
    do_import(node, source, 20)
    assert listing(source) == before


def evil_tar(path, *members):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as t:
        for name, kind, extra in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            data = b""
            if kind == tarfile.REGTYPE:
                data = extra.encode()
                info.size = len(data)
            elif extra:
                info.linkname = extra
            t.addfile(info, io.BytesIO(data))
    return path


REG, DIR, SYM, HARD = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE,
                       tarfile.LNKTYPE)


@pytest.mark.parametrize("members", [
    [("../evil", REG, "x")],
    [("a/../../evil", REG, "x")],
    [("usr/x/..", REG, "x")],
    [("link", SYM, "/tmp"), ("link/evil-through-link", REG, "x")],
    [("link", SYM, "../../.."), ("link/evil-through-link", REG, "x")],
    [("a", HARD, "../../../../etc/shadow")],
    [("l", SYM, "/etc"), ("b", HARD, "l/shadow")],
    [("/".join(["d"] * 200), REG, "x")],
], ids=["dotdot", "inner", "end", "absolute-link", "relative-link",
        "hardlink", "hardlink-by-link", "deep"])
def test_evil_archive(node, tmp_path, members):
    marks = [pathlib.Path("/tmp/evil-through-link"), node.dir / "evil",
             node.data / "evil", node.data / "images/evil"]
    before = refs(node)
    e = refused(node, evil_tar(tmp_path / "evil.tar", ("usr", DIR, ""),
                               *members), image_id=666)
    assert e.id == "image-unusable", e
    assert not any(m.exists() for m in marks)
    assert refs(node) == before and not leftovers(node)


def test_odd_but_harmless_archive(node, tmp_path):
    path = evil_tar(tmp_path / "odd.tar", ("/usr/bin/a", REG, "x"),
                    ("././usr//bin/b", REG, "y"), ("abs", SYM, "/etc/x"),
                    ("/usr/bin/c", HARD, "/usr/bin/a"))
    done = do_import(node, path, 30)
    node.ask("image.checkout", checksum=done["checksum"])
    tree = node.data / "images/trees" / done["checksum"]
    assert (tree / "usr/bin/a").read_text() == "x"
    assert (tree / "usr/bin/b").read_text() == "y"
    assert (tree / "usr/bin/c").read_text() == "x"
    assert os.readlink(tree / "abs") == "/etc/x"


def test_unusable_sources(node, source, tmp_path):
    whole = tar(source, tmp_path / "w.tar.gz", "-z").read_bytes()
    bad = {"truncated": whole[:len(whole) // 2],
           "damaged": whole[:2000] + os.urandom(2000) + whole[4000:],
           "text": b"no archive at all\n" * 100, "empty": b"",
           "xz": lzma.compress(b"no tar")}
    for name, data in bad.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(data)
        e = refused(node, path, image_id=667)
        assert e.id == "image-unusable", (name, e)
        assert str(path) in e.message
        if name in ("text", "empty"):
            assert "it is no tar (plain," in e.message, e
    (tmp_path / "nothing").mkdir()
    assert "has no files" in refused(node, tmp_path / "nothing").message
    assert refused(node, tmp_path / "missing").id == "not-found"
    assert refused(node, "/dev/null").id == "bad-parameter"
    assert refused(node, "relative/path").id == "bad-parameter"
    assert refused(node, source, image_id=0).id == "bad-parameter"
    assert refused(node, source, version="a b").id == "bad-parameter"
    assert "667" not in refs(node) and not leftovers(node)


def test_checkout_of_nothing(node):
    for checksum, error in (("0" * 64, "image-unusable"),
                            ("../../etc", "bad-parameter"),
                            ("A" * 64, "bad-parameter")):
        with pytest.raises(Failed) as e:
            node.ask("image.checkout", checksum=checksum)
        assert e.value.id == error
    assert "0" * 64 not in trees(node)


def test_verify_finds_damage(node, source):
    checksum = do_import(node, source, 40)["checksum"]
    node.ask("image.checkout", checksum=checksum)
    tree = node.data / "images/trees" / checksum

    def damaged():
        with pytest.raises(Failed) as e:
            node.ask("image.verify", checksum=checksum)
        assert e.value.id == "image-unusable"
        return e.value.message
    (tree / "extra").write_text("x")
    assert "1 are extra" in damaged()
    (tree / "extra").unlink()
    moved = tree / "etc/absolute"
    moved.unlink()
    assert "1 are missing" in damaged()
    moved.symlink_to("/etc/shadow")
    assert "1 files differ" in damaged()
    # In place: the repository's object is the same inode.
    with (tree / "var/owned").open("r+") as f:
        f.write("y")
    assert "damaged" in damaged()


def big_tree(tmp_path, files=3000):
    tree = tmp_path / "big"
    make_tree(tree)
    for i in range(files):
        d = tree / f"usr/lib/d{i % 50}"
        d.mkdir(exist_ok=True)
        (d / f"f{i}").write_bytes(os.urandom(2000))
    return tree


def children(pid):
    out = run("ps", "-o", "pid=", "--ppid", pid, check=False)
    return [int(p) for p in out.split()]


def test_killed_import(node, tmp_path):
    tree = big_tree(tmp_path)
    archive = tar(tree, tmp_path / "big.tar.zst", "--zstd")
    rng = random.Random(3)
    for i in range(10):
        source = archive if i % 2 else tree
        ask = node.send("image.import", image_id=700 + i, source=str(source))
        child = eventually(lambda: children(node.proc.pid))
        time.sleep(rng.uniform(0, 0.4))
        for pid in child:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            node.wait(ask)
        except Failed as e:
            assert e.id != "not-found", e
            assert str(700 + i) not in refs(node)
        assert not leftovers(node)
    done = do_import(node, archive, 710)
    node.ask("image.verify", checksum=done["checksum"])


def test_cancelled_import(node, tmp_path):
    tree = big_tree(tmp_path)
    archive = tar(tree, tmp_path / "big.tar.zst", "--zstd")
    for delay in (0, 0.1, 0.3):
        ask = node.send("image.import", image_id=720, source=str(archive))
        time.sleep(delay)
        node.cancel(ask)
        # One import at a time, so this one waits for the end of that.
        assert refused(node, "/nowhere").id == "not-found"
        assert not leftovers(node)


def test_helper_killed_while_importing(tmp_path):
    tree = big_tree(tmp_path)
    archive = tar(tree, tmp_path / "big.tar.zst", "--zstd")
    with Node() as n:
        for delay in (0.05, 0.2, 0.4):
            n.send("image.import", image_id=1, source=str(archive))
            time.sleep(delay)
            n.kill()
            n.start()
        done = do_import(n, archive)
        n.ask("image.checkout", checksum=done["checksum"])
        n.ask("image.verify", checksum=done["checksum"])
        assert not leftovers(n)
        assert len(refs(n)) == 1


def test_killed_checkout(node, tmp_path):
    checksum = do_import(node, big_tree(tmp_path), 730)["checksum"]
    tree = node.data / "images/trees" / checksum
    rng = random.Random(4)
    for _ in range(8):
        ask = node.send("image.checkout", checksum=checksum)
        child = eventually(lambda: children(node.proc.pid) or tree.exists())
        time.sleep(rng.uniform(0, 0.06))
        for pid in child if child is not True else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            node.wait(ask)
        except Failed:
            assert not tree.exists()
        if tree.exists():
            node.ask("image.verify", checksum=checksum)
            shutil.rmtree(tree)
    node.ask("image.checkout", checksum=checksum)
    node.ask("image.verify", checksum=checksum)
    assert not leftovers(node)


def test_checkouts_at_once(node, source):
    checksum = do_import(node, source, 50)["checksum"]
    asks = [node.send("image.checkout", checksum=checksum) for _ in range(5)]
    for ask in asks:
        node.wait(ask)
    assert checksum in trees(node)


def test_full_disk(tmp_path):
    tree = big_tree(tmp_path, files=6000)
    archive = tar(tree, tmp_path / "big.tar")
    small = tmp_path / "small"
    make_tree(small)
    with Node(disk="size=16m") as n:
        for source in (archive, tree):
            e = refused(n, source)
            assert e.id == "no-space", e
            assert not leftovers(n) and refs(n) == []
        subprocess.run(["df", n.data], check=True)
        checksum = do_import(n, small)["checksum"]
        n.ask("image.checkout", checksum=checksum)
        n.ask("image.verify", checksum=checksum)
