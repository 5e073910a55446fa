# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the tree, and C sources without what isn't code."""

import functools
import pathlib
import re
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


@functools.lru_cache(maxsize=None)
def files():
    """Paths from the root, of everything that is or could be committed."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP, stdout=subprocess.PIPE, check=False)
    if out.returncode == 0:
        names = out.stdout.decode().split("\0")
    else:  # an unpacked archive
        names = [str(p.relative_to(TOP)) for p in TOP.rglob("*")
                 if p.relative_to(TOP).parts[0] not in ("build", ".git")]
    return sorted(n for n in set(names) if n and (TOP / n).is_file()
                  and not (TOP / n).is_symlink())


def matching(*suffixes, under=""):
    return [n for n in files()
            if n.endswith(suffixes) and n.startswith(under)]


def c_files():
    return matching(".c", ".h")


@functools.lru_cache(maxsize=None)
def text(name):
    return (TOP / name).read_text(encoding="utf-8", errors="replace")


# Comments, strings, character constants; newlines inside them are kept, so
# that line numbers stay right.
_NOT_CODE = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


@functools.lru_cache(maxsize=None)
def code(name):
    """The source with comments blanked and strings emptied."""
    def blank(match):
        s = match.group(0)
        return ('""' if s[0] == '"' else "'0'" if s[0] == "'" else " ") \
            + "\n" * s.count("\n")
    return _NOT_CODE.sub(blank, text(name))


def line_of(source, position):
    return source.count("\n", 0, position) + 1


def check(breaches, rule):
    """Fails with every breach on a line of its own."""
    assert not breaches, "{}:\n  {}".format(rule, "\n  ".join(breaches))
