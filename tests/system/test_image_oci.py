# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI images through the helper: layers and whiteouts, digests, and archives
that were made to do harm."""

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile

import pytest
from nodelab import Failed, Node, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OCI = "application/vnd.oci.image."
REG, DIR, SYM, HARD, CHR = (tarfile.REGTYPE, tarfile.DIRTYPE,
                            tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)


@pytest.fixture(scope="module")
def node():
    with Node() as n:
        yield n


def layer(*members):
    """A tar of (name, content) files; content None: a directory, ("->", x):
    a link, ("=", x): a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, content, *more in members:
            info = tarfile.TarInfo(name)
            info.mode = more[0] if more else 0o644
            data = b""
            if content is None:
                info.type, info.mode = DIR, 0o755
            elif isinstance(content, tuple):
                info.type = {"->": SYM, "=": HARD, "c": CHR}[content[0]]
                info.linkname = content[1] if content[0] != "c" else ""
            else:
                data = content.encode()
                info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, check=True,
                          stdout=subprocess.PIPE).stdout


PACKED = {"": lambda d: d, "+gzip": gzip.compress, "+zstd": zstd}


class Layout:
    def __init__(self, path, *layers, packing="+gzip"):
        self.dir = path
        (path / "blobs/sha256").mkdir(parents=True)
        self.layers = [self.blob(PACKED[packing](x),
                                 OCI + "layer.v1.tar" + packing)
                       for x in layers]
        self.config = self.blob(b'{"architecture": "amd64"}',
                                OCI + "config.v1+json")
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.write()

    def blob(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (self.dir / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}",
                "size": len(data)}

    def write(self, **manifest):
        self.manifest = self.blob(json.dumps(
            {"schemaVersion": 2, "config": self.config,
             "layers": self.layers, **manifest}).encode(),
            OCI + "manifest.v1+json")
        self.index(self.manifest)

    def index(self, *manifests):
        (self.dir / "index.json").write_text(json.dumps(
            {"schemaVersion": 2, "manifests": list(manifests)}))

    def path(self, blob):
        return self.dir / "blobs/sha256" / blob["digest"][7:]


def do_import(node, source, image_id=1):
    done = node.ask("image.import", image_id=image_id, source=str(source))
    node.ask("image.checkout", checksum=done["checksum"])
    node.ask("image.verify", checksum=done["checksum"])
    return node.data / "images/trees" / done["checksum"], done


def refused(node, source, word, error="image-unusable"):
    with pytest.raises(Failed) as e:
        node.ask("image.import", image_id=9, source=str(source))
    assert e.value.id == error, e.value
    assert word in e.value.message, e.value
    left = node.data / "images/import"
    assert not left.exists() and not (node.dir / "evil").exists()
    return e.value


def files(tree):
    return sorted(run("find", tree, "!", "-type", "d", "-printf", "%P\n")
                  .split())


LOWER = layer(("etc", None), ("etc/kept", "1"), ("etc/gone", "1"),
              ("etc/changed", "1"), ("opt/cleared/a", "1"),
              ("opt/cleared/b", "1"), ("opt/file-to-dir", "1"),
              ("opt/dir-to-file/x", "1"), ("usr/bin/su", "su", 0o4755),
              ("dev/null", ("c", "")))
UPPER = layer(("etc/.wh.gone", ""), ("etc/changed", "2"),
              # An opaque mark speaks of lower layers only, wherever it is.
              ("opt/cleared/new", "2"), ("opt/cleared/.wh..wh..opq", ""),
              ("opt/file-to-dir", None), ("opt/file-to-dir/y", "2"),
              ("opt/dir-to-file", "2"), ("etc/link", ("->", "/etc/kept")),
              # Removed from below, and there again in the same layer.
              ("etc/again", "2"), ("etc/.wh.again", ""),
              ("etc/hard", ("=", "etc/kept")), (".wh.never-was", ""))
MERGED = ["etc/again", "etc/changed", "etc/hard", "etc/kept", "etc/link",
          "opt/cleared/new", "opt/dir-to-file", "opt/file-to-dir/y",
          "usr/bin/su"]


@pytest.mark.parametrize("packing", PACKED)
def test_layers_and_whiteouts(node, tmp_path, packing):
    made = Layout(tmp_path / "oci", LOWER, UPPER, packing=packing)
    tree, done = do_import(node, made.dir)
    assert files(tree) == MERGED
    assert (tree / "etc/changed").read_text() == "2"
    assert (tree / "usr/bin/su").stat().st_mode & 0o7777 == 0o4755
    tar = tmp_path / "oci.tar"
    run("tar", "-C", made.dir, "-cf", tar, ".")
    again, archived = do_import(node, tar, 2)
    assert files(again) == MERGED and archived["content"] == done["content"]
    run("zstd", "-q", tar)
    _, packed = do_import(node, f"{tar}.zst", 3)
    assert packed["content"] == done["content"]
    assert not (node.data / "images/import").exists()


