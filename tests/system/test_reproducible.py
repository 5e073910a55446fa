# SPDX-License-Identifier: GPL-3.0-or-later
"""The same recipe and the same packages give the same image, whoever builds
it where: byte for byte as a tar, and so as a version."""

import filecmp
import hashlib
import shutil
import subprocess
import tarfile

import pytest
from qvdlab import TOP, need

# Another machine: its name, time zone, language and umask, and a file system
# that lists a folder's names in another order.
ELSEWHERE = r"""
mount --make-rprivate /
mkdir "$1/ram"
mount -t tmpfs -o mode=700 ram "$1/ram"
hostname elsewhere
umask 077
export TZ=Asia/Tokyo LANG=es_ES.UTF-8 LC_ALL=C
tar=$("$2" "$3" "$1/ram") || exit
cp "$tar" "$1/"
"""


IMAGES = TOP / "images"


def build(out, *command):
    out.mkdir()
    done = subprocess.run([str(c) for c in command], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    tar, = out.glob("*.tar")
    return tar


def here(recipe, out, images=IMAGES):
    return build(out, images / "build", recipe, out)


def elsewhere(recipe, out, images=IMAGES):
    return build(out, "unshare", "--mount", "--uts", "sh", "-c", ELSEWHERE,
                 "sh", out, images / "build", recipe)


def members(tar):
    """{name: all that a tar says of it}, in the tar's order."""
    found = {}
    with tarfile.open(tar) as t:
        for m in t:
            data = t.extractfile(m).read() if m.isreg() else b""
            found[m.name] = (m.type, oct(m.mode), m.uid, m.gid, m.mtime,
                             m.linkname, hashlib.sha256(data).hexdigest())
    return found


def same_tar(one, two):
    """With the names of what differs."""
    if filecmp.cmp(one, two, shallow=False):
        return
    a, b = members(one), members(two)
    differ = [(n, a.get(n), b.get(n)) for n in sorted({*a, *b})
              if a.get(n) != b.get(n)]
    raise AssertionError(f"{one} and {two} differ: " + (
        "\n".join(map(str, differ)) or "in the order of their names"))


def same_version(farm, recipe, one, two):
    farm.add_osf(recipe)
    for version, tar in (("1", one), ("2", two)):
        farm.qvd("image", "import", tar, "--osf", recipe, "--version",
                 version, "--message", f"build {version}", timeout=300)
    first, second = (farm.qvd("image", "show", f"{recipe}/{v}", json=True)
                     for v in "12")
    assert first["content"] == second["content"]
    diff = farm.qvd("image", "diff", f"{recipe}/1", f"{recipe}/2", json=True)
    assert diff["files"] == [] and diff["grown_bytes"] == 0


def test_a_recipe_built_on_two_machines(farm, tmp_path):
    need("root", "unshare")
    one = here("busybox", tmp_path / "a")
    two = elsewhere("busybox", tmp_path / "b")
    same_tar(one, two)
    same_version(farm, "busybox", one, two)


# Of each kind of what packages' scripts make: accounts, caches of fonts, icons
# and types of files, compiled Python, certificates, alternatives.
SMALL = """adduser dbus ca-certificates fontconfig fonts-dejavu-core poppler-data
gtk-update-icon-cache hicolor-icon-theme shared-mime-info python3-minimal nano
"""

MAKE = """#!/bin/bash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../debian.sh"
[ "$1" = --key ] && debian_key || debian_tar "$1" "$here"
"""


@pytest.fixture
def small(tmp_path):
    """A recipe `small`; the folder of recipes."""
    images = tmp_path / "images"
    (images / "small/files").mkdir(parents=True)
    for name in ("build", "debian.sh"):
        shutil.copy(TOP / "images" / name, images)
    (images / "small/packages").write_text(SMALL)
    for name, text in (("make", MAKE), ("hook", "#!/bin/sh\n")):
        (images / "small" / name).write_text(text)
        (images / "small" / name).chmod(0o755)
    return images


def packages(tar):
    with tarfile.open(tar) as t:
        return t.extractfile("./var/lib/dpkg/status").read()


def day_of_accounts(tar):
    """The days on which the accounts' passwords were changed last."""
    with tarfile.open(tar) as t:
        text = t.extractfile("./etc/shadow").read().decode()
    return {line.split(":")[2] for line in text.splitlines()}


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("recipe", ["small", "demo"])
def test_a_debian_built_on_two_machines(recipe, request, farm, tmp_path):
    need("root", "unshare", "mmdebstrap")
    images = request.getfixturevalue("small") if recipe == "small" else IMAGES
    one = here(recipe, tmp_path / "a", images)
    two = elsewhere(recipe, tmp_path / "b", images)
    if packages(one) != packages(two):
        # The archive got new packages in between: not the same set.
        one = here(recipe, tmp_path / "c", images)
    same_tar(one, two)
    names = members(one)
    # What depends on dates is there all the same.
    assert [n for n in names if "/var/cache/fontconfig/" in n
            and n.endswith(".cache-8")]
    assert not [n for n in names if n.endswith((".log", "-old", "shadow-"))]
    # Nor does it say on which day it was built.
    assert day_of_accounts(one) == {"19518"}
    same_version(farm, recipe, one, two)
