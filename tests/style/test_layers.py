# SPDX-License-Identifier: GPL-3.0-or-later
"""The direction of dependency: a folder includes only what lies below it."""

import re

import layers
import tree

QUOTED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
ANGLED = re.compile(r'^\s*#\s*include\s+<([^>]+)>', re.M)


def sources():
    for name in tree.matching(".c", ".h", under="src/"):
        yield name, name.split("/")[1]


def test_every_folder_is_in_the_table():
    tree.check(sorted({f for _, f in sources()} - set(layers.ALLOWED)),
               "folders of src/ that tests/style/layers.py doesn't know")


def test_table_has_no_cycle():
    done = []
    for folder, below in layers.LIBRARIES.items():
        assert set(below) <= set(done), \
            f"{folder} may include {set(below) - set(done)}, listed after it"
        done.append(folder)


def test_folders_include_only_what_is_below_them():
    bad = []
    for name, folder in sources():
        allowed = set(layers.ALLOWED.get(folder, ())) | {folder}
        for m in QUOTED.finditer(tree.text(name)):
            line = tree.line_of(tree.text(name), m.start(1))
            target = m.group(1).split("/")[0]
            if "/" not in m.group(1):
                bad.append(f'{name}:{line}: "{m.group(1)}": write it with '
                           f'its folder, "{folder}/{m.group(1)}"')
            elif target != "qvd" and target not in allowed:
                bad.append(f"{name}:{line}: {folder}/ may not include "
                           f"{target}/")
    tree.check(bad, "breaches of the layers (tests/style/layers.py)")


def test_system_headers_stay_where_they_belong():
    bad = []
    for name, folder in sources():
        for m in ANGLED.finditer(tree.text(name)):
            header = m.group(1)
            line = tree.line_of(tree.text(name), m.start(1))
            if header in layers.FORBIDDEN_SYSTEM.get(folder, ()):
                bad.append(f"{name}:{line}: {folder}/ may not use <{header}>")
            home = layers.ONLY_IN.get(header)
            if home and folder not in home:
                bad.append(f"{name}:{line}: <{header}> is used only by "
                           f"{', '.join(home)}/")
    tree.check(bad, "libraries outside the folder that wraps them")


def test_the_check_finds_a_breach(monkeypatch):
    monkeypatch.setattr(tree, "matching", lambda *a, **k: ["src/base/x.c"])
    monkeypatch.setattr(tree, "text", lambda n: '#include "db/db.h"\n')
    try:
        test_folders_include_only_what_is_below_them()
    except AssertionError as e:
        assert "src/base/x.c:1" in str(e)
    else:
        raise AssertionError("a breach was not found")