def test_index_in_index_and_platforms(node, tmp_path):
    made = Layout(tmp_path / "oci", LOWER)
    other = dict(made.manifest, digest="sha256:" + "0" * 64,
                 platform={"os": "linux", "architecture": "s390x"})
    ours = dict(made.manifest,
                platform={"os": "linux", "architecture": "amd64"})
    inner = made.blob(json.dumps({"manifests": [other, ours]}).encode(),
                      OCI + "index.v1+json")
    made.index(inner)
    tree, _ = do_import(node, made.dir)
    assert "etc/kept" in files(tree)
    made.index(other)
    refused(node, made.dir, "no image for linux/")
    for _ in range(6):
        inner = made.blob(json.dumps({"manifests": [inner]}).encode(),
                          OCI + "index.v1+json")
    made.index(inner)
    refused(node, made.dir, "nested")


def test_every_digest_counts(node, tmp_path):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    for i, which in enumerate(("layers", "config", "manifest")):
        made = Layout(tmp_path / f"oci{i}", LOWER, UPPER)
        blob = getattr(made, which)
        path = made.path(blob[1] if which == "layers" else blob)
        flip(path)
        refused(node, made.dir, "damaged")
        tar = tmp_path / f"oci{i}.tar"
        run("tar", "-C", made.dir, "-cf", tar, "oci-layout", "index.json",
            "blobs")
        refused(node, tar, "damaged")
        flip(path)
        path.write_bytes(path.read_bytes()[:-1])
        refused(node, made.dir, "has not the size")
        path.unlink()
        refused(node, made.dir, "lacks the blob")


def test_hostile_documents(node, tmp_path):
    made = Layout(tmp_path / "oci", LOWER)
    layers = made.layers
    for bad, word in (
            ({"layers": []}, "0 layers"),
            ({"layers": [layers[0]] * 600}, "600 layers"),
            ({"layers": [dict(layers[0], mediaType="x/y")]}, "no tar"),
            ({"layers": [dict(layers[0], digest="md5:1")]}, "SHA-256"),
            ({"layers": [dict(layers[0], digest="sha256:../../../x")]},
             "SHA-256"),
            ({"layers": [dict(layers[0], size=-1)]}, "without its size"),
            ({"layers": [dict(layers[0], size=2**62)]}, "not the size"),
            ({"config": None}, "SHA-256")):
        made.write(**bad)
        refused(node, made.dir, word)
    (made.dir / "index.json").write_text("[" * 100000)
    refused(node, made.dir, "index")
    made.write()
    (made.dir / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    refused(node, made.dir, "version '9'")
    (made.dir / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    # A blob that leads out of the layout.
    path = made.path(layers[0])
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(node, made.dir, "lacks the blob")


@pytest.mark.parametrize("members, word", [
    ([("../evil", "x")], "outside"),
    ([("a", ("->", "/tmp")), ("a/evil", "x")], "link"),
    ([(".wh...", "")], "outside"),
    ([("etc/.wh.", "")], "whiteout of nothing"),
    ([("etc/x", ("=", "../../etc/shadow"))], "outside"),
    ([("home/x/su", "x", 0o4755)], "more rights"),
    ([("home/x/su", ("=", "usr/bin/su"))], "more rights"),
    ([("usr/bin/x", "x", 0o2757)], "may change"),
], ids=["dotdot", "link", "whiteout-up", "whiteout-nothing", "hardlink",
        "setuid-place", "setuid-link", "setuid-writable"])
def test_hostile_layers(node, tmp_path, members, word):
    made = Layout(tmp_path / "oci", LOWER, layer(*members))
    refused(node, made.dir, word)


def bomb(path, size):
    """A tar.gz of one file of zeros, a thousandth of its size."""
    info = tarfile.TarInfo("usr/zeros")
    info.size = size
    with gzip.open(path, "wb", 1) as z:
        z.write(info.tobuf())
        for _ in range(size >> 20):
            z.write(bytes(1 << 20))
        z.write(bytes(1024))
    return path


def test_bombs(node, tmp_path):
    free = shutil.disk_usage(node.data).free
    small = tmp_path / "claims.tar"
    info = tarfile.TarInfo("usr/zeros")
    for size in (1 << 33, 1 << 60):
        info.size = size
        small.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
        refused(node, small, "larger than", "too-large")
    refused(node, bomb(tmp_path / "b.tar.gz", 1200 << 20), "larger than",
            "too-large")
    made = Layout(tmp_path / "oci", layer(("x", "1")))
    made.layers = [made.blob((tmp_path / "b.tar.gz").read_bytes(),
                             OCI + "layer.v1.tar+gzip")]
    made.write()
    refused(node, made.dir, "larger than", "too-large")
    assert shutil.disk_usage(node.data).free > free - (512 << 20)


def special(path, kind):
    if kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        os.mknod(path, 0o600 | {"pipe": stat.S_IFIFO,
                                "socket": stat.S_IFSOCK,
                                "device": stat.S_IFCHR}[kind],
                 os.makedev(1, 5))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "link"])
