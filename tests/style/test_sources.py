# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules on single files: layout, sizes, banned calls, opening comments."""

import ast
import collections
import re
import subprocess

import pytest
import tree

FILE_MAX = 800
HEADER_MAX = 300
FUNCTION_MAX = 60
# In the comment above a function that is one flat table or walk of one.
FLAT = "style: flat"

BANNED = {
    "strcpy": "str_copy", "strcat": "buf_append", "strncat": "buf_append",
    "strncpy": "str_copy", "sprintf": "snprintf", "vsprintf": "vsnprintf",
    "stpcpy": "str_copy", "gets": "getline", "strtok": "strcspn or strsep",
    "atoi": "str_to_int", "atol": "str_to_i64", "atoll": "str_to_i64",
    "atof": "str_to_i64", "system": "child_spawn", "popen": "child_spawn",
    "alloca": "an arena", "mktemp": "mkstemp", "tmpnam": "mkstemp",
    "tempnam": "mkstemp", "asctime": "time_format", "ctime": "time_format",
    "gmtime": "gmtime_r", "localtime": "localtime_r",
    "gethostbyname": "getaddrinfo", "rand": "getrandom", "srand": "getrandom",
    "random": "getrandom",
}
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED))
BODY = re.compile(r"^\{\n(.*?)^\}", re.M | re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:.*\\\n)*.*", re.M)
NAME = re.compile(r"(\w+)\s*\([^;{}]*\)[^;{}()]*$")


def clang_format(names):
    return subprocess.run(
        ["clang-format-14", "--style=file", "--dry-run", "-Werror", *names],
        cwd=tree.TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False)


def test_layout_is_that_of_clang_format():
    """tools/format puts it right."""
    out = clang_format(tree.c_files())
    if out.returncode:
        places = [line.split(":")[:2] for line in out.stdout.splitlines()
                  if "error:" in line]
        lines = [f"{name}: {n} places, the first in line "
                 f"{next(x[1] for x in places if x[0] == name)}"
                 for name, n in sorted(collections.Counter(
                     x[0] for x in places).items())]
        tree.check(lines or [out.stdout[-2000:]],
                   "not laid out; run `tools/format FILE` or `make format`")


def test_banned_functions():
    bad = []
    for name in tree.c_files():
        for m in CALL.finditer(tree.code(name)):
            bad.append(f"{name}:{tree.line_of(tree.code(name), m.start(1))}: "
                       f"{m.group(1)}(): use {BANNED[m.group(1)]}")
    tree.check(bad, "banned functions")


def test_what_is_cleaned_up_was_made():
    """A variable that its scope's end frees has a value from its beginning,
    whatever return comes first."""
    bad = []
    for name in tree.c_files():
        code = tree.code(name)
        for m in re.finditer(r"_cleanup_\(\w+\)\s*([^;]*?);", code):
            if "=" not in m.group(1):
                bad.append(f"{name}:{tree.line_of(code, m.start(1))}: "
                           f"{' '.join(m.group(1).split())}")
    tree.check(bad, "not initialised where it is declared")


def test_no_typedef_for_structs():
    bad = []
    for name in tree.c_files():
        lines = tree.text(name).split("\n")
        for m in re.finditer(r"\btypedef\s+(struct|enum|union)\b",
                             tree.code(name)):
            line = tree.line_of(tree.code(name), m.start())
            # GObject's macros insist on them.
            if "GObject" not in "\n".join(lines[max(0, line - 4):line]):
                bad.append(f"{name}:{line}")
    tree.check(bad, "typedef of a struct, enum or union")


def test_files_are_short():
    bad = []
    for name in tree.matching(".c", ".h", ".py"):
        limit = HEADER_MAX if name.endswith(".h") else FILE_MAX
        n = tree.text(name).count("\n")
        if n > limit:
            bad.append(f"{name}: {n} lines of {limit}")
    tree.check(bad, "files too long: split them by what they hold")


def functions(name):
    """(name, first line, lines, text above) of each function defined."""
    source = DIRECTIVE.sub(lambda m: "\n" * m.group(0).count("\n"),
                           tree.code(name))
    for m in BODY.finditer(source):
        head = source[:m.start()].rstrip()
        found = NAME.search(head[-1500:])
        if found:
            line = tree.line_of(source, m.start())
            above = "\n".join(tree.text(name).split("\n")
                              [max(0, line - 16):line])
            yield found.group(1), line, m.group(0).count("\n") + 1, above


