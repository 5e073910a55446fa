# SPDX-License-Identifier: GPL-3.0-or-later
"""images/build: one build a recipe, whole or not at all."""

import os
import shutil
import signal
import subprocess

import pytest
from qvdlab import TOP, eventually, image, need, run

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

RECIPE = """#!/bin/bash
set -e
[ "$1" != --key ] || { cat "$COUNT.key" 2>/dev/null || :; exit 0; }
echo built >>"$COUNT"
mkdir -p "$(dirname "$1")/root/etc"
tar -C "$(dirname "$1")/root" -cf "$1" .
"""


class Recipes:
    """A folder of recipes with the real images/build in it."""

    def __init__(self, path):
        self.dir, self.out = path / "images", path / "out"
        self.count = path / "count"
        (self.dir / "one").mkdir(parents=True)
        shutil.copy(TOP / "images/build", self.dir)
        shutil.copy(TOP / "images/debian.sh", self.dir)
        self.write(RECIPE)

    def write(self, text):
        (self.dir / "one/make").write_text(text)
        (self.dir / "one/make").chmod(0o755)

    def start(self, *args):
        return subprocess.Popen(
            [self.dir / "build", *args, "one", self.out], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=dict(os.environ, COUNT=str(self.count)))

    def build(self, *args):
        done = self.start(*args)
        out, err = done.communicate(timeout=30)
        return done.returncode, out.strip(), err

    def built(self):
        return self.count.read_text().count("built") \
            if self.count.exists() else 0

    def files(self):
        return sorted(p.name for p in self.out.iterdir()
                      if not p.name.endswith(".lock"))


@pytest.fixture
def recipes(tmp_path):
    return Recipes(tmp_path)


def test_a_recipe_is_built_once(recipes):
    status, tar, said = recipes.build()
    assert status == 0 and tar.startswith(str(recipes.out / "one-"))
    assert "image one: 0 MB, built in" in said
    assert recipes.build() == (0, tar, "")
    assert recipes.built() == 1
    assert recipes.build("--fresh")[:2] == (0, tar)
    assert recipes.built() == 2


def test_builders_at_the_same_time_share_one_build(recipes):
    started = [recipes.start() for _ in range(4)]
    tars = {p.communicate(timeout=30)[0] for p in started}
    assert len(tars) == 1 and recipes.built() == 1


def test_what_the_image_depends_on_makes_a_new_one(recipes):
    _, first, _ = recipes.build()
    (recipes.dir / "one/file").write_text("x")
    _, second, _ = recipes.build()
    recipes.count.with_suffix(".key").write_text("newer Debian")
    _, third, _ = recipes.build()
    assert len({first, second, third}) == 3
    # Of several versions only the newest is kept.
    assert recipes.files() == sorted(
        [os.path.basename(third), os.path.basename(third)[:-4] + ".log"])


def test_a_failed_build_leaves_its_log_only(recipes):
    recipes.write(RECIPE + 'echo the reason >&2\nexit 1\n')
    status, tar, said = recipes.build()
    assert (status, tar) == (1, "")
    assert "the reason" in said and "recipe 'one' failed" in said
    assert [f[-4:] for f in recipes.files()] == [".log"]


def test_an_interrupted_build_leaves_nothing(recipes):
    recipes.write(RECIPE.replace("tar -C", "exec sleep 60; tar -C"))
    build = recipes.start()
    eventually(recipes.built, 10)
    os.killpg(build.pid, signal.SIGTERM)
    build.communicate(timeout=30)
    assert build.returncode != 0
    assert [f[-4:] for f in recipes.files()] == [".log"]


def test_mistakes_are_sentences(recipes):
    done = subprocess.run([recipes.dir / "build", "none", recipes.out],
                          text=True, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert "no recipe 'none'; there are: one" in done.stderr
    done = subprocess.run([recipes.dir / "build"], text=True,
                          stderr=subprocess.PIPE, check=False)
    assert "usage: images/build" in done.stderr


def test_the_demonstration_image(tmp_path):
    """What a node relies on: no devices, nothing that all may write but the
    usual places, a session, the agent's libraries."""
    need("root")
    lines = run("tar", "tvf", image("demo"), timeout=120).splitlines()
    kinds = {line[0] for line in lines}
    assert kinds <= {"-", "d", "l", "h"}, kinds
    open_dirs = {line.split()[5] for line in lines
                 if line[0] in "-d" and line[8] == "w"}
    assert open_dirs <= {"./tmp/", "./var/tmp/", "./run/lock/"}, open_dirs
    names = {line.split()[5] for line in lines}
    assert {"./dev/", "./etc/qvd/session", "./usr/bin/nxagent",
            "./usr/bin/xterm"} <= names
    for library in ("libuv.so.1", "libjansson.so.4", "libssl.so.3",
                    "libinih.so.1"):
        assert f"./usr/lib/x86_64-linux-gnu/{library}" in names
    assert not any("libpq.so" in n for n in names)
