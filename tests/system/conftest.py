# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the system tests; what they give is in qvdlab.

farm            an empty farm, for this test alone
busybox_farm    the same with the image `busybox` as OSF `busybox`, and alice
desktop         one farm a module with the demonstration desktop: OSF `demo`,
                user alice (password "secret"), her VM; .vm is its id
screen          a Display in the farm of the test

Markers: long (only with QVD_LONG=1), once (the same of the sanitized build),
alone (needs the machine for itself).
"""

import os

import signal

import pytest
from qvdlab import Display, Farm, leaks, need
from qvdlab.farm import BASE

FARMS = []


def pytest_configure(config):
    # A shell's background job ignores ^C, and what it starts inherits that:
    # clients under test must hear it. The workers inherit it from here; their
    # own configuration doesn't always run in the main thread, which alone may
    # say so.
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "long: only in check-long")
    config.addinivalue_line(
        "markers", "once: sanitized only in check-long")
    config.addinivalue_line("markers", "alone: not beside other tests")
    if not hasattr(config, "workerinput") and os.getuid() == 0:
        leaks.sweep(BASE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails shows the end of its farms' logs."""
    report = (yield).get_result()
    if report.failed:
        for farm in FARMS:
            report.sections.append((f"log of {farm.id}", farm.tail(80)))


def _farm(**options):
    need("root", "containers",
         *(f"image {name}" for name in options.get("images", ())))
    farm = Farm(**options)
    FARMS.append(farm)
    try:
        with farm:
            yield farm
    finally:
        FARMS.remove(farm)


@pytest.fixture
def farm():
    yield from _farm()


@pytest.fixture
def busybox_farm():
    for farm in _farm(images=["busybox"]):
        farm.add_user("alice", "secret")
        yield farm


@pytest.fixture(scope="module")
def desktop():
    for farm in _farm(images=["demo"]):
        farm.add_user("alice", "secret")
        farm.vm = farm.add_vm("alice", "demo")
        yield farm


@pytest.fixture
def screen(request):
    names = ("desktop", "busybox_farm", "farm")
    farm = next((request.getfixturevalue(n) for n in names
                 if n in request.fixturenames), None)
    with Display(farm) as display:
        yield display