def test_what_is_no_file_is_not_read(node, tmp_path, kind):
    """Nothing waits for a pipe's writer, or reads a device to its end."""
    made = Layout(tmp_path / "oci", LOWER)
    for name in ("index.json", "oci-layout"):
        path = made.dir / name
        path.rename(tmp_path / "kept")
        special(path, kind)
        refused(node, made.dir, "no readable " + name)
        path.unlink()
        (tmp_path / "kept").rename(path)
    for blob in (made.layers[0], made.config, made.manifest):
        path = made.path(blob)
        path.rename(tmp_path / "kept")
        special(path, kind)
        refused(node, made.dir, "lacks the blob")
        path.unlink()
        (tmp_path / "kept").rename(path)
    do_import(node, made.dir)


def holes(path, size, count):
    """A tar.zst of whiteouts that have so many zeros each: nothing of them is
    kept, but they cost time."""
    info = tarfile.TarInfo("usr/.wh.x")
    info.size = size
    with path.open("wb") as out, subprocess.Popen(
            ["zstd", "-1", "-c"], stdin=subprocess.PIPE, stdout=out) as z:
        for _ in range(count):
            z.stdin.write(info.tobuf())
            for _ in range(size >> 20):
                z.stdin.write(bytes(1 << 20))
        z.stdin.close()
        assert z.wait() == 0
    return path


def whiteouts(made, packed):
    """The layout with one layer, of which the first pass reads whiteouts."""
    made.layers = [made.blob(packed, OCI + "layer.v1.tar+zstd")]
    made.write()
    return made.dir


def test_what_is_passed_over_is_limited_too(node, tmp_path):
    made = Layout(tmp_path / "oci", layer(("x", "1")))
    info = tarfile.TarInfo("usr/.wh.zeros")
    info.size = 1 << 33
    claims = zstd(info.tobuf(tarfile.GNU_FORMAT))
    refused(node, whiteouts(made, claims), "larger than", "too-large")
    # Whiteouts of nothing are no harm.
    do_import(node, whiteouts(made, zstd(layer(
        ("x", "1"), ("y", "1"), *[(f"a{i}/.wh.x", "") for i in range(99)]))))


@pytest.mark.long
def test_bombs_of_what_is_passed_over(node, tmp_path):
    made = Layout(tmp_path / "oci", layer(("x", "1")))
    path = holes(tmp_path / "h.tar.zst", 400 << 20, 4)
    refused(node, whiteouts(made, path.read_bytes()), "larger than",
            "too-large")


@pytest.mark.long
def test_ten_million_entries(node, tmp_path):
    """More than an image may have, in some megabytes."""
    path = tmp_path / "many.tar.zst"
    with path.open("wb") as out, subprocess.Popen(
            ["zstd", "-1", "-c"], stdin=subprocess.PIPE, stdout=out) as z:
        for k in range(1000):
            z.stdin.write(b"".join(
                tarfile.TarInfo(f"d{k}/f{i}").tobuf(tarfile.USTAR_FORMAT)
                for i in range(10000)))
        z.stdin.write(bytes(1024))
        z.stdin.close()
        assert z.wait() == 0
    refused(node, path, "more than 5000000 files", "too-large")
    made = Layout(tmp_path / "oci", layer(("x", "1")))
    refused(node, whiteouts(made, path.read_bytes()), "more than 5000000 files", "too-large")


def test_names_that_are_not_utf8(node, tmp_path):
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr/ok").write_text("x")
    with open(os.fsencode(tree) + b"/usr/bad\xff", "w"):
        pass
    refused(node, tree, "UTF-8")
    run("tar", "-C", tree, "-cf", tmp_path / "t.tar", ".")
    refused(node, tmp_path / "t.tar", "UTF-8")
    os.unlink(os.fsencode(tree) + b"/usr/bad\xff")
    os.symlink(b"to\xff", os.fsencode(tree) + b"/usr/link")
    refused(node, tree, "UTF-8")


def test_archive_that_is_cut_anywhere(node, tmp_path):
    made = Layout(tmp_path / "oci", LOWER, UPPER)
    tar = tmp_path / "oci.tar"
    run("tar", "-C", made.dir, "-b1", "-cf", tar, "oci-layout", "index.json",
        "blobs")
    whole = tar.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in range(100, end, end // 12):
        tar.write_bytes(whole[:cut])
        with pytest.raises(Failed) as e:
            node.ask("image.import", image_id=9, source=str(tar))
        assert e.value.id == "image-unusable", (cut, e.value)
    twice = tmp_path / "twice.tar"
    run("tar", "-C", made.dir, "-cf", twice, "oci-layout", "oci-layout",
        "--hard-dereference", "index.json", "blobs", "index.json")
    refused(node, twice, "twice")
