# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting, running programs, saying why a test can't run."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

# How many times slower than usual this machine is: deadlines are so many
# times longer. An emulated one (tests/vm) says 10.
SLOW = int(os.environ.get("QVD_LAB_SLOW", "1"))


def eventually(look, timeout=20, what=None, every=0.05):
    """Calls look() until it gives something true, and returns that. For
    what has no event: an assertion in look() counts as "not yet"."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        error = None
        try:
            value = look()
            if value:
                return value
        except AssertionError as e:
            error = e
        if time.monotonic() > deadline:
            if error:
                raise error
            if callable(what):
                what = what()
            raise AssertionError(
                f"not within {timeout} s: {what or look.__name__}")
        time.sleep(every)


def run(*args, timeout=60, check=True, **kwargs):
    """A program to its end; its standard output. Its standard error is in
    the assertion when it fails."""
    out = subprocess.run([str(a) for a in args], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, timeout=timeout * SLOW,
                         check=False, **kwargs)
    assert not check or out.returncode == 0, \
        f"{args[0]} ended with {out.returncode}: {out.stderr.strip()}"
    return out.stdout


def need(*what):
    """Skips the test, saying why, unless all of this is there: "root",
    "containers", "kvm", "image NAME", or a program's name. QVD_LAB_IMAGES has
    the images that there are, on a machine that can't build any."""
    for thing in what:
        if thing == "root":
            if os.getuid() != 0:
                pytest.skip("needs root")
        elif thing == "containers":
            need("root", "lxc-start")
            if not pathlib.Path("/proc/self/ns/user").exists():
                pytest.skip("the kernel has no user namespaces")
        elif thing == "kvm":
            if not os.access("/dev/kvm", os.R_OK | os.W_OK):
                pytest.skip("/dev/kvm can't be used here")
        elif thing.startswith("image "):
            there = os.environ.get("QVD_LAB_IMAGES")
            if there is not None and thing[6:] not in there.split():
                pytest.skip(f"there is no {thing} on this machine")
        elif not shutil.which(thing):
            pytest.skip(f"{thing} is not installed (tools/setup installs it)")


def processes():
    """{pid: (parent, [arguments])} of everything that runs."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            args = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            continue
        rest = stat[stat.rindex(")") + 2:].split()
        if rest[0] != "Z":
            table[int(entry.name)] = (
                int(rest[1]), [a.decode(errors="replace") for a in args])
    return table


def descendants(pid):
    """{pid: [arguments]} of what pid started, and they started."""
    table = processes()
    children = {}
    for child, (parent, _) in table.items():
        children.setdefault(parent, []).append(child)
    found, todo = {}, [pid]
    while todo:
        for child in children.get(todo.pop(), ()):
            found[child] = table[child][1]
            todo.append(child)
    return found
