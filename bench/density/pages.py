# SPDX-License-Identifier: GPL-3.0-or-later
"""What the second version of an image adds to the page cache for files that
did not change: read them in the one, ask the kernel (mincore) how much of the
other is there."""

import ctypes
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile

import results
from qvdlab import Farm, build

AREA = "density"
SMALLEST = 64 * 1024
LIBC = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE


def files(tree):
    """Regular files worth looking at, by their path below the tree."""
    found = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = pathlib.Path(folder) / name
            if not path.is_symlink() and path.is_file() and \
                    path.stat().st_size >= SMALLEST:
                found[path.relative_to(tree)] = path
    return found


def drop(path):
    with path.open("rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(path):
    """(pages in the cache, pages) of a file, without reading it."""
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        n = (size + PAGE - 1) // PAGE
        with mmap.mmap(f.fileno(), size, flags=mmap.MAP_PRIVATE) as m:
            view = (ctypes.c_ubyte * n)()
            anchor = ctypes.c_char.from_buffer(m)
            got = LIBC.mincore(ctypes.c_void_p(ctypes.addressof(anchor)),
                               ctypes.c_size_t(size), view)
            del anchor
            assert got == 0, os.strerror(ctypes.get_errno())
    return sum(v & 1 for v in view), n


def second_version(work):
    """The demonstration image with a changed file and a new one."""
    tree = work / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-C", str(tree), "-xf", str(build.image("demo"))],
                   check=True)
    with (tree / "etc/issue").open("a", encoding="ascii") as out:
        out.write("second version\n")
    (tree / "etc/second-version").write_text("2\n", encoding="ascii")
    return tree


def bench():
    work = pathlib.Path(tempfile.mkdtemp(prefix="qvd-pages-"))
    try:
        with Farm(images=["demo"]) as farm:
            farm.qvd("image", "import", second_version(work), "--osf", "demo",
                     "--version", "2", timeout=600)
            farm.add_user("alice", "secret")
            vm = farm.add_vm("alice", "demo", "second", "--tag", "2")
            farm.qvd("vm", "start", vm, timeout=300)  # checks it out
            trees = {}
            for version in ("1", "2"):
                checksum = farm.one("SELECT checksum FROM images "
                                    "WHERE version = %s", version)
                trees[version] = files(farm.data / "images/trees" / checksum)
            same = [(trees["1"][p], trees["2"][p])
                    for p in trees["1"].keys() & trees["2"].keys()]
            assert len(same) > 100, len(same)
            for _, second in same:
                drop(second)
            there = total = 0
            for first, second in same:
                first.read_bytes()
                have, of = resident(second)
                there += have
                total += of
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"pages: {len(same)} files of {total * PAGE / 1e6:.0f} MB",
          flush=True)
    results.add(AREA, "page cache that a second version of an image adds for "
                "unchanged files", "%", (total - there) * 100 / total, None,
                None, "<= 5")
