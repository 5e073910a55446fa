# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the test suites and sums up what they say; called by tools/check.

Each suite reports in its own format (Meson: TAP subtests in JUnit XML and
one JSON object a test; pytest: JUnit XML); a suite that crashed, hung or said
nothing counts as a failure, so that silence is never success.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

PYTHON = "/usr/bin/python3"
BUILD = pathlib.Path("build")
LONG = bool(os.environ.get("QVD_LONG"))
JOBS = os.environ.get("QVD_CHECK_JOBS") or str(max(2, os.cpu_count() or 2))
# Per test; a hanging test fails, with the stacks of its threads.
TEST_TIMEOUT_S = 240
SUITE_TIMEOUT_S = 4 * 3600 if LONG else 2400


class Totals:
    def __init__(self):
        self.passed = 0
        self.failed = []   # names
        self.skipped = []  # (name, reason)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return (f"{self.passed} passed, {len(self.failed)} failed, "
                f"{len(self.skipped)} skipped")


def say(text):
    print(text, flush=True)


def run(args, **kwargs):
    """The exit status; a hang is ended with its whole process group."""
    child = subprocess.Popen(args, start_new_session=True, **kwargs)
    try:
        return child.wait(timeout=SUITE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        say(f"no end after {SUITE_TIMEOUT_S} s: {' '.join(args)}")
        os.killpg(child.pid, 9)
        child.wait()
        return -9
    except BaseException:
        os.killpg(child.pid, 15)
        raise


def read_junit(path, prefix):
    """Totals of a JUnit file; None if it is missing or broken."""
    totals = Totals()
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return None
    for case in root.iter("testcase"):
        where = case.get("classname") or ""
        name = f"{prefix}: {where}.{case.get('name')}".replace(": .", ": ")
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            totals.failed.append(name)
        elif skipped is not None:
            reason = skipped.get("message") or skipped.text or "no reason"
            totals.skipped.append((name, " ".join(reason.split())))
        else:
            totals.passed += 1
    return totals


def meson_tests(kind):
    """Unit tests and fuzzing corpus of build/<kind>."""
    logs = BUILD / kind / "meson-logs"
    junit, records = logs / "testlog.junit.xml", logs / "testlog.json"
    for old in (junit, records):
        old.unlink(missing_ok=True)
    env = dict(os.environ,
               ASAN_OPTIONS="abort_on_error=1:detect_stack_use_after_return=1",
               UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    run(["meson", "test", "-C", str(BUILD / kind), "--no-rebuild", "--quiet",
         "--print-errorlogs", "--timeout-multiplier", "4"], env=env)
    totals = read_junit(junit, kind) or Totals()
    said = {}
    if junit.exists():
        for suite in ET.parse(junit).getroot().iter("testsuite"):
            for case in suite.iter("testcase"):
                bad = case.find("failure") is not None or \
                    case.find("error") is not None
                for key in (suite.get("name"), case.get("name")):
                    said[key] = said.get(key, False) or bad
    if not records.exists():
        totals.failed.append(f"{kind}: meson test ran nothing")
        return totals
    for line in records.read_text().splitlines():
        test = json.loads(line)
        bad = test["result"] in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT",
                                 "UNEXPECTEDPASS") or \
            test.get("returncode") not in (0, 77, None)
        # A crash after the last subtest, or before the first.
        if bad and not any(v for k, v in said.items()
                           if k and test["name"].endswith(k)):
            totals.failed.append(f"{kind}: {test['name']} ({test['result']})")
    return totals


def pytest(name, where, *args, **env):
    xml = BUILD / "check" / f"{name}.xml"
    xml.parent.mkdir(parents=True, exist_ok=True)
    xml.unlink(missing_ok=True)
    status = run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "--tb=short", "--no-header", f"--junitxml={xml}",
         f"--timeout={TEST_TIMEOUT_S}", *args, where],
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", **env))
    totals = read_junit(xml, name)
    if totals is None:
        totals = Totals()
        totals.failed.append(f"{name}: pytest wrote no report "
                             f"(exit status {status})")
    elif status != 0 and not totals.failed:
        totals.failed.append(f"{name}: pytest ended with status {status}")
    return totals


def build(kind):
    say(f"building build/{kind}")
    status = run(["bash", "-c", f". tools/lib.sh && build_{kind}"])
    if status != 0:
        totals = Totals()
        totals.failed.append(f"build of build/{kind}")
        return totals
    return None


def style():
    return pytest("style", "tests/style")


def unit():
    totals = Totals()
    for kind in ("release", "asan"):
        totals.add(build(kind) or meson_tests(kind))
    return totals


def system_tests(kind):
    if not any(pathlib.Path("tests/system").glob("test_*.py")):
        totals = Totals()
        totals.failed.append("no system tests in tests/system")
        return totals
    # Tests that need the machine for themselves come after, alone.
    select = "" if LONG else " and not long" + (
        " and not once" if kind == "asan" else "")
    name = f"system-{kind}"
    totals = pytest(name, "tests/system", "-n", JOBS, "--dist", "loadfile",
                    "-m", f"not alone{select}", QVD_BUILD=kind)
    alone = subprocess.run(
        ["grep", "-rlE", r"mark\.alone", "tests/system"], check=False,
        stdout=subprocess.DEVNULL).returncode == 0
    if alone:
        totals.add(pytest(name + "-alone", "tests/system", "-m",
                          f"alone{select}", QVD_BUILD=kind))
    return totals


def system():
    return build("release") or system_tests("release")


def asan():
    """The same with the sanitized programs."""
    return build("asan") or system_tests("asan")


STEPS = {"style": style, "unit": unit, "system": system, "asan": asan}


def main(names):
    for name in names:
        if name not in STEPS:
            sys.exit(f"check: no step '{name}'; steps are {' '.join(STEPS)}")
    names = names or list(STEPS)
    images = None
    if "system" in names or "asan" in names:
        # Takes a minute of one core: meanwhile the rest is built.
        log = open_log("image.log")
        images = subprocess.Popen(["images/build", "demo", "build/images"],
                                  stdout=log, stderr=log)
    totals = Totals()
    for name in names:
        start = time.monotonic()
        say(f"== {name}")
        if images and name in ("system", "asan"):
            if images.wait() != 0:
                say((BUILD / "check" / "image.log").read_text())
                totals.failed.append("image of the demonstration desktop")
            images = None
        step = STEPS[name]()
        say(f"-- {name}: {step} ({time.monotonic() - start:.0f} s)")
        totals.add(step)
    if images:
        images.wait()
    report(totals)
    return 0 if totals.passed and not totals.failed else 1


def open_log(name):
    path = BUILD / "check" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


def report(totals):
    for name, reason in totals.skipped:
        say(f"skipped: {name}: {reason}")
    for name in totals.failed:
        say(f"FAILED: {re.sub(chr(10), ' ', name)}")
    if not totals.passed and not totals.failed:
        say("nothing ran")
    say(str(totals))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