def test_functions_are_short():
    bad = []
    for name in tree.matching(".c", ".h"):
        for function, line, lines, above in functions(name):
            if lines > FUNCTION_MAX and FLAT not in above:
                bad.append(f"{name}:{line}: {function}(): {lines} lines of "
                           f"{FUNCTION_MAX}")
    tree.check(bad, "functions too long: divide them by what they do")


def test_functions_are_found():
    assert "arena_alloc" in {f[0] for f in functions("src/base/arena.c")}


def test_return_type_on_its_own_line():
    """So that grep -n '^session_enter' finds the definition."""
    bad = []
    for name in tree.c_files():
        lines = tree.code(name).split("\n")
        for function, line, _, _ in functions(name):
            near = lines[max(0, line - 14):line]
            if not any(x.startswith(function + "(") for x in near):
                bad.append(f"{name}:{line}: {function}")
    tree.check(bad, "name of the function not at the start of a line")


def licensed():
    for name in tree.files():
        if name.startswith("LICENSES/") or "/corpus/" in name:
            continue
        if name.endswith((".c", ".h", ".py", ".sql", ".sh", "meson.build",
                          ".js", ".ts")) or name == "Makefile" \
                or tree.text(name).startswith("#!"):
            yield name


def test_license_line():
    bad = [n for n in licensed()
           if not any("SPDX-License-Identifier: GPL-3.0-or-later" in line
                      for line in tree.text(n).split("\n", 3)[:3])]
    tree.check(bad, "no SPDX-License-Identifier in the first lines")


def test_headers_say_what_they_hold():
    bad = []
    for name in tree.matching(".h"):
        m = re.match(r"/\* SPDX[^\n]*\*/\s*/\*(.*?)\*/", tree.text(name), re.S)
        if not m or len(" ".join(m.group(1).split())) < 80:
            bad.append(name)
    tree.check(bad, "headers without an opening comment that says what the "
               "module holds, who owns what, and which process runs it")


def test_include_guards():
    bad = []
    for name in tree.matching(".h", under="src/"):
        guard = re.sub(r"\W", "_", name[len("src/"):]).upper()
        if f"#ifndef {guard}\n#define {guard}\n" not in tree.text(name):
            bad.append(f"{name}: {guard}")
    tree.check(bad, "include guards that don't follow the path")


def test_nothing_left_to_do():
    word = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    bad = [f"{n}:{tree.line_of(tree.text(n), m.start())}"
           for n in tree.files() if not n.startswith("LICENSE")
           for m in word.finditer(tree.text(n))]
    tree.check(bad, "unfinished business: finish it, or open an issue")


def test_no_paths_or_hosts_of_one_machine():
    word = re.compile(r"/wor" + r"k/(main|shared|\.library)|/tmp/tea" + r"m/|"
                      r"\b(deb\.debian\.or" + r"g|snapshot\.debian)")
    bad = [f"{n}:{tree.line_of(tree.text(n), m.start())}: {m.group(0)}"
           for n in tree.files()
           if not n.startswith(("LICENSE", "tests/")) and "/corpus/" not in n
           for m in word.finditer(tree.text(n))]
    tree.check(bad, "a path or mirror that only one machine has")


def test_migrations_are_numbered_in_turn():
    """Two branches may have taken the same number; no database can be made
    then."""
    found = [int(n[4:8]) for n in tree.files()
             if n.startswith("sql/") and n.endswith(".sql")]
    version = re.search(r"#define DB_SCHEMA_VERSION (\d+)",
                        tree.text("src/db/migrate.h"))[1]
    assert sorted(found) == list(range(1, int(version) + 1)), sorted(found)


def test_no_trailing_space():
    bad = [f"{n}:{tree.line_of(tree.text(n), m.start())}"
           for n in tree.files()
           if not n.startswith("LICENSE") and "/corpus/" not in n
           and not n.endswith((".png", ".der"))
           for m in re.finditer(r"[ \t]+$", tree.text(n), re.M)]
    tree.check(bad, "space at the end of lines")


def test_shell_scripts():
    names = [n for n in tree.files()
             if re.match(r"#!.*\b(ba)?sh\b", tree.text(n))]
    assert names
    out = subprocess.run(
        ["shellcheck", "-x", "-S", "warning", *names], cwd=tree.TOP,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False)
    assert out.returncode == 0, out.stdout


@pytest.mark.parametrize("name", tree.matching(".py"))
def test_python(name):
    ast.parse(tree.text(name), name)
    out = subprocess.run(["/usr/bin/python3", "-m", "pyflakes", name],
                         cwd=tree.TOP, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    assert out.returncode == 0, out.stdout
