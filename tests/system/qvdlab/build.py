# SPDX-License-Identifier: GPL-3.0-or-later
"""What is under test: the programs of one build, and images for desktops.

QVD_BUILD names the build, a directory of build/ (default: release). Images
come from the recipes of images/ and are kept in build/images.
"""

import contextlib
import fcntl
import functools
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[3]
BUILD = TOP / "build" / os.environ.get("QVD_BUILD", "release")
IMAGES = TOP / "build" / "images"

# Found in a log, these mean that a program of ours is broken.
BROKEN = ("ERROR: AddressSanitizer", "runtime error:", "DEADLYSIGNAL",
          "ERROR: LeakSanitizer", "Assertion `", "*** stack smashing",
          "free(): ", "double free", "corrupted size")

SANITIZER_ENV = {
    # Daemons drop privileges and are not dumpable: no leak check by ptrace
    # at the end of a process; unit tests have it.
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


@contextlib.contextmanager
def locked(path):
    """One of the parallel test processes at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


@functools.lru_cache(maxsize=None)
def programs():
    """The folder with the programs side by side."""
    if not (BUILD / "build.ninja").exists():
        pytest.exit(f"{BUILD} is not built; run make build", 3)
    with locked(BUILD / ".bin.lock"):
        subprocess.run(
            ["bash", "-c", '. tools/lib.sh && link_programs "$0"', BUILD],
            cwd=TOP, check=True)
    return BUILD / "bin"


@functools.lru_cache(maxsize=None)
def image(name):
    """The tar of a recipe of images/, built if there is none."""
    out = subprocess.run([TOP / "images/build", name, IMAGES], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         check=False)
    assert out.returncode == 0, out.stderr
    return pathlib.Path(out.stdout.strip().splitlines()[-1])
