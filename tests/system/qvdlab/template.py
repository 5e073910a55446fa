# SPDX-License-Identifier: GPL-3.0-or-later
"""Data directories made once and copied: a database cluster with the schema,
and imported images.

A farm with the demonstration image needs a quarter of a minute to become
ready from nothing; a copy of one that was ended in order, a fraction of a
second (objects and checked-out trees of images are never written to, so
copies are hard links). The key is everything that decides over the result.
"""

import hashlib
import os
import shutil
import subprocess

from . import build
from .util import run

# QVD_LAB_TEMPLATE=no: each farm starts from nothing, as at a customer's.
WANTED = os.environ.get("QVD_LAB_TEMPLATE", "yes") != "no"
DIR = build.BUILD / "lab"


def key(images):
    h = hashlib.sha256()
    for program in ("qvd", "qvd-hkd"):
        path = build.programs() / program
        if path.exists():
            h.update(path.read_bytes())
    for sql in sorted((build.TOP / "sql").glob("*.sql")):
        h.update(sql.read_bytes())
    for name in images:
        h.update(build.image(name).name.encode())
    return h.hexdigest()[:12]


def copy(images, data):
    """Fills the data directory of a farm that hasn't started."""
    images = sorted(images)
    name = "-".join(["template", *images, key(images)])
    with build.locked(DIR / f"{name}.lock"):
        if not (DIR / name).exists():
            make(images, DIR / name)
    data.mkdir(mode=0o755)
    for entry in (DIR / name).iterdir():
        if entry.name == "images":
            hard_link_tree(entry, data)
        elif entry.name not in ("node.conf", "up.lock", "tls"):
            run("cp", "-a", "--reflink=auto", entry, data)


def hard_link_tree(source, target):
    """A hard link tree, or a copy where that is another file system."""
    done = subprocess.run(["cp", "-al", source, target], check=False,
                          stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        shutil.rmtree(target / source.name, ignore_errors=True)
        run("cp", "-a", "--reflink=auto", source, target)


def make(images, place):
    """Runs a farm with the images and keeps its data directory."""
    from .farm import Farm

    for old in DIR.glob("-".join(["template", *images, "?" * 12])):
        shutil.rmtree(old, ignore_errors=True)
    global WANTED
    wanted, WANTED = WANTED, False
    farm = Farm()
    WANTED = wanted
    try:
        farm.start()
        for name in images:
            farm.add_osf(name, build.image(name))
        status = farm.stop()
        assert status == 0, f"status {status}\n" + farm.tail()
        partial = place.with_name(place.name + ".new")
        shutil.rmtree(partial, ignore_errors=True)
        run("cp", "-a", "--reflink=auto", farm.data, partial)
        partial.rename(place)
    finally:
        farm.close(check=False)
